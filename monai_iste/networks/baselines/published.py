"""Conversion of the weights that the authors of EDSR, SwinIR, LIIF and LTE published.

Files are recognized by the names of their tensors. Supported files and their sources:

* EDSR, baseline size: ``edsr_baseline_x2-1bc95232.pt`` and its like (sanghyun-son/EDSR-PyTorch);
* SwinIR for classical super-resolution: ``001_classicalSR_*_SwinIR-M_x2.pth`` and its like (JingyunLiang/SwinIR);
* LIIF and LTE on EDSR-baseline and SwinIR: ``edsr-baseline-liif.pth``, ``swinir-lte.pth`` and their like
  (yinboc/liif, jaewon-lee-b/lte).

Not supported, because no network here has that architecture: SwinIR for lightweight and for real-world
super-resolution and for denoising, EDSR at 256 channels, the RDN encoder, LTE+ (``lte-fast``).

EDSR and SwinIR count colors from the mean of DIV2K, EDSR in 8-bit levels; LIIF and LTE in [-1, 1], as we do. The
factors go into the weights, the mean into the buffer of :class:`PixelShuffleNetwork`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from monai_iste.errors import CheckpointError, ConfigError
from monai_iste.networks.baselines.edsr import EDSR
from monai_iste.networks.baselines.liif import LIIF
from monai_iste.networks.baselines.lte import LTE
from monai_iste.networks.baselines.swinir import SwinIR
from monai_iste.networks.encoders import EDSREncoder, SwinIREncoder
from monai_iste.networks.weights import misfits, read_weights

Network = TypeVar("Network", bound=nn.Module)

_State = dict[str, Tensor]

_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB in [0, 1]; SwinIR's files do not hold it

# Prefixes of names, in the published file and here; None: not needed.
_SWIN = r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\."

_ENCODERS: dict[str, list[tuple[str, str | None]]] = {
    "EDSR": [
        (r"(sub|add)_mean\.", None),
        (r"head\.0\.", "head."),
        (r"body\.(\d+)\.body\.([02])\.", r"body.\1.\2."),
        (r"body\.(\d+)\.(?=weight|bias)", r"body.\1."),
    ],
    "SwinIR": [
        (_SWIN + r"(attn_mask|attn\.relative_position_index)$", None),
        (_SWIN + r"attn\.relative_position_bias_table$", r"groups.\1.layers.\2.attention.bias"),
        (_SWIN + r"attn\.qkv\.", r"groups.\1.layers.\2.attention.qkv."),
        (_SWIN + r"attn\.proj\.", r"groups.\1.layers.\2.attention.out."),
        (_SWIN + r"mlp\.fc([12])\.", r"groups.\1.layers.\2.mlp.linear\3."),
        (_SWIN + r"norm([12])\.", r"groups.\1.layers.\2.norm\3."),
        (r"layers\.(\d+)\.conv\.(?=weight|bias)", r"groups.\1.conv."),
        (r"conv_first\.", "shallow."),
        (r"patch_embed\.norm\.", "norm_in."),
        (r"norm\.", "norm_out."),
        (r"conv_after_body\.(?=weight|bias)", "closing."),
        (r"conv_before_upsample\.0\.", "out.0."),
    ],
}

_HEADS = {"EDSR": ("tail.0.", "tail.1."), "SwinIR": ("upsample.", "conv_last.")}  # the stages, the last convolution


def load_published(network: Network, path: str | Path) -> Network:
    """Fill a network with the weights that its authors published; returns the network.

    The results equal those of the authors' program, to rounding, for images whose sides are multiples of SwinIR's
    window (it reflects the border of others, see :class:`SwinIREncoder`). :class:`ImplicitNetwork` states an exception.

    Args:
        network: an :class:`EDSR`, :class:`SwinIR`, :class:`LIIF` or :class:`LTE` of the published size, without
            ``bicubic_residual``; or an encoder, such as that of an ISTE network, which takes LIIF's or LTE's.
        path: the file as published, or its tensors by their published names as ``.safetensors``.
    Raises:
        ConfigError: nothing was published for such a network.
        CheckpointError: the file is missing, damaged, or for another network; the network is left as it was.

    Example:
        >>> load_published(LIIF(EDSREncoder(8, 1)), "edsr-baseline-liif.pth")
        Traceback (most recent call last):
        monai_iste.errors.CheckpointError: Expected a file with weights, got edsr-baseline-liif.pth, which does not \
