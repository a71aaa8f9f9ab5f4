"""Inputs and outputs of ``monai-iste upscale`` for a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path

from monai_iste.errors import OutputError
from monai_iste.io.image_writer import WRITABLE_SUFFIXES
from monai_iste.io.pixels import IMAGE_SUFFIXES, SLIDE_ENDINGS

Pair = tuple[Path, Path]  # an input and its output


def pair_folder(source: Path, target: Path, log: Callable[[str], None]) -> list[Pair]:
    """Pair every image and slide of a folder with its output.

    Outputs have the same relative paths, with an ending that can be written: slides become OME-TIFF. No two inputs have
    one output.

    Args:
        log: receives one sentence about each folder and link that is left out.
    """
    if target.exists() and not target.is_dir():
        raise OutputError("a folder for the results of a folder", f"the file {target}", "Name another.")
    if target.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"an output outside {source}", str(target), "Results beside inputs would become inputs.")
    from monai_iste.data.datasets import image_datalist

    found = image_datalist(source, IMAGE_SUFFIXES + SLIDE_ENDINGS, log)
    names = [Path(item["image"]).relative_to(source) for item in found]
    return [(source / name, target / output) for name, output in zip(names, _output_names(names), strict=True)]


def _output_names(names: Sequence[Path]) -> list[Path]:
    """Name the outputs of all inputs; those that would share a name, as of a.svs and a.ndpi, keep their ending."""
    wanted = [_output_name(name) for name in names]
    counts = Counter(wanted)
    taken = set(names) & set(wanted)  # names that their own inputs keep
    outputs = []
    for name, output in zip(names, wanted, strict=True):
        if output != name and (counts[output] > 1 or output in taken):
            ending = ".ome.tiff" if _is_slide(name) else ".png"
            options = chain([f"{name.name}{ending}"], (f"{name.name}-{number}{ending}" for number in count(2)))
            output = next(option for option in map(name.with_name, options) if option not in taken)
        taken.add(output)
        outputs.append(output)
    return outputs


def _output_name(name: Path) -> Path:
    if _is_slide(name):
        return name.with_suffix(".ome.tiff")
    return name if name.suffix.lower() in WRITABLE_SUFFIXES else name.with_name(f"{name.name}.png")


def _is_slide(name: Path) -> bool:
    return name.suffix.lower() in SLIDE_ENDINGS
