"""Reading of weights: safetensors, in one file or in shards, and the ``.pt`` files of MONAI's workflows.

Other pickled objects are never loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from monai_iste.errors import CheckpointError
from monai_iste.io.files import open_output
from monai_iste.io.json_files import read_json
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.encoders import BlurConditionedEncoder, EDSREncoder
from monai_iste.networks.options import OPTIONS_KEY, check_options, state_options, stated_options

#: File name ending of the index that maps tensors to shards, as on model hubs.
INDEX = ".safetensors.index.json"

#: The one entry of the metadata of a safetensors file: JSON. Several entries would be written in random order.
_ABOUT = "monai_iste"

_ENCODER = "encoder."

Network = TypeVar("Network", bound=nn.Module)


def load_weights(network: Network, path: str | Path, may_differ: Collection[str] = ()) -> Network:
    """Fill a network with the weights in a file; returns the network.

    Files state the options of their network that no tensor shows (:mod:`monai_iste.networks.options`), and a network
    with other options is refused. Files that state none are loaded: those of earlier versions and of other programs.

    Args:
        network: any module; every one of its tensors must be in the file, and no other.
        path: ``.safetensors``; ``.safetensors.index.json``, with its shards beside it; or ``.pt`` with a state
            dictionary, alone or under the key ``network``. Half precision is widened to the network's.
        may_differ: names of options that differ on purpose, for measurements of their effect.
    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another network or to one with other options, or
            its values are not finite numbers of the network's kind; the network is left as it was.
    """
    return fill_network(network, read_weights(path), path, may_differ)


def fill_network(
    network: Network, state: dict[str, Tensor], path: str | Path, may_differ: Collection[str] = ()
) -> Network:
    """Fill a network with the result of :func:`read_weights` for ``path``; see :func:`load_weights`."""
    wrong = misfits(network, state)
    if wrong:
        _check_encoder(network, state, wrong, path)
        raise CheckpointError(
            f"weights of {type(network).__name__} as configured in {path}",
            f"{len(wrong)} tensors that differ ({wrong[0]}, ...)",
            "Name the preset that they were trained with; in monai.bundle.load: net_override={'preset': ...}.",
        )
    check_options(network, stated_options(state), str(path), may_differ)
    unusable = next((reason for name in state if (reason := _unusable(name, state[name], network))), None)
    if unusable:
        raise CheckpointError(f"finite weights in {path}", unusable, "Train it again, or name another file.")
    network.load_state_dict(dict(state))  # without the options, which are checked
    return network


def _check_encoder(network: nn.Module, state: dict[str, Tensor], wrong: list[str], path: str | Path) -> None:
    """Raise CheckpointError if nothing is wrong but that the encoder in the file cannot be told a blur.

    ``iste_light2`` could not at first.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, BlurConditionedEncoder) or not all(name.startswith(_ENCODER) for name in wrong):
        return
    theirs = {name.removeprefix(_ENCODER): tensor for name, tensor in state.items() if name.startswith(_ENCODER)}
    if not misfits(EDSREncoder(encoder.out_channels, encoder.num_blocks), theirs):
        remedy = (
            "Use the weights that are released now, or train yours again from these. To compare, load yours in Python "
            f"into create_iste(preset, encoder=EDSREncoder({encoder.out_channels}, {encoder.num_blocks}))."
        )
        raise CheckpointError(
            f"weights of a network that can be told the blur of its input in {path}",
            "those of one that cannot, as iste_light2 was before",
            remedy,
        )


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

    It states the options that the file states, see :func:`monai_iste.networks.options.stated_options`.

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
            state = OrderedDict()
            for file in files_of(path):
                state.update(safetensors.torch.load_file(file))
                state_options(state, _options_in(file))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("network", state)
        return state
    except Exception as error:  # the readers raise various errors on damaged bytes
        raise CheckpointError(
            f"weights in {path}", f"a damaged or foreign file ({type(error).__name__})", "Copy or train it again."
        ) from error


def hold_same_tensors(path: Path, other: Path) -> bool:
    """Return True if two files hold the same weights; False if one of them cannot be read."""
    if path.resolve() == other.resolve():
        return True
    try:
        found, expected = read_weights(path), read_weights(other)
    except CheckpointError:
        return False
    return found.keys() == expected.keys() and all(
        isinstance(tensor, Tensor) and torch.equal(tensor, expected[name]) for name, tensor in found.items()
    )


def safetensors_bytes(state: Mapping[str, Tensor], options: Mapping[str, Any], **about: str) -> bytes:
    """Serialize tensors as safetensors; the same input gives the same bytes.

    Args:
        options: options of the network.
        about: further entries of the metadata.
    """
    metadata = {_ABOUT: json.dumps({**about, OPTIONS_KEY: options}, sort_keys=True)}
    return safetensors.torch.save(dict(state), metadata)


def _options_in(file: Path) -> dict[str, Any] | None:
    """Read the options that a safetensors file states; None if it states none."""
    with safetensors.safe_open(file, "pt") as opened:
        about = (opened.metadata() or {}).get(_ABOUT)
    options = None if about is None else json.loads(about)[OPTIONS_KEY]
    if options is not None and not isinstance(options, dict):
        raise ValueError("options that are no JSON object")
    return options


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


def network_digest(network: nn.Module) -> str:
    """Compute the digest of a network from its class, its tensors, and the options that change pixels.

    A wrapper, such as that of bfloat16, has the options of the network inside.
    """
    state = network.state_dict()
    inside = next((module for module in network.modules() if isinstance(module, UpscalingNetwork)), None)
    options = {} if inside is None else inside.pixel_options()
    found = hashlib.sha256(f"{type(network).__name__} {options}".encode())
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
