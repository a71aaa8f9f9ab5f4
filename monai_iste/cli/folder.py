"""Inputs and outputs of ``monai-iste upscale`` for a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from monai_iste.errors import OutputError
from monai_iste.io.image_reader import IMAGE_SUFFIXES, SLIDE_ENDINGS
from monai_iste.io.image_writer import WRITABLE_SUFFIXES

Pair = tuple[Path, Path]  # an input and its output


def pair_folder(source: Path, target: Path) -> list[Pair]:
    """Pair every image and slide of a folder with its output.

    Outputs have the same relative paths, with an ending that can be written: slides become OME-TIFF.
    """
    if target.exists() and not target.is_dir():
        raise OutputError("a folder for the results of a folder", f"the file {target}", "Name another.")
    if target.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"an output outside {source}", str(target), "Results beside inputs would become inputs.")
    from monai_iste.data.datasets import image_datalist

    names = [Path(item["image"]).relative_to(source) for item in image_datalist(source, IMAGE_SUFFIXES + SLIDE_ENDINGS)]
    counts = Counter(map(_output_name, names))
    return [(source / name, target / _unique_name(name, counts)) for name in names]


def _output_name(name: Path) -> Path:
    suffix = name.suffix.lower()
    if suffix in SLIDE_ENDINGS:
        return name.with_suffix(".ome.tiff")
    return name if suffix in WRITABLE_SUFFIXES else name.with_name(f"{name.name}.png")


def _unique_name(name: Path, counts: Counter[Path]) -> Path:
    """Keep the ending of slides whose outputs would have one name, as those of a.svs and a.ndpi."""
    output = _output_name(name)
    return output if counts[output] == 1 or output == name else name.with_name(f"{name.name}.ome.tiff")
