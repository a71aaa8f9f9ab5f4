"""Figure 9: contribution of each decoder to the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from experiments.figures.drawing import covering_region, draw_pixels, draw_view
from experiments.figures.inputs import BICUBIC, ImageSource, as_pixels, choose_view, make_pair, require_iste
from experiments.figures.intermediates import DecoderParts, decoder_parts
from experiments.figures.style import PAGE, FigureGrid, style
from monai_iste.coordinates import output_size
from monai_iste.inferers import Region

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 192  # side of the default view, in ground-truth pixels


def on_gray(signed: Tensor, gain: float) -> Tensor:
    """Map a signed image to middle gray: ``0.5 + gain * x``.

    Shape: any
    """
    return 0.5 + gain * signed


def display_gain(*signed: Tensor) -> float:
    """Find the largest gain of 1, 2, 4, ... for which 99 % of the values of each image stay between black and white.

    Example:
        >>> import torch
        >>> display_gain(torch.tensor([-0.1, 0.05]), torch.tensor([0.02])), display_gain(torch.ones(2))
        (4.0, 1.0)
    """
    extreme = max(float(x.abs().flatten().sort().values[math.ceil(0.99 * x.numel()) - 1]) for x in signed)
    return 1.0 if extreme <= 0 else float(2 ** max(0, math.floor(math.log2(0.5 / extreme))))


def draw_decoders(
    image: ImageSource,
    network: nn.Module,
    scale: float = 4.0,
    crop: Region | None = None,
    protocol: str = "iste-rgb",
    name: str = "ISTE",
    width: float = PAGE,
) -> Figure:
    """Draw I_LPD, I_LTD, their sum and the ground truth; bicubic interpolation too if the network adds it.

    The decoders' images are signed. They are drawn on middle gray with the gain that is printed under them; the other
    images are unchanged. ``[bicubic or 0.5] + I_LPD + I_LTD`` is the network's output for the whole image at once
    (:func:`experiments.figures.intermediates.decoder_parts`).

    Args:
        image: ground truth, a file or (3, H, W) uint8; it is reduced by ``scale`` first.
        network: ISTE in evaluation mode, with its Local Texture Decoder.
        scale: scale factor.
        crop: part to show, in pixels of the image; default: the 192-pixel square with most detail.
        protocol: key of :data:`monai_iste.metrics.PROTOCOLS`.
        name: name of the network, printed over its output.
        width: width of the figure in inches.
    Raises:
        ConfigError: the network is not ISTE or has no LTD, the protocol does not exist, or matplotlib is missing.
        ShapeError: the crop is outside the image.
    """
    iste = require_iste(network, "local_texture_decoder")
    pair = make_pair(image, scale, protocol)
    view = choose_view(pair.truth, crop, _SIDE)
    region, extent = covering_region(output_size((pair.low.shape[1], pair.low.shape[2]), scale), pair.size, view)
    parts = decoder_parts(iste, pair.low, scale, region)
    with style():
        panels = _panels(parts, iste.bicubic_residual, name)
        grid, rows = FigureGrid.with_rows([view.height / view.width], len(panels) + 1, width, (1,), (1,))
        for axes, (title, note, drawn) in zip(rows[0], panels, strict=False):
            draw_pixels(axes, as_pixels(drawn), extent, view)
            axes.set_title(title)
            axes.set_xlabel(note)
        draw_view(rows[0][-1], as_pixels(pair.truth), pair.size, view)
        rows[0][-1].set_title("truth")
    return grid.finish()


def _panels(parts: DecoderParts, residual: bool, name: str) -> list[tuple[str, str, Tensor]]:
    """Build title, note and image of every panel but the ground truth."""
    gain = display_gain(parts.pixel, parts.texture)
    mapping = "shown: 0.5 + " + ("" if gain == 1 else f"{gain:g} ")
    first = [(f"{BICUBIC} ($I_{{B}}$)", "", parts.base)] if residual else []
    summed = "$I_{B}$ + $I_{LPD}$ + $I_{LTD}$" if residual else "0.5 + $I_{LPD}$ + $I_{LTD}$"
    return [
        *first,
        ("$I_{LPD}$", f"{mapping}$I_{{LPD}}$", on_gray(parts.pixel, gain)),
        ("$I_{LTD}$", f"{mapping}$I_{{LTD}}$", on_gray(parts.texture, gain)),
        (name, summed, parts.total),
    ]
