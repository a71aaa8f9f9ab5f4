"""Reading of weights: safetensors, in one file or in shards, and the ``.pt`` files of MONAI's workflows.

Other pickled objects are never loaded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from monai_iste.errors import CheckpointError
from monai_iste.io.files import open_output, read_json

#: File name ending of the index that maps tensors to shards, as on model hubs.
INDEX = ".safetensors.index.json"

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | Path) -> Network:
    """Fill a network with the weights in a file; returns the network.

    Args:
        network: any module; every one of its tensors must be in the file, and no other.
        path: ``.safetensors``; ``.safetensors.index.json``, with its shards beside it; or ``.pt`` with a state
            dictionary, alone or under the key ``network``. Half precision is widened to the network's.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another network, or its values are not finite
            numbers of the network's kind; the network is left as it was.
    """
    state = read_weights(path)
    wrong = misfits(network, state)
    if wrong:
        raise CheckpointError(
            f"weights of {type(network).__name__} as configured in {path}",
            f"{len(wrong)} tensors that differ ({wrong[0]}, ...)",
            "Name the preset that they were trained with.",
        )
    unusable = next((reason for name in state if (reason := _unusable(name, state[name], network))), None)
    if unusable:
        raise CheckpointError(f"finite weights in {path}", unusable, "Train it again, or name another file.")
    network.load_state_dict(state)
    return network


def _unusable(name: str, value: Tensor, network: nn.Module) -> str:
    """Describe why a tensor cannot replace the network's of that name; empty if it can."""
    own = network.state_dict()[name]
    if own.is_floating_point() != value.is_floating_point() or own.is_complex() != value.is_complex():
        return f"{str(value.dtype).removeprefix('torch.')} numbers in {name}"
    if not value.is_floating_point():
        return ""
    return "" if bool(value.to(own.dtype).isfinite().all()) else f"NaN or infinity in {name}"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write state dictionaries as a ``.pt`` file, replacing an existing one; it appears only when complete.

    Raises:
        OutputError: it cannot be written.
    """
    content = io.BytesIO()  # torch.save on a full disk raises its own RuntimeError
    torch.save(state, content)
    with open_output(path, overwrite=True) as file:
        file.write(content.getbuffer())


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the state dictionary in a file, on the CPU; formats as for :func:`load_weights`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError("a file with weights", f"{path}, which {what}", "Train first, or name another.")
    try:
        state: dict[str, Any]
        if path.suffix in (".safetensors", ".json"):
            state = {k: v for file in files_of(path) for k, v in safetensors.torch.load_file(file).items()}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("network", state)
        return state
    except Exception as error:  # the readers raise various errors on damaged bytes
        raise CheckpointError(
            f"weights in {path}", f"a damaged or foreign file ({type(error).__name__})", "Copy or train it again."
        ) from error


def files_of(path: Path) -> list[Path]:
    """List the files that hold the tensors: the shards of an index, in the same folder, or the file itself.

    Example:
        >>> [file.name for file in files_of(Path("iste_light.safetensors"))]
        ['iste_light.safetensors']
    """
    if not path.name.endswith(INDEX):
        return [path]
    return [path.with_name(Path(name).name) for name in sorted(set(read_json(path)["weight_map"].values()))]


def misfits(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Name the tensors that only one of a network and a state dictionary has, or that differ in shape."""
    own = network.state_dict()
    state = state if isinstance(state, dict) else {}  # a foreign file may hold anything
    return sorted(
        str(k)
        for k in own.keys() | state.keys()
        if k not in own or k not in state or own[k].shape != getattr(state[k], "shape", None)
    )
