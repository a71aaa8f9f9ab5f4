"""The paper's figures 5 to 10 from real weights: functions that return them, and the command ``figure``.

Each function takes a tile and networks and returns a matplotlib figure, 300 dpi and as wide as a journal's column or
page; :func:`save_figure` writes it as PNG or PDF. They need the extra ``experiments``.
"""

from monai_iste.experiments.figures.command import figure, load_methods
from monai_iste.experiments.figures.decoders import draw_decoders
from monai_iste.experiments.figures.error_maps import draw_error_maps
from monai_iste.experiments.figures.retrieval import draw_retrieval
from monai_iste.experiments.figures.segmentations import draw_segmentations
from monai_iste.experiments.figures.style import COLUMN, PAGE, save_figure
from monai_iste.experiments.figures.texture_features import draw_texture_features
from monai_iste.experiments.figures.zoom_strip import draw_zoom_strip

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
