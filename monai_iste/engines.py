"""Batch preparation for MONAI's Ignite engines: the arguments of the network for training and evaluation."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch, PrepareBatchExtraInput, default_prepare_batch


class PrepareQueries(PrepareBatchExtraInput):
    """Prepare training batches: call ``network(image, coord=..., cell=...)``; the label holds the colors at ``coord``.

    Shape:
        image: (B, 3, h, w); coord: (B, Q, 2); cell: (B, 2); label: (B, Q, 3)
    """

    def __init__(self) -> None:
        super().__init__({"coord": "coord", "cell": "cell"})


class PrepareGrids(PrepareBatchExtraInput):
    """Prepare training batches for :class:`~monai_iste.inferers.GridInferer`: one grid of rows and columns per image.

    Shape:
        image: (B, 3, h, w); rows: (B, R); columns: (B, S); cell: (B, 2); label: (B, R * S, 3)
    """

    def __init__(self) -> None:
        super().__init__({"rows": "rows", "columns": "columns", "cell": "cell"})


class PrepareWholeImage(PrepareBatch):
    """Prepare evaluation and inference batches: call ``network(image, scale=...)``.

    The label is the whole image at high resolution, or None without ground truth.

    Shape:
        image: (B, 3, h, w); label: (B, 3, H, W)
    """

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, float]]:
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return image, label, (), {"scale": float(batchdata["scale"][0])}
