"""Figure 5: error maps of the methods, under one color scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from monai.metrics import PSNRMetric
from torch import Tensor, nn

from experiments.figures.drawing import draw_view, outline_effects
from experiments.figures.inputs import BICUBIC, ImageSource, Pair, as_pixels, format_scale, make_pair, reconstruct
from experiments.figures.style import ACCENT, ERRORS, GAP, PAGE, FigureGrid, style
from monai_iste.errors import ConfigError
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import inside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR = 0.55  # width of the color bar with its labels, in inches


class ScoredResult(NamedTuple):
    """Reconstruction and ground truth as the protocol compares them, with the PSNR in dB.

    Shape:
        image, truth: (3, H - 2 border, W - 2 border), in [0, 1]
    """

    image: Tensor
    truth: Tensor
    psnr: float


def score_methods(pair: Pair, methods: Mapping[str, nn.Module]) -> dict[str, ScoredResult]:
    """Reconstruct and score the pair with every method under its protocol, bicubic first.

    Args:
        pair: low-resolution image and ground truth.
        methods: networks in evaluation mode, by the names to print.
    """
    metric, results = PSNRMetric(1.0), {}
    for name, network in methods.items():
        pred = reconstruct(network, pair.low, pair.scale, pair.size)
        item: dict[str, Any] = {"image": pair.low, "label": pair.truth, "scale": pair.scale, "pred": pred}
        item = cast(dict[str, Any], pair.protocol.postprocessing()(item))
        for label, image in {BICUBIC: item["bicubic"], name: item["pred"]}.items():
            psnr = cast(Tensor, metric(image[None], item["label"][None]))
            results[label] = ScoredResult(image, item["label"], float(psnr))
    return results


def absolute_error(image: Tensor, truth: Tensor) -> Tensor:
    """Compute ``mean over RGB of |image - truth|`` in 8-bit levels.

    Shape:
        image, truth: (3, H, W) in [0, 1]; returns (H, W)
    """
    return (image - truth).abs().mean(0) * 255


def error_limit(errors: list[Tensor]) -> float:
    """Compute the upper end of the color scale: the 99.5 % quantile of all errors, rounded up to 5 levels."""
    pooled = torch.cat([error.flatten() for error in errors]).sort().values
    return max(5.0, 5 * math.ceil(float(pooled[math.ceil(0.995 * len(pooled)) - 1]) / 5))


def draw_error_maps(
    image: ImageSource,
    methods: Mapping[str, nn.Module],
    scale: float = 4.0,
    protocol: str = "iste-rgb",
    crop: Region | None = None,
    width: float = PAGE,
) -> Figure:
    """Draw reconstructions above their absolute errors; ground truth and low-resolution input are at the right.

    The PSNR under each map is that of the whole image under the protocol. All maps have one color scale, which ends at
    the 99.5 % quantile of the errors shown. An error is the mean over red, green and blue.

    Args:
        image: ground truth, a file or (3, H, W) uint8; it is reduced by ``scale`` first.
        methods: networks in evaluation mode, by the names to print; bicubic interpolation is added.
        scale: scale factor.
        protocol: key of :data:`monai_iste.metrics.PROTOCOLS` that compares RGB.
        crop: part to show, in pixels of the image; an overview of the whole image is then added.
        width: width of the figure in inches.
    Raises:
        ConfigError: the protocol does not exist or compares luma, or matplotlib is missing.
        ShapeError: the crop is outside the scored part.
    """
    pair = make_pair(image, scale, protocol)
    if pair.protocol.channels != "rgb":
        raise ConfigError("a protocol that compares RGB", repr(protocol), "Take iste-rgb or bicubic-rgb.")
    results = score_methods(pair, methods)
    with style():
        return _draw(pair, results, crop, width)


def _draw(pair: Pair, results: dict[str, ScoredResult], crop: Region | None, width: float) -> Figure:
    truth = next(iter(results.values())).truth
    field = int(truth.shape[1]), int(truth.shape[2])
    border = (pair.size[0] - field[0]) // 2
    whole = Region(0, 0, *field)
    view = whole if crop is None else inside(crop._replace(top=crop.top - border, left=crop.left - border), field)
    part = slice(view.top, view.top + view.height), slice(view.left, view.left + view.width)
    errors = {name: absolute_error(result.image, result.truth) for name, result in results.items()}
    limit = error_limit([error[part] for error in errors.values()])

    columns, aspect = len(results) + 1, view.height / view.width
    left = 0.0 if crop is None else _overview_width(field, columns, aspect, width)
    grid, (upper, lower) = FigureGrid.with_rows((aspect, aspect), columns, width, (1, 0), (0, 1), left, _BAR)
    for i, (name, result) in enumerate(results.items()):
        draw_view(upper[i], as_pixels(result.image), field, view)
        upper[i].set_title(name)
        draw_view(lower[i], errors[name].numpy(), field, view, cmap=ERRORS, vmin=0, vmax=limit)
        lower[i].set_xlabel(f"{result.psnr:.2f} dB")
    draw_view(upper[-1], as_pixels(truth), field, view)
    upper[-1].set_title("truth")
    # The input covers the whole image: shift the view by the border that is not scored.
    shifted = view._replace(top=view.top + border, left=view.left + border)
    draw_view(lower[-1], as_pixels(pair.low), pair.size, shifted)
    lower[-1].set_xlabel(f"LR input ({format_scale(pair.scale)})")
    clipped = any(float(error[part].max()) > limit for error in errors.values())
    label = "absolute error (8-bit levels)"
    grid.color_bar_beside(upper[-1], lower[-1], ERRORS, (0, limit), label, "max" if clipped else "neither")
    if crop is not None:
        _add_overview(grid, upper[0], lower[0], truth, view, left)
    return grid.finish()


def _overview_width(field: tuple[int, int], columns: int, aspect: float, width: float) -> float:
    """Compute the width of an overview that is as high as two rows of panels, with the gap beside it."""
    ratio = field[1] / field[0]
    panels = width - _BAR - 2 * GAP - (columns - 1) * GAP
    side = (panels - ratio * GAP) / (columns + 2 * aspect * ratio)
    return ratio * (2 * aspect * side + GAP) + 2 * GAP


def _add_overview(grid: FigureGrid, upper: Axes, lower: Axes, truth: Tensor, view: Region, room: float) -> None:
    from matplotlib.patches import Rectangle

    _, top, _, _ = grid.box(upper)
    _, below, _, height = grid.box(lower)
    field = int(truth.shape[1]), int(truth.shape[2])
    whole = grid.panel(0, top, room - 2 * GAP, below + height - top)
    draw_view(whole, as_pixels(truth), field, Region(0, 0, *field))
    whole.set_title("truth, whole image")
    outline = Rectangle((view.left, view.top), view.width, view.height, fill=False, ec=ACCENT, lw=1)
    outline.set_path_effects(outline_effects(width=2))
    whole.add_patch(outline)
