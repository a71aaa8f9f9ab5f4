"""Networks that are ready to use: from a preset's name or a module to weights, device, mode and precision."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from monai_iste.errors import ConfigError, check_choice
from monai_iste.networks.checks import check_input_blur
from monai_iste.networks.grid_sampling import query_grid, takes_input_blur
from monai_iste.networks.iste import ISTE
from monai_iste.networks.presets import (
    BASELINES,
    DEFAULT_PRESET,
    PRESETS,
    create_network,
    create_network_like,
    learned_range,
    released_weights,
    require_weights,
)
from monai_iste.networks.weights import fill_network, read_weights


def resolve_network(
    model: nn.Module | str | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    weights: str | os.PathLike[str] | None = None,
    allow_untrained: bool = False,
    input_blur: float | None = None,
) -> nn.Module:
    """Return a network in evaluation mode, on its device, at its precision.

    A preset with its released weights is loaded once per device and shared by all callers.

    Args:
        model: network, or the name of a preset; default: ``iste_light2``.
        device: default: where a network is, or for a preset the GPU if there is one.
        precision: ``"fp32"``, or ``"bf16"``: products are computed in bfloat16.
        weights: file that is read instead of a preset's released weights.
        allow_untrained: return a preset with random weights where there are no others.
        input_blur: blur of the images, see :func:`load_network`; default: unknown, or that of a given network.
    Raises:
        ConfigError: unknown preset, device or precision, no weights for the preset, or a blur that it cannot be told.
        CheckpointError: the file is missing, damaged, or belongs to another network.

    Example:
        >>> network = nn.Conv2d(3, 3, 1)
        >>> resolve_network(network) is network, network.training
        (True, False)
    """
    if isinstance(model, nn.Module):
        model = (model if device is None else model.to(known_device(device))).eval()
        network = with_input_blur(model, input_blur)
    else:
        preset, device = model or DEFAULT_PRESET, device or default_device()
        if weights is None and not allow_untrained:
            network = with_input_blur(_load_released(preset, str(device)), input_blur)
        else:
            network = load_network(preset, weights, device, allow_untrained, input_blur)
    return at_precision(network, precision)


@lru_cache(maxsize=2)
def _load_released(preset: str, device: str) -> nn.Module:
    return load_network(preset, device=device)


def load_network(
    preset: str = DEFAULT_PRESET,
    weights: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    allow_untrained: bool = False,
    input_blur: float | None = None,
) -> nn.Module:
    """Load a preset with its weights, in evaluation mode (``monai_iste.load``).

    The options that the file states replace those of the preset: weights run as they were trained.

    Args:
        preset: a key of :data:`PRESETS` or :data:`BASELINES`.
        weights: file that is read instead of the released weights, ``.safetensors`` or ``.pt``.
        device: device of the network.
        allow_untrained: return random weights where there are no others; for trying things out.
        input_blur: blur of the images, as the sigma of a Gaussian in their pixels; default: unknown. With 0 the network
            takes soft images for views of soft tissue, and does not sharpen them.
    Raises:
        ConfigError: no such preset, no weights for it, no such device, or a blur it cannot be told.
        CheckpointError: the file is missing, damaged, or belongs to another network.

    Example:
        >>> load_network("iste_small", allow_untrained=True).training
        False
    """
    check_choice("a preset", preset, {**PRESETS, **BASELINES})
    check_input_blur(input_blur, takes_input_blur=True)
    path = weights
    if path is None and (released_weights(preset) or not allow_untrained):
        path = require_weights(preset)
    if path is None:
        network = create_network(preset)
    else:
        state = read_weights(os.fspath(path))
        network = fill_network(create_network_like(preset, state), state, os.fspath(path))
    learned = learned_range(preset, weights) if isinstance(network, ISTE) and network.takes_input_blur else None
    if learned is not None:
        cast(ISTE, network).learned_blur = learned.input_blur
    return with_input_blur(network.to(known_device(device)).eval(), input_blur)


def with_input_blur(network: nn.Module, input_blur: float | None) -> nn.Module:
    """Return a network that takes this blur for that of its images; None returns the network itself.

    Raises:
        ConfigError: the network cannot be told, or the blur is not a finite number of at least 0.
    """
    return network if input_blur is None else replace_input_blur(network, input_blur)


def replace_input_blur(network: nn.Module, input_blur: float | None) -> nn.Module:
    """Return a network that takes this blur for that of its images; with None one that knows none.

    Of a network that DistributedDataParallel wraps, the network inside is returned.

    Raises:
        ConfigError: the network cannot be told, or the blur is not a finite number of at least 0.
    """
    check_input_blur(input_blur, takes_input_blur(network))
    return cast(ISTE, getattr(network, "module", network)).with_input_blur(input_blur)


def check_learned_blur(preset: str, weights: str | os.PathLike[str] | None, input_blur: float | None) -> None:
    """Raise ConfigError if it is not a blur, or if released weights did not learn inputs of it."""
    learned = None if input_blur is None else learned_range(preset, weights)
    check_input_blur(input_blur, takes_input_blur=True, learned=None if learned is None else learned.input_blur)


def default_device() -> str:
    """Name the GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def known_device(device: torch.device | str) -> torch.device:
    """Return the device of that name.

    Raises:
        ConfigError: this machine has none.

    Example:
        >>> known_device("cpu")
        device(type='cpu')
    """
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:  # raised for misspelled names and absent devices
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("a device of this machine", f"{str(device)!r} ({reason})", "Use cpu.") from error


def at_precision(network: nn.Module, precision: str) -> nn.Module:
    """Return the network itself for ``"fp32"``, a wrapper that computes products in bfloat16 for ``"bf16"``.

    Raises:
        ConfigError: no such precision.
    """
    check_choice("a precision", precision, ("fp32", "bf16"))
    return network if precision == "fp32" else _HalfPrecision(network)


def emulates_bf16(device: torch.device | str) -> bool:
    """Return True if bfloat16 is slower than float32 there: on a processor without instructions for it."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _HalfPrecision(nn.Module):
    """Network under bfloat16 autocast.

    Autocast is entered inside the call: around a generator of bands it would leak to the consumer's code. Results with
    NaN or infinite values are computed again in full precision: bfloat16 has float32's range, but sums that cancel in
    one need not cancel in the other.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def takes_input_blur(self) -> bool:
        """True if the network can be told the blur of its images."""
        return takes_input_blur(self.network)

    def with_input_blur(self, input_blur: float | None) -> _HalfPrecision:
        """Return a wrapper of the network that is told, see :meth:`monai_iste.networks.ISTE.with_input_blur`."""
        return _HalfPrecision(replace_input_blur(self.network, input_blur)).train(self.training)

    def forward(self, image: Tensor, **queries: Any) -> Tensor:
        return self._in_half(partial(self.network, **queries), image)

    def forward_grid(
        self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor, input_blur: Tensor | None = None
    ) -> Tensor:
        """Compute the colors on a regular grid, see :func:`~monai_iste.networks.grid_sampling.query_grid`."""
        compute = partial(query_grid, self.network, input_blur=input_blur)
        return self._in_half(compute, image, rows, columns, cell)

    @staticmethod
    def _in_half(compute: Callable[..., Tensor], image: Tensor, *queries: Tensor) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            result = compute(image, *queries)
        return result if bool(result.isfinite().all()) else compute(image, *queries)
