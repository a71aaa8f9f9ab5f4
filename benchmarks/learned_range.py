"""Range of the inputs that a recipe trains on: ``python -m benchmarks.learned_range DIR --mpp 0.25 0.62``.

Every tile is reduced as the training does, at scales from 1 to 8, and its traits are measured as those of a user's
image. The result is the entry ``learned`` of the preset (:mod:`monai_iste.networks.presets`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch import Tensor

from monai_iste.data import image_datalist
from monai_iste.errors import DataError, show_errors_as_sentences
from monai_iste.inferers.input_traits import measure_traits
from monai_iste.io.image_reader import read_rgb
from monai_iste.networks.learned_range import InputTraits
from monai_iste.transforms import BlurDegradation, RandMixedDegradation, RandSoftness

#: Scales at which the tiles are reduced; larger ones leave too few pixels of most tiles.
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def traits_of(tile: np.ndarray, scale: float, seed: int, soft: bool) -> list[InputTraits]:
    """Measure a tile after each kind of degradation of the recipe at one scale.

    Args:
        soft: whether the recipe softens the ground truth (``light2.json``).
    Shape:
        tile: (3, H, W), uint8.
    """
    soften, mixed = RandSoftness(), RandMixedDegradation()
    soften.set_random_state(seed)
    mixed.set_random_state(seed)
    truth = soften(tile, scale) if soft else tile
    results = [_measure(degrade(truth, scale)) for degrade in (BlurDegradation(), BlurDegradation("bicubic"), mixed)]
    return [traits for traits in results if traits.sharpness is not None]


def _measure(image: Tensor) -> InputTraits:
    pixels = image.permute(1, 2, 0).numpy()
    return measure_traits(lambda region: pixels[region.slices], pixels.shape[:2])


def learned_range(folder: Path, mpp: tuple[float, float], soft: bool = False) -> dict[str, tuple[float, ...]]:
    """Compute the first and last percentile of every trait.

    Args:
        folder: tiles of the training.
        mpp: smallest and largest micrometers per pixel of the tiles.
    Raises:
        DataError: no tile is large enough, or all are flat.
    """
    found: list[InputTraits] = []
    for seed, item in enumerate(image_datalist(folder)):
        tile = read_rgb(item["image"])
        for k, scale in enumerate(SCALES):
            found += traits_of(tile, scale, len(SCALES) * seed + k, soft)
    if not found:
        raise DataError("tiles with texture, of at least 32 pixels", f"none in {folder}", "Name the training's tiles.")
    sharpness = np.percentile([traits.sharpness for traits in found], [1, 99])
    blockiness = np.percentile([traits.blockiness for traits in found], 99)
    return {
        "mpp": (mpp[0], mpp[1] * 8),  # recipes go to x8
        "sharpness": tuple(float(f"{value:.2g}") for value in sharpness),
        "blockiness": (round(float(blockiness), 2),),
        "inputs": (len(found),),
    }


def main(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Tiles of the training.")],
    mpp: Annotated[tuple[float, float], typer.Option(help="Smallest and largest pixel size of the tiles, um.")],
    soft: Annotated[bool, typer.Option("--soft", help="The recipe softens the ground truth: light2.json.")] = False,
) -> None:
    """Print the range of the inputs that a recipe trains on."""
    for name, values in learned_range(folder, mpp, soft).items():
        typer.echo(f"{name}: {' to '.join(f'{value:g}' for value in values)}")


if __name__ == "__main__":
    show_errors_as_sentences()
    typer.run(main)
