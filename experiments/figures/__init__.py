"""Figures 5 to 10 of the paper, drawn from real weights.

Each function takes a tile and networks and returns a matplotlib figure, 300 dpi and as wide as a journal's column or
page. :func:`save_figure` writes it as PNG or PDF. The command is ``python -m experiments figure``. Figures need the
extra ``experiments``.
"""

from experiments.figures.command import figure, load_methods
from experiments.figures.decoders import draw_decoders
from experiments.figures.error_maps import draw_error_maps
from experiments.figures.retrieval import draw_retrieval
from experiments.figures.segmentations import draw_segmentations
from experiments.figures.style import COLUMN, PAGE, save_figure
from experiments.figures.texture_features import draw_texture_features
from experiments.figures.zoom_strip import draw_zoom_strip

__all__ = [
    "COLUMN",
    "PAGE",
    "draw_decoders",
    "draw_error_maps",
    "draw_retrieval",
    "draw_segmentations",
    "draw_texture_features",
    "draw_zoom_strip",
    "figure",
    "load_methods",
    "save_figure",
]
