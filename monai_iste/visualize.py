"""Figures for visual comparison: input, bicubic, network, ground truth and their errors, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_ERROR_RANGE = 0.15  # mean absolute error that is drawn white

_MARGIN = 6


def error_map(image: Tensor, truth: Tensor) -> Tensor:
    """Color the mean absolute error over channels from black over red and yellow to white.

    Shape:
        image, truth: (3, H, W) in [0, 1]; returns (3, H, W) in [0, 1]
    """
    error = (image - truth).abs().mean(0) / _ERROR_RANGE
    return torch.stack([(3 * error - i).clamp(0, 1) for i in range(3)])


def comparison(rows: Sequence[Mapping[str, Any]], window: int = 112, zoom: int = 2) -> Image.Image:
    """Draw one row of panels per item: input, bicubic, ISTE, truth, error of bicubic, error of ISTE.

    Args:
        rows: mappings with ``scale``, ``image`` (3, h, w) and ``bicubic``, ``pred``, ``label`` (3, H, W), in [0, 1];
            an optional ``name`` is the caption of the input instead of its scale.
        window: side of the shown part in pixels of the truth; it is placed where the truth has most detail.
        zoom: every pixel of the shown part is drawn as zoom x zoom.
    """
    side = window * zoom
    panel_rows = []
    for row in rows:
        label, scale = row["label"], float(row["scale"])
        top, left = most_detailed(label, window)
        part = {k: row[k][:, top : top + window, left : left + window] for k in ("bicubic", "pred", "label")}
        shown = tuple(round(v / scale) for v in (top, left, top + window, left + window))
        panels = {
            row.get("name", f"input x{row['scale']:g}"): row["image"][:, shown[0] : shown[2], shown[1] : shown[3]],
            f"bicubic {_psnr(part['bicubic'], part['label']):.2f} dB": part["bicubic"],
            f"ISTE {_psnr(part['pred'], part['label']):.2f} dB": part["pred"],
            "truth": part["label"],
            "error, bicubic": error_map(part["bicubic"], part["label"]),
            "error, ISTE": error_map(part["pred"], part["label"]),
        }
        panel_rows.append(
            {
                caption: to_picture(panel).resize((side, side), Image.Resampling.NEAREST)
                for caption, panel in panels.items()
            }
        )
    return contact_sheet(panel_rows)


def contact_sheet(rows: Sequence[Mapping[str, Image.Image]]) -> Image.Image:
    """Arrange panels of one size on white, each below its caption; ``rows`` holds one {caption: panel} per row."""
    width, height = next(iter(rows[0].values())).size
    letters = max(13, width // 11)
    caption_height = letters + 7
    cell_w, cell_h = width + _MARGIN, height + caption_height + _MARGIN
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * cell_w + _MARGIN, len(rows) * cell_h + _MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(letters)
    for i, row in enumerate(rows):
        for j, (caption, panel) in enumerate(row.items()):
            x, y = _MARGIN + j * cell_w, _MARGIN + i * cell_h
            draw.text((x, y), caption, fill="black", font=font)
            canvas.paste(panel, (x, y + caption_height))
    return canvas


def to_picture(image: Tensor) -> Image.Image:
    """Convert an image to 8-bit RGB, rounded.

    Shape:
        image: (3, H, W); values are clamped to [0, 1].
    """
    array = image.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array))


def most_detailed(image: Tensor, window: int) -> tuple[int, int]:
    """Find the top left corner of the window with the largest variance, on a grid of half windows.

    Shape:
        image: (C, H, W)

    Example:
        >>> image = torch.zeros(3, 8, 8)
        >>> image[:, 5:7, 1:3] = torch.eye(2)
        >>> most_detailed(image, 4)
        (4, 0)
    """
    h, w = image.shape[1:]
    tops = range(0, max(1, h - window + 1), max(1, window // 2))
    lefts = range(0, max(1, w - window + 1), max(1, window // 2))
    return max(
        ((t, x) for t in tops for x in lefts),
        key=lambda p: float(image[:, p[0] : p[0] + window, p[1] : p[1] + window].var()),
    )


def _psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10((image - truth).square().mean()))
