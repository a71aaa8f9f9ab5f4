"""Named configurations of :class:`~monai_iste.networks.ISTE`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from monai_iste.errors import ConfigError
from monai_iste.networks.encoders import EDSREncoder, SwinIREncoder
from monai_iste.networks.iste import ISTE

__all__ = ["PRESETS", "Preset", "create_iste"]


class Preset(NamedTuple):
    """A configuration under a name: one line about it, and the arguments of ISTE (the encoder as a factory)."""

    summary: str
    encoder: Callable[[], EDSREncoder | SwinIREncoder]
    arguments: dict[str, Any]


PRESETS = {
    "iste": Preset("the paper's network: SwinIR encoder, 256-wide branches, 12.7 M parameters", SwinIREncoder, {}),
    "iste_small": Preset(
        "the paper's branches on the lightweight SwinIR encoder, 2 M parameters",
        lambda: SwinIREncoder(dim=60, depths=(6, 6, 6, 6)),
        {},
    ),
    "iste_light": Preset(
        "a CPU trains it in minutes: 8 residual blocks of 48 channels, 64-wide branches, learns the difference to "
        "bicubic (a departure from the paper), 0.5 M parameters",
        lambda: EDSREncoder(48, 8),
        {"texture_channels": 64, "hidden_channels": 64, "hidden_layers": 2, "bicubic_residual": True},
    ),
}


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
    _, encoder, arguments = PRESETS[preset]
    return ISTE(**{"encoder": encoder(), **arguments, **changes})
