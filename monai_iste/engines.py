"""Parts of MONAI's Ignite engines: the arguments of the network for training and evaluation, and its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.engines import PrepareBatch, PrepareBatchExtraInput, default_prepare_batch
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_iste.errors import ConfigError
from monai_iste.networks.grid_sampling import takes_input_blur


class _PrepareWithBlur(PrepareBatchExtraInput):
    """Pass the blur of the images to the network where the batch has it."""

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...], dict[str, Any]]:
        image, label, args, queries = super().__call__(batchdata, device, non_blocking, **kwargs)
        return image, label, args, {**queries, **_input_blur(batchdata, device)}


def _input_blur(batchdata: dict[str, torch.Tensor], device: str | torch.device | None) -> dict[str, Tensor]:
    blur = batchdata.get("input_blur")
    return {} if blur is None else {"input_blur": torch.as_tensor(blur, dtype=torch.float32, device=device)}


class PrepareQueries(_PrepareWithBlur):
    """Prepare training batches: call ``network(image, coord=..., cell=...)``; the label holds the colors at ``coord``.

    ``input_blur`` is passed too where the batch has it.

    Shape:
        image: (B, 3, h, w); coord: (B, Q, 2); cell: (B, 2); input_blur: (B,); label: (B, Q, 3)
    """

    def __init__(self) -> None:
        super().__init__({"coord": "coord", "cell": "cell"})


class PrepareGrids(_PrepareWithBlur):
    """Prepare training batches for :class:`~monai_iste.inferers.GridInferer`: one grid of rows and columns per image.

    ``input_blur`` is passed too where the batch has it.

    Shape:
        image: (B, 3, h, w); rows: (B, R); columns: (B, S); cell: (B, 2); input_blur: (B,); label: (B, R * S, 3)
    """

    def __init__(self) -> None:
        super().__init__({"rows": "rows", "columns": "columns", "cell": "cell"})


class PrepareWholeImage(PrepareBatch):
    """Prepare evaluation and inference batches: call ``network(image, scale=...)``.

    The label is the whole image at high resolution, or None without ground truth.

    Args:
        tell_blur: pass ``input_blur`` too: the blur that the protocol applied. By default the network is scored without
            it, as it is used on images of unknown blur.
    Shape:
        image: (B, 3, h, w); label: (B, 3, H, W)
    Raises:
        ConfigError: the blur is to be told, and a batch has none.
    """

    def __init__(self, tell_blur: bool = False) -> None:
        self.tell_blur = tell_blur

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, Any]]:
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        told = _input_blur(batchdata, device) if self.tell_blur else {}
        if self.tell_blur and not told:
            remedy = "Let the preprocessing store it, as BlurDegradationd does, or add --tell_blur False."
            raise ConfigError("images of known blur, with the key input_blur", "images without it", remedy)
        return image, label, (), {"scale": float(batchdata["scale"][0]), **told}


class EncoderPrecision(Inferer):
    """Inferer that computes the encoder of a network in bfloat16, and everything else in float32.

    Weights, gradients of the weights and features stay float32; products of the encoder and of its gradients are
    rounded. The first and the last convolution of an encoder stay in float32 where it says so
    (:class:`~monai_iste.networks.layers.FullPrecisionConv2d`).

    Not in the paper. It is faster on processors and GPUs with instructions for bfloat16.

    A network that takes no ``input_blur`` is not told, whatever the batch has.

    Args:
        inferer: inferer that calls the network.
        precision: ``"fp32"`` leaves the encoder as it is; ``"bf16"``.
    Raises:
        ConfigError: the precision is unknown, or the network has no encoder.
    """

    def __init__(self, inferer: Inferer, precision: str = "bf16") -> None:
        super().__init__()
        if precision not in ("fp32", "bf16"):
            raise ConfigError("an encoder_precision of fp32 or bf16", repr(precision), "Choose one of these.")
        self.inferer, self.precision = inferer, precision

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if not takes_input_blur(network):
            kwargs.pop("input_blur", None)
        if self.precision == "fp32":
            return self.inferer(inputs, network, *args, **kwargs)
        with _encoder_in_bf16(getattr(network, "module", network)):  # module: within DistributedDataParallel
            return self.inferer(inputs, network, *args, **kwargs)


@contextmanager
def _encoder_in_bf16(network: nn.Module) -> Iterator[None]:
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ConfigError(
            "a network with an encoder for encoder_precision bf16", type(network).__name__, "Use fp32 for it."
        )

    def forward(image: Tensor, *input_blur: Tensor) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            features: Tensor = type(encoder).forward(encoder, image, *input_blur)
        return features.float()

    encoder.forward = forward  # on the object only: hides the method of its class until it is deleted
    try:
        yield
    finally:
        del encoder.forward
