"""Nucleus counts on originals and on their reconstructions.

Not in the paper. Every tile is reduced by the protocol ``iste-rgb`` and upscaled by the same factor, by bicubic
interpolation and by a network. One detector without training finds nuclei on all of them, at one physical scale
(:mod:`experiments.nucleus_task`). Its detections on the original are the reference. The numbers therefore measure how
much the images differ for the detector, not how many nuclei there are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import typer

from experiments import reconstruction_scores as scores
from experiments.downstream import PROTOCOL, Reconstructor
from experiments.nucleus_task import agreement, centroids, find_nuclei
from experiments.tables import Metric
from experiments.tiles import pixel_sizes
from monai_iste.data import image_datalist
from monai_iste.errors import ConfigError
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

_SPEC = scores.ScoreSpec(
    name="nuclei",
    metrics={
        "found": Metric("nuclei a tile", "", 1, True),
        "count_error": Metric("count error", "%", 2, False),
        "bias": Metric("bias", "%", 2, False),
        "f1": Metric("F1", "", 4, True),
    },
    originals={"found": "there"},
    compared=("count_error", "f1"),
    unscored=("tiles with nuclei", "tiles without detections", "Give H&E tissue and its true --mpp."),
)


def nuclei(
    dataset_dir: scores.DatasetOption,
    mpp: Annotated[
        Optional[str],
        typer.Option("--mpp", help="Micrometers per pixel: 0.5, or by file name prefix: glas=0.62,monuseg=0.25."),
    ] = None,
    output_dir: scores.OutputOption = Path("runs/nuclei"),
    preset: scores.PresetOption = DEFAULT_PRESET,
    weights: scores.WeightsOption = None,
    scale: scores.ScalesOption = None,
    distance: Annotated[
        float, typer.Option("--distance", help="Largest distance of the centers of matched nuclei, micrometers.")
    ] = 3.0,
    device: scores.DeviceOption = None,
) -> None:
    """Detect nuclei on originals and on their reconstructions; compare the counts, and match them one to one.

    Writes nuclei.csv, nuclei.md, nuclei.tex, nuclei-tiles.csv and manifest.json. After an interruption, the same
    command resumes.
    """
    if not 0 < distance < math.inf:
        raise ConfigError("--distance above 0 micrometers", str(distance), "Try 3.")
    device = device or default_device()
    items = image_datalist(dataset_dir)
    sizes = pixel_sizes(items, mpp)
    makers = scores.make_reconstructors(Reconstructor, preset, weights, scale, device)
    originals: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def score(name: str, high: np.ndarray, reconstructed: np.ndarray) -> scores.Rows:
        key, mpp = (name, high.shape), sizes[name]
        if key not in originals:
            originals[key] = centroids(find_nuclei(high, mpp), mpp)
        return _score(originals[key], reconstructed, mpp, distance)

    rows = scores.score_tiles(_SPEC, makers, items, {"distance": distance, "mpp": sizes}, score, output_dir, device)
    caption = f"Nuclei that one classical detector finds on tiles reduced by {PROTOCOL} and upscaled by {preset}."
    scores.write_scores(_SPEC, rows, preset, output_dir, caption, _notes(distance))


def _score(there: np.ndarray, reconstructed: np.ndarray, mpp: float, distance: float) -> scores.Rows:
    """Compare the nuclei of a reconstruction with those of the original; no row if that has none."""
    pairs = agreement(there, centroids(find_nuclei(reconstructed, mpp), mpp), distance)
    if not pairs.there:
        return []
    bias = 100 * (pairs.found - pairs.there) / pairs.there
    return [{"mpp": mpp, **pairs._asdict(), "count_error": abs(bias), "bias": bias, "f1": pairs.f1}]


def _notes(distance: float) -> str:
    return (
        "Count error: absolute difference to the count on the original, in percent of it, mean over tiles. Bias: the "
        f"same with its sign. F1: nuclei matched one to one within {distance:g} um of those on the original. "
        f"{scores.INTERVALS} Detections on the original are the reference."
    )
