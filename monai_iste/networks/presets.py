"""Named configurations of :class:`~monai_iste.networks.ISTE`."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch

from monai_iste.errors import ConfigError
from monai_iste.networks.encoders import EDSREncoder, SwinIREncoder
from monai_iste.networks.iste import ISTE
from monai_iste.networks.weights import load_weights

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "create_iste", "load_network", "released_weights", "require_weights"]


class Preset(NamedTuple):
    """A configuration under a name: one line about it, the arguments of ISTE (the encoder as a factory), and the terms
    under which its released weights may be used."""

    summary: str
    encoder: Callable[[], EDSREncoder | SwinIREncoder]
    arguments: dict[str, Any]
    terms: str = "no weights released: train it first"


PRESETS = {
    "iste": Preset("the paper's network: SwinIR encoder, 256-wide branches, 12.7 M parameters", SwinIREncoder, {}),
    "iste_small": Preset(
        "the paper's branches on the lightweight SwinIR encoder, 2 M parameters",
        lambda: SwinIREncoder(dim=60, depths=(6, 6, 6, 6)),
        {},
    ),
    "iste_light": Preset(
        "for CPUs, which train it in minutes: 8 residual blocks of 48 channels, 32-wide branches, learns the "
        "difference to bicubic (a departure from the paper), 0.4 M parameters",
        lambda: EDSREncoder(48, 8),
        {
            "texture_channels": 32,
            "hidden_channels": 32,
            "hidden_layers": 2,
            "key_side": 16,
            "bicubic_residual": True,
        },
        "research only, non-commercial (trained on GlaS and MoNuSeg, CC BY-NC-SA 4.0); not for diagnosis",
    ),
}

#: What is used where nothing else is named: its weights are released.
DEFAULT_PRESET = "iste_light"


def create_iste(preset: str, **changes: Any) -> ISTE:
    """An ISTE network by the name of its preset, with random weights.

    Args:
        preset: a key of :data:`PRESETS`.
        changes: arguments of :class:`ISTE` that differ from the preset, such as ``use_lfi=False``.
    Raises:
        ConfigError: no preset of that name.

    Example:
        >>> sum(p.numel() for p in create_iste("iste_light").parameters()) < 1_000_000
        True
    """
    if preset not in PRESETS:
        raise ConfigError(f"a preset: {', '.join(PRESETS)}", repr(preset), "Choose one of these.")
    chosen = PRESETS[preset]
    return ISTE(**{"encoder": chosen.encoder(), **chosen.arguments, **changes})


def released_weights(preset: str) -> Path | None:
    """The file of weights that travels with the package for a preset, or None.

    Example:
        >>> released_weights("iste_huge") is None
        True
    """
    path = Path(str(resources.files("monai_iste") / "weights" / f"{preset}.safetensors"))
    return path if path.is_file() else None


def require_weights(preset: str) -> Path:
    """The file of :func:`released_weights`, or a refusal that names the presets which have one.

    Raises:
        ConfigError: none are released for this preset.
    """
    path = released_weights(preset)
    if path is None:
        having = ", ".join(name for name in PRESETS if released_weights(name)) or "none yet"
        raise ConfigError(
            f"a preset with released weights ({having})",
            f"{preset!r}, which has none",
            "Choose one of those, name a file (--weights, in a bundle --checkpoint), or try random weights "
            "(monai-iste --allow-untrained).",
        )
    return path


def load_network(
    preset: str = DEFAULT_PRESET,
    weights: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    allow_untrained: bool = False,
) -> ISTE:
    """A network that is ready to magnify: a preset with its weights, in evaluation mode (``monai_iste.load``).

    Args:
        preset: a key of :data:`PRESETS`.
        weights: file that is read instead of the released weights, ``.safetensors`` or ``.pt``.
        device: where the network goes.
        allow_untrained: return random weights where there are no others; for trying things out.
    Raises:
        ConfigError: no such preset, no weights for it, or no such device.
        CheckpointError: the file is missing, damaged, or belongs to another network.

    Example:
        >>> load_network("iste_small", allow_untrained=True).training
        False
    """
    network = create_iste(preset)
    if weights is not None:
        load_weights(network, os.fspath(weights))
    elif released_weights(preset) or not allow_untrained:
        load_weights(network, require_weights(preset))
    try:
        return network.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # what torch raises for a misspelt and for a missing device
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("a device of this machine", f"{str(device)!r} ({reason})", "Use cpu.") from error
