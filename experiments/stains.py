"""Densities of hematoxylin and eosin on originals and on their reconstructions.

Not in the paper. Every tile is reduced by the protocol ``iste-rgb`` and upscaled by the same factor, by bicubic
interpolation and by a network. Color deconvolution with a published stain matrix gives the densities
(:mod:`experiments.stain_task`). Those of the original are the reference.

Tiles that are less than a fifth tissue are left out (:func:`monai_iste.transforms.crop.tissue_fraction`): percents of
almost no stain mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments import reconstruction_scores as scores
from experiments.downstream import PROTOCOL, Reconstructor
from experiments.stain_task import STAINS, color_shift, compare_densities, stain_densities
from experiments.tables import Metric
from monai_iste.data import image_datalist
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device
from monai_iste.transforms.crop import tissue_fraction

_LEAST_TISSUE = 0.2

_SPEC = scores.ScoreSpec(
    name="stains",
    metrics={
        "density": Metric("density", "", 4, True),
        "error": Metric("density error", "%", 2, False),
        "bias": Metric("bias", "%", 2, False),
        "difference": Metric("difference a pixel", "", 4, False),
        "correlation": Metric("correlation", "", 4, True),
        "delta_e": Metric("Delta E", "", 3, False),
    },
    originals={"density": "original"},
    compared=("error", "difference", "correlation", "delta_e"),
    unscored=("tiles with tissue", "background", "Give H&E tiles of which a fifth or more is tissue."),
    parts=("stain",),
)

_NOTES = (
    "Density: mean optical density (base 10) over all pixels, from rgb2hed of scikit-image with the stain matrix of "
    "Ruifrok and Johnston (2001). Density error: absolute difference to the mean of the original, in percent of it, "
    "mean over tiles. Bias: the same with its sign. Difference a pixel: mean absolute difference of densities. "
    "Correlation: Pearson, over pixels. Delta E: CIEDE2000 between the mean colors of the tile, which is the same for "
    f"both stains. Tiles that are less than {100 * _LEAST_TISSUE:g} % tissue are left out. "
    "A dash: undefined, as the correlation with an even color is. "
    f"{scores.INTERVALS} Densities of the original are the reference."
)


def stains(
    dataset_dir: scores.DatasetOption,
    output_dir: scores.OutputOption = Path("runs/stains"),
    preset: scores.PresetOption = DEFAULT_PRESET,
    weights: scores.WeightsOption = None,
    scale: scores.ScalesOption = None,
    device: scores.DeviceOption = None,
) -> None:
    """Compare the densities of hematoxylin and eosin, and the mean colors, of originals and reconstructions.

    Writes stains.csv, stains.md, stains.tex, stains-tiles.csv and manifest.json. After an interruption, the same
    command resumes.
    """
    device = device or default_device()
    items = image_datalist(dataset_dir)
    makers = scores.make_reconstructors(Reconstructor, preset, weights, scale, device)
    rows = scores.score_tiles(_SPEC, makers, items, {"least_tissue": _LEAST_TISSUE}, _score, output_dir, device)
    caption = f"Stains on tiles reduced by {PROTOCOL} and upscaled by {preset}, by color deconvolution."
    scores.write_scores(_SPEC, rows, preset, output_dir, caption, _NOTES)


def _score(name: str, high: np.ndarray, reconstructed: np.ndarray) -> scores.Rows:
    """Compare the stains of a reconstruction with those of the original; no rows if that has too little tissue."""
    if tissue_fraction(high) < _LEAST_TISSUE:
        return []
    shift = color_shift(high, reconstructed)
    densities = zip(STAINS, stain_densities(high), stain_densities(reconstructed), strict=True)
    return [
        {"stain": stain, **compare_densities(before, after)._asdict(), "delta_e": shift}
        for stain, before, after in densities
    ]
