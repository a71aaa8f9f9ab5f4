"""Weights from files: safetensors, or the ``.pt`` files that MONAI's workflows write; nothing else is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from monai_iste.errors import CheckpointError

__all__ = ["load_weights", "misfits", "read_weights"]

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | Path) -> Network:
    """Fill a network with the weights in a file; returns the network.

    Args:
        network: any module; every one of its tensors must be in the file, and no other.
        path: ``.safetensors``, or ``.pt`` with a state dictionary, alone or under the key ``network``.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another network; the network is left as it was.
    """
    state = read_weights(path)
    wrong = misfits(network, state)
    if wrong:
        raise CheckpointError(
            f"weights of {type(network).__name__} as configured in {path}",
            f"{len(wrong)} tensors that differ ({wrong[0]}, ...)",
            "Name the preset that they were trained with.",
        )
    network.load_state_dict(state)
    return network


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dictionary in a file, on the CPU; see :func:`load_weights` for what is read and refused."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("a file with weights", f"{path}, which does not exist", "Train first, or name another.")
    try:
        state: dict[str, Any]
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("network", state)
        return state
    except Exception as error:  # whatever the readers raise on bytes that they do not understand
        raise CheckpointError(
            f"weights in {path}", f"a damaged or foreign file ({type(error).__name__})", "Copy or train it again."
        ) from error


def misfits(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """The names of the tensors that only one of a network and a state dictionary has, or that differ in shape."""
    own = network.state_dict()
    return sorted(
        k for k in own.keys() | state.keys() if k not in own or k not in state or own[k].shape != state[k].shape
    )
