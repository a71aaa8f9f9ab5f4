"""Named configurations of :class:`~monai_iste.networks.ISTE` and of the networks it is compared with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn

from monai_iste import DEFAULT_PRESET as DEFAULT_PRESET
from monai_iste.errors import CheckpointError, ConfigError, check_choice
from monai_iste.io.files import verify_checksum
from monai_iste.networks.baselines import EDSR, LIIF, LTE, Bicubic, LiUNetGAN, SWDNet, SwinIR
from monai_iste.networks.checks import check_input_blur
from monai_iste.networks.encoders import BlurConditionedEncoder, EDSREncoder, SwinIREncoder
from monai_iste.networks.iste import ISTE
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.networks.options import differing_options, stated_options
from monai_iste.networks.weights import INDEX, files_of, hold_same_tensors


class Preset(NamedTuple):
    """Named configuration of a network.

    Attributes:
        summary: one line about it.
        encoder: factory of the encoder, where there is one to choose.
        arguments: other arguments of the network.
        terms: license terms of the released weights.
        network: class of the network.
        learned: range of the inputs that the released weights were trained on.
        is_packaged: whether released weights belong to the package. Others, for research only, are in a clone alone.
    """

    summary: str
    encoder: Callable[[], nn.Module] | None
    arguments: dict[str, Any]
    terms: str = "no weights released: train it first"
    network: Callable[..., nn.Module] = ISTE
    learned: LearnedRange | None = None
    is_packaged: bool = True

    def create(self, **changes: Any) -> nn.Module:
        """Create the network with random weights; ``changes`` are arguments that differ from the preset."""
        if self.encoder is not None and "encoder" not in changes:
            changes = {**changes, "encoder": self.encoder()}
        return self.network(**{**self.arguments, **changes})


def _small() -> SwinIREncoder:
    return SwinIREncoder(dim=60, depths=(6, 6, 6, 6))


def _light() -> EDSREncoder:
    return EDSREncoder(48, 8)


def _light2() -> BlurConditionedEncoder:
    return BlurConditionedEncoder(64, 10)


#: Presets of ISTE by name: the paper's network and three smaller ones.
PRESETS = {
    "iste": Preset("the paper's network: SwinIR encoder, 256-wide branches, 12.7 M parameters", SwinIREncoder, {}),
    "iste_small": Preset(
        "the paper's branches on the lightweight SwinIR encoder, 2 M parameters",
        _small,
        {},
    ),
    "iste_light": Preset(
        "for CPUs, which train it in minutes: 8 residual blocks of 48 channels, 32-wide branches, texture at four "
        "corners, learns the difference to bicubic (a departure from the paper), 0.4 M parameters",
        _light,
        {
            "texture_channels": 32,
            "hidden_channels": 32,
            "hidden_layers": 2,
            "texture_corners": "four",
            "key_side": 16,
            "bicubic_residual": True,
        },
        "research only, non-commercial (trained on GlaS and MoNuSeg, CC BY-NC-SA 4.0); not for diagnosis",
        learned=LearnedRange(mpp=(0.25, 5.0), sharpness=(0.011, 0.32), blockiness=1.35),
        is_packaged=False,
    ),
    "iste_light2": Preset(
        "for CPUs, second generation: 10 residual blocks of 64 channels, which may be told the blur of the "
        "image, corners blended before decoding (two more departures), the rest as iste_light, 0.9 M parameters",
        _light2,
        {
            "texture_channels": 16,
            "hidden_channels": 32,
            "hidden_layers": 2,
            "texture_corners": "four",
            "training_keys": "lattice",
            "key_side": 16,
            "blend": "features",
            "bicubic_residual": True,
        },
        "Apache-2.0, learned from the Histopathology Atlas (MIT, (c) 2022 Pathology Atlas; CC BY 4.0, Balci S.); "
        "not for diagnosis",
        learned=LearnedRange(mpp=(0.25, 5.0), sharpness=(0.0027, 0.53), blockiness=1.43, input_blur=(0.0, 0.55)),
    ),
}


def _baseline(summary: str, network: Callable[..., nn.Module], encoder: Any = None, **arguments: Any) -> Preset:
    return Preset(summary, encoder, arguments, network=network)


#: Rows of the paper's Table I beside ISTE. ``_small`` and ``_light`` have the encoder and the residual of the ISTE
#: preset of that size, or as many parameters; fixed-scale networks are built for ``scale=2`` by default.
BASELINES = {
    "bicubic": _baseline("bicubic interpolation, no parameters", Bicubic),
    "liif": _baseline("LIIF on the SwinIR encoder", LIIF, SwinIREncoder),
    "liif_small": _baseline("LIIF on the lightweight SwinIR encoder", LIIF, _small),
    "liif_light": _baseline(
        "LIIF on the encoder of iste_light", LIIF, _light, hidden_channels=32, bicubic_residual=True
    ),
    "lte": _baseline("LTE on the SwinIR encoder", LTE, SwinIREncoder),
    "lte_small": _baseline("LTE on the lightweight SwinIR encoder", LTE, _small),
    "lte_light": _baseline("LTE on the encoder of iste_light", LTE, _light, hidden_channels=32, bicubic_residual=True),
    "edsr": _baseline("EDSR, baseline size", EDSR),
    "edsr_small": _baseline(
        "EDSR, 8 residual blocks of 48 channels", EDSR, out_channels=48, num_blocks=8, bicubic_residual=True
    ),
    "li_unet_gan": _baseline("U-Net of Li et al., trained against a discriminator", LiUNetGAN),
    "li_unet_gan_small": _baseline(
        "the same, a quarter as wide", LiUNetGAN, channels=(16, 32, 64, 128), bicubic_residual=True
    ),
    "swd_net": _baseline("SWD-Net, spatial and wavelet stage", SWDNet),
    "swd_net_small": _baseline(
        "the same, a third as wide and half as deep",
        SWDNet,
        shallow_channels=32,
        channels=16,
        blocks=2,
        wavelet_channels=6,
        bicubic_residual=True,
    ),
    "swinir": _baseline("SwinIR, classical size", SwinIR),
    "swinir_small": _baseline("SwinIR, lightweight size", SwinIR, dim=60, depths=(6, 6, 6, 6), bicubic_residual=True),
}


def create_iste(preset: str, **changes: Any) -> ISTE:
    """Create an ISTE network by the name of its preset, with random weights.

    Args:
        preset: a key of :data:`PRESETS`.
        changes: arguments of :class:`ISTE` that differ from the preset, such as ``use_lfi=False``.
    Raises:
        ConfigError: no preset of that name.

    Example:
        >>> sum(p.numel() for p in create_iste("iste_light").parameters()) < 1_000_000
        True
    """
    check_choice("a preset", preset, PRESETS)
    return cast(ISTE, PRESETS[preset].create(**changes))


def create_network(preset: str, input_blur: float | None = None, **changes: Any) -> nn.Module:
    """Create a network by the name of its preset, with random weights: ISTE, or one it is compared with.

    Args:
        preset: a key of :data:`PRESETS` or :data:`BASELINES`.
        input_blur: blur of the images, see :class:`ISTE`; None: unknown, for any network.
        changes: arguments of the network that differ from the preset, such as ``scale=3``.
    Raises:
        ConfigError: no preset of that name, or a blur that it cannot be told.

    Example:
        >>> create_network("edsr_small", scale=3).scale
        3
    """
    known = {**PRESETS, **BASELINES}
    check_choice("a preset", preset, known)
    network = known[preset].create(**changes)
    check_input_blur(input_blur, bool(getattr(network, "takes_input_blur", False)))
    return network if input_blur is None else cast(ISTE, network).with_input_blur(input_blur)


def create_network_like(preset: str, state: Mapping[str, Any], **changes: Any) -> nn.Module:
    """Create a network by the name of its preset, with the options that a state dictionary states.

    Args:
        preset: a key of :data:`PRESETS` or :data:`BASELINES`.
        state: of :func:`~monai_iste.networks.weights.read_weights`.
        changes: arguments that differ from the preset, whatever the state dictionary states.
    Raises:
        ConfigError: no preset of that name.
        CheckpointError: the stated options are none that the network can have.

    Example:
        >>> state = create_network("iste_light", texture_corners="nearest").state_dict()
        >>> create_network_like("iste_light", state).texture_corners
        'nearest'
    """
    network = create_network(preset, **changes)
    known = getattr(network, "option_names", ())
    different = differing_options(network, stated_options(state))
    stated = {name: value for name, value in different.items() if name in known and name not in changes}
    try:
        return create_network(preset, **stated, **changes) if stated else network
    except (TypeError, ValueError) as error:  # of a damaged or foreign file
        theirs = ", ".join(f"{name}={value!r}" for name, value in stated.items())
        raise CheckpointError(
            f"weights whose options {preset} can have", theirs[:200], "Copy or train them again."
        ) from error


def released_weights(preset: str) -> Path | None:
    """Return the released weights of a preset, or None: one file, or the index of its shards.

    They are part of the package, or, for research only, of the bundle in a clone (:attr:`Preset.is_packaged`).

    Raises:
        CheckpointError: the file differs from the released one, by its SHA-256.

    Example:
        >>> released_weights("iste_huge") is None
        True
    """
    package = Path(str(resources.files("monai_iste")))
    for folder in (package / "weights", package.parent / "bundles" / "iste" / "models"):
        for path in (folder / f"{preset}{ending}" for ending in (".safetensors", INDEX)):
            if path.is_file():
                for shard in files_of(verify_checksum(path)):
                    verify_checksum(shard)
                return path
    return None


def learned_range(preset: str, weights: str | os.PathLike[str] | None = None) -> LearnedRange | None:
    """Return the range of inputs that weights were trained on: known for released ones, None for a user's own.

    Args:
        weights: file of the weights; default: the released ones. A copy of these in another format, such as the
            bundle's ``model.pt``, counts as released.

    Example:
        >>> learned_range("iste_light", "own.safetensors") is None
        True
    """
    released = released_weights(preset)
    if released is None or preset not in PRESETS:
        return None
    own = weights is not None and not hold_same_tensors(Path(weights), released)
    return None if own else PRESETS[preset].learned


def require_weights(preset: str) -> Path:
    """Return the file of :func:`released_weights`.

    Raises:
        ConfigError: there are none here; the message names the presets that have some.
    """
    path = released_weights(preset)
    if path is None:
        having = ", ".join(name for name in PRESETS if released_weights(name)) or "none yet"
        is_in_clone = preset in PRESETS and not PRESETS[preset].is_packaged
        raise ConfigError(
            f"a preset with released weights ({having})",
            f"{preset!r}, {'whose weights are in a clone of the repository only' if is_in_clone else 'which has none'}",
            "Choose one of those, name a file (--weights, in a bundle --checkpoint), or try random weights "
            "(monai-iste --allow-untrained).",
        )
    return path
