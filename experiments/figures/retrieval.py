"""Figure 8: origin of the textures that Self-Texture Fusion retrieves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.figures.drawing import draw_view, outline_effects
from experiments.figures.inputs import ImageSource, Pair, as_pixels, format_scale, make_pair, require_iste
from experiments.figures.intermediates import Retrieval, retrieve
from experiments.figures.style import GAP, MAPS, PAGE, FigureGrid, style
from monai_iste.errors import ConfigError
from monai_iste.inferers import Region
from monai_iste.networks.residual_gate import residual_gate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PATCH = 13  # side of the enlarged patches in low-resolution pixels; odd, so that the pixel is in the center

_TOP, _NUMBER = 0.17, 0.15  # space for the title and for the numbers, in inches

_POOL = 0.05  # fraction of the pixels that are drawn from, those with the highest score


class Arrow(NamedTuple):
    """Low-resolution pixel, position of the key that it retrieves, both (y, x), and their similarity.

    Units: low-resolution pixels, 0 at the center of the first.
    """

    pixel: tuple[int, int]
    place: tuple[float, float]
    confidence: float


def choose_pixels(score: Tensor, count: int, distance: float, seed: int = 0, border: int = 0) -> list[tuple[int, int]]:
    """Draw pixels at random from the 5 % with the highest score, at least ``distance`` apart.

    If ``count`` pixels do not fit, fewer are returned. The same seed gives the same pixels.

    Args:
        score: score of every pixel.
        count: number of pixels.
        distance: smallest distance between two pixels.
        seed: seed of the draw.
        border: width of the margin that is left out, in pixels.
    Shape:
        score: (h, w)
    """
    h, w = score.shape
    inner = torch.zeros_like(score, dtype=torch.bool)
    inner[border : h - border, border : w - border] = True
    places = torch.where(inner, score.double(), -torch.inf).flatten().argsort(descending=True, stable=True)
    places = places[: min(int(inner.sum()), max(count, round(_POOL * int(inner.sum()))))]
    chosen: list[tuple[int, int]] = []
    for index in np.random.default_rng(seed).permutation(places.numpy()):
        y, x = divmod(int(index), w)
        if len(chosen) < count and all((y - v) ** 2 + (x - u) ** 2 >= distance**2 for v, u in chosen):
            chosen.append((y, x))
    return sorted(chosen)


def arrows(low: Tensor, found: Retrieval, count: int = 6, seed: int = 0) -> list[Arrow]:
    """Choose arrows from textured pixels with high confidence.

    The score is the confidence times the local contrast ``v / (v + 16^2 levels)``, with v the mean squared difference
    to the eight neighbors. Without the contrast, background would be chosen, which has a high confidence too.

    Shape:
        low: (3, h, w), in [0, 1]
    """
    textured = residual_gate(low.unsqueeze(0) * 2 - 1, level=2 * 16 / 255)[0, 0]
    h, w = found.confidence.shape
    border = min(_PATCH // 2, (min(h, w) - 1) // 2)
    pixels = choose_pixels(found.confidence * textured, count, 0.15 * max(h, w), seed, border)
    return [
        Arrow((y, x), (float(found.place[y, x, 0]), float(found.place[y, x, 1])), float(found.confidence[y, x]))
        for y, x in pixels
    ]


def draw_retrieval(
    image: ImageSource,
    network: nn.Module,
    scale: float = 4.0,
    count: int = 6,
    seed: int = 0,
    crop: Region | None = None,
    protocol: str = "iste-rgb",
    width: float = PAGE,
) -> Figure:
    """Draw arrows from low-resolution pixels to the keys that they retrieve, with enlarged patches of both ends.

    Retrieval covers the whole low-resolution image at once, with the keys of the network at inference
    (``inference_keys``). An arrow ends where the retrieved texture was sampled. Arrows are drawn on the ground truth.
    The number of keys that are retrieved by any pixel is printed under the patches.

    Args:
        image: ground truth, a file or (3, H, W) uint8; it is reduced by ``scale`` first.
        network: ISTE in evaluation mode, with its Self-Texture Fusion.
        scale: scale factor.
        count: number of arrows; fewer are drawn if they would be too close.
        seed: seed of the choice of pixels, see :func:`arrows`.
        crop: part of the image that is used, in its pixels; default: all.
        protocol: key of :data:`monai_iste.metrics.PROTOCOLS`.
        width: width of the figure in inches.
    Raises:
        ConfigError: the network is not ISTE or has no STF, ``count`` is below 1, the protocol does not exist, or
            matplotlib is missing.
        ShapeError: the crop is outside the image.
    """
    iste = require_iste(network, "self_texture_fusion")
    if count < 1:
        raise ConfigError("at least one arrow", str(count), "Six fit well.")
    pair = make_pair(image, scale, protocol, crop)
    found = retrieve(iste, pair.low, scale)
    with style():
        return _draw(pair, arrows(pair.low, found, count, seed), found, width)


def _draw(pair: Pair, drawn: list[Arrow], found: Retrieval, width: float) -> Figure:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    # All lengths are in low-resolution pixels.
    field, truth = (int(pair.low.shape[1]), int(pair.low.shape[2])), as_pixels(pair.truth)
    aspect, count = field[0] / field[1], len(drawn)
    # The two columns of patches are as high as the image: side = (height + gap) / count - gap.
    room = (width - 3 * GAP - _NUMBER - 2 * (GAP / count - GAP)) / (1 + 2 * aspect / count)
    side = (room * aspect + GAP) / count - GAP
    grid = FigureGrid(width, room * aspect + 0.62)
    whole = grid.panel(0, _TOP, room, room * aspect)
    draw_view(whole, truth, field, Region(0, 0, *field))
    whole.set_title(f"truth; retrieval is in the LR input ({format_scale(pair.scale)})")
    low, high = (extreme(arrow.confidence for arrow in drawn) for extreme in (min, max))
    limits = min(low, (low + high) / 2 - 0.005), max(high, (low + high) / 2 + 0.005)
    left = room + 2 * GAP + _NUMBER
    for i, arrow in enumerate(drawn):
        _add_arrow(whole, arrow, str(i + 1), colormaps[MAPS](Normalize(*limits)(arrow.confidence)))
        for j, (end, title) in enumerate(((arrow.pixel, "LR pixel"), (arrow.place, "key"))):
            panel = grid.panel(left + j * (side + GAP), _TOP + i * (side + GAP), side, side)
            _show_patch(panel, truth, field, end)
            panel.set_title(title if i == 0 else "")
            panel.set_ylabel("" if j else str(i + 1), rotation=0, ha="right", va="center")
    below = _TOP + room * aspect + 0.08
    label = "confidence (cosine similarity of pixel and key)"
    grid.color_bar((0.15, below, room - 0.3, 0.08), MAPS, limits, label)
    note = grid.panel(left, below - 0.05, 2 * side + GAP, 0.05)
    note.set_xlabel(f"{len(found.key.unique())} of {found.keys} keys\nare retrieved")
    return grid.finish()


def _add_arrow(axes: Axes, arrow: Arrow, number: str, color: tuple[float, ...]) -> None:
    """Draw an arrow from pixel to key; pixel centers are half a pixel from the edge of the image."""
    (y, x), (v, u) = arrow.pixel, arrow.place
    line = {
        "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
        "color": color,
        "lw": 1.2,
        "shrinkA": 0,
        "shrinkB": 0,
        "path_effects": outline_effects("white", 2.6),
    }
    axes.annotate("", (u + 0.5, v + 0.5), (x + 0.5, y + 0.5), arrowprops=line)
    axes.plot(x + 0.5, y + 0.5, "o", ms=3.2, color=color, mec="white", mew=0.7)
    # The number is placed behind the arrow's tail.
    length = float(np.hypot(x - u, v - y))
    away = np.array([x - u, v - y]) / length if length > 1 else np.array([-1.0, 0.0])  # y points down, points up
    axes.annotate(number, (x + 0.5, y + 0.5), tuple(7 * away), textcoords="offset points", ha="center", va="center",
                  weight="bold", zorder=10, path_effects=outline_effects("white", 1.8))  # fmt: skip


def _show_patch(axes: Axes, pixels: np.ndarray, field: tuple[int, int], center: tuple[float, float]) -> None:
    """Draw the surroundings of a low-resolution pixel and outline it; the area outside the image stays white."""
    from matplotlib.patches import Rectangle

    y, x = np.floor(center[0] + 0.5), np.floor(center[1] + 0.5)
    reach = _PATCH // 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(field[0], int(y) + reach + 1), min(field[1], int(x) + reach + 1)
    draw_view(axes, pixels, field, Region(top, left, bottom - top, right - left))
    axes.set_xlim(x - reach, x + reach + 1)
    axes.set_ylim(y + reach + 1, y - reach)
    axes.add_patch(
        Rectangle(
            (x, y), 1, 1, fill=False, ec="black", lw=0.8, path_effects=outline_effects("white", 1.8), joinstyle="miter"
        )
    )