exist. Train first, or name another.
    """
    convert = next((convert for kind, convert in _CONVERTERS.items() if isinstance(network, kind)), None)
    if convert is None:
        received = type(network).__name__
        raise ConfigError("an EDSR, SwinIR, LIIF, LTE or one of their encoders", received, "Train this network.")
    if getattr(network, "bicubic_residual", False):
        raise ConfigError("a network as its authors trained it", "bicubic_residual=True", "Build it without.")
    converted = convert(_tensors(path), path)
    wrong = misfits(network, converted)
    if wrong:
        raise CheckpointError(
            f"published weights of {type(network).__name__} as configured in {path}",
            f"{len(wrong)} tensors that differ ({wrong[0]}, ...)",
            f"Build it as its authors did: {_size(converted)}.",
        )
    network.load_state_dict(converted)
    return network


def _tensors(path: str | Path) -> _State:
    """Read the tensors of a file by their published names."""
    content: Any = read_weights(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):  # the configuration and the weights
        content = content["model"].get("sd") if content["model"].get("name") in ("liif", "lte") else None
    elif isinstance(content, dict):  # SwinIR
        content = content.get("params", content.get("params_ema", content))
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"published weights in {path}", "a file that holds something else", "Name another file.")
    return {str(name): tensor for name, tensor in content.items()}


def _expect(wanted: str, state: _State, path: str | Path) -> None:
    """Raise CheckpointError for a file of another architecture."""
    found = _architecture(state)
    if found != wanted:
        received = f"weights of {found}" if found else f"tensors of another network ({min(state)}, ...)"
        raise CheckpointError(f"published weights of {wanted} in {path}", received, f"Name a file for {wanted}.")


def _architecture(state: _State) -> str | None:
    """Name the architecture of tensors by names that no other has."""
    if "imnet.layers.0.weight" in state:
        return "LTE" if "coef.weight" in state else "LIIF"
    marks = {"SwinIR": "conv_first.weight", "EDSR": "head.0.weight"}
    return next((name for name, mark in marks.items() if mark in state), None)


def _renamed(state: _State, names: list[tuple[str, str | None]], path: str | Path) -> _State:
    """Rename tensors; one without a name here belongs to an unsupported network."""
    ours = {}
    for name, tensor in state.items():
        match, new = next(((m, new) for old, new in names if (m := re.match(old, name))), (None, None))
        if match is None:
            raise CheckpointError(
                f"a published network that has its counterpart here in {path}",
                f"one with {name}",
                "Take EDSR-baseline, SwinIR for classical super-resolution, or LIIF or LTE on one of them.",
            )
        if new is not None:
            ours[match.expand(new) + name[match.end() :]] = tensor
    return ours


def _under(prefix: str, state: _State) -> _State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _below(prefix: str, state: _State) -> _State:
    return {prefix + name: tensor for name, tensor in state.items()}


def _encoder(state: _State, path: str | Path) -> _State:
    """Convert EDSR or SwinIR up to the feature map."""
    kind = _architecture(state)
    if kind == "EDSR" and state["head.0.weight"].shape[0] == 256:
        raise CheckpointError(
            f"EDSR at its baseline size in {path}", "256 channels, which scale their residuals", "Take edsr_baseline."
        )
    return _renamed(state, _ENCODERS.get(kind or "", []), path)


def _encoder_inside(wanted: str, state: _State, path: str | Path) -> _State:
    """Convert the encoder of LIIF or LTE alone."""
    if _architecture(state) in _ENCODERS:
        raise CheckpointError(
            f"an encoder for colors in [-1, 1], as it is inside LIIF and LTE, in {path}",
            f"{_architecture(state)}, which subtracts a mean color from them",
            f"Load the file into {_architecture(state)}.",
        )
    state = _under("encoder.", state)
    if not state:
        raise CheckpointError(f"published weights of LIIF or LTE in {path}", "none of them", "Name another file.")
    _expect(wanted, state, path)
    return _encoder(state, path)


def _fixed_scale(wanted: str, state: _State, path: str | Path) -> _State:
    """Convert EDSR or SwinIR, an encoder and a head; their colors are from 0 to ``span``, less their mean."""
    _expect(wanted, state, path)
    if wanted == "SwinIR" and not {"conv_before_upsample.0.weight", "conv_last.weight"} <= state.keys():
        raise CheckpointError(
            f"SwinIR for classical super-resolution in {path}", "another kind of SwinIR", "Take 001_classicalSR_*.pth."
        )
    stages, last = (_under(prefix, state) for prefix in _HEADS[wanted])
    closing = f"head.{2 * sum(name.endswith('.weight') for name in stages)}."
    ours = {
        **_below("encoder.", _encoder({k: v for k, v in state.items() if not k.startswith(_HEADS[wanted])}, path)),
        **_below("head.", stages),
        **_below(closing, last),
    }
    mean = state.get("add_mean.bias", torch.tensor(_DIV2K_MEAN) * (255 if wanted == "EDSR" else 1))
    span = 255.0 if mean.max() > 1 else 1.0
    first = "encoder.head.weight" if wanted == "EDSR" else "encoder.shallow.weight"
    for name, factor in ((first, span / 2), (closing + "weight", 2 / span), (closing + "bias", 2 / span)):
        if name in ours:
            ours[name] = ours[name] * factor
    return {**ours, "mean": 2 * mean.reshape(-1, 1, 1) / span - 1}


def _implicit(wanted: str, state: _State, path: str | Path) -> _State:
    """Convert LIIF or LTE, an encoder and a decoder."""
    _expect(wanted, state, path)
    encoder = _below("encoder.", _encoder(_under("encoder.", state), path))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    layers = sorted({int(m[1]) for name in state if (m := re.match(r"imnet\.layers\.(\d+)\.", name))})
    names: list[tuple[str, str | None]] = [(rf"imnet\.layers\.{layers[-1]}\.", "color.")]
    if wanted == "LTE":
        names += [(r"coef\.", "amplitude."), (r"freq\.", "frequency."), (r"phase\.", "phase.")]
        names += [(rf"imnet\.layers\.{k}\.", f"mlp.{k}.") for k in layers[:-1]]
        return {**encoder, **_renamed(state, names, path)}
    first = state.pop("imnet.layers.0.weight")  # on 3x3 features, channel by channel, then the offset and the cell
    if first.ndim != 2 or first.shape[1] % 9 != 4:
        received = f"a first layer of shape {tuple(first.shape)}"
        raise CheckpointError(f"LIIF with unfolded features and cells in {path}", received, "Name another file.")
    names += [(r"imnet\.layers\.0\.", "feature_part."), *((rf"imnet\.layers\.{k}\.", f"mlp.{k - 1}.") for k in layers)]
    features = first[:, :-4].reshape(first.shape[0], -1, 3, 3)
    split = {"feature_part.weight": features, "coordinate_part.weight": first[:, -4:]}
    return {**encoder, **_renamed(state, names, path), **split}


def _size(ours: _State) -> str:
    """Describe the construction of a network with these tensors."""
    encoder = _under("encoder.", ours) or ours
    if "shallow.weight" in encoder:
        layers = [name.split(".")[1] for name in encoder if name.endswith(".norm1.weight")]
        depths = tuple(layers.count(group) for group in dict.fromkeys(layers))
        heads = next((bias.shape[-1] for name, bias in encoder.items() if name.endswith("attention.bias")), 0)
        size = f"an encoder like SwinIREncoder(dim={encoder['shallow.weight'].shape[0]}, {depths=}, {heads=})"
    elif "head.weight" in encoder:
        blocks = sum(name.endswith(".0.weight") for name in encoder)
        size = f"an encoder like EDSREncoder({encoder['head.weight'].shape[0]}, {blocks})"
    else:
        return "with an encoder, which the file lacks"
    if "mean" not in ours:
        return size
    shapes = [tensor.shape for name, tensor in ours.items() if name.startswith("head.") and tensor.ndim == 4]
    return f"scale={round(math.prod(max(1, shape[0] / shape[1]) for shape in shapes) ** 0.5)}, {size}"


_CONVERTERS: dict[type[nn.Module], Callable[[_State, str | Path], _State]] = {
    EDSR: partial(_fixed_scale, "EDSR"),
    SwinIR: partial(_fixed_scale, "SwinIR"),
    LIIF: partial(_implicit, "LIIF"),
    LTE: partial(_implicit, "LTE"),
    EDSREncoder: partial(_encoder_inside, "EDSR"),
    SwinIREncoder: partial(_encoder_inside, "SwinIR"),
}
