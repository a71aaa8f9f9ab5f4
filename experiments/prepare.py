"""Command that converts official data sets to the folder layout for training and evaluation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from experiments.preparation import DATASETS, MANIFEST, prepare_dataset
from monai_iste.errors import ConfigError


def prepare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=f"One of {', '.join(DATASETS)}.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder with the official files.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder to fill: train/, val/, test/.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the selection and of the split.")] = 0,
    counts: Annotated[
        Optional[str], typer.Option("--counts", metavar="TRAIN,VAL,TEST", help="Other numbers than the paper's.")
    ] = None,
    slides: Annotated[Optional[int], typer.Option("--slides", help="tcga: number of slides; default: 5.")] = None,
    tile: Annotated[
        Optional[int], typer.Option("--tile-size", help="tcga: side of a tile in pixels; default: 3072.")
    ] = None,
    min_tissue: Annotated[
        Optional[float], typer.Option("--min-tissue", help="tcga: smallest tissue fraction of a tile; default: 0.5.")
    ] = None,
    split_by: Annotated[
        Optional[str], typer.Option("--split-by", help="tcga: tile (default, as the paper's numbers) or slide.")
    ] = None,
    input_mpp: Annotated[
        Optional[float], typer.Option("--input-mpp", help="tcga: micrometers per pixel, if the slides do not say.")
    ] = None,
) -> None:
    """Prepare a data set of the paper; docs/datasets.md lists the sources.

    After an interruption, the same command resumes. A finished folder is not changed.
    """
    options: dict[str, Any] = {
        "counts": None if counts is None else _parse_counts(counts),
        "slides": slides,
        "tile": tile,
        "min_tissue": min_tissue,
        "split_by": split_by,
        "input_mpp": input_mpp,
    }
    given = {name: value for name, value in options.items() if value is not None}
    foreign = sorted(given.keys() - {"counts"})
    if foreign and dataset != "tcga" and dataset in DATASETS:
        raise ConfigError(f"options of {dataset}", ", ".join(foreign), "Those are tcga's alone.")
    report = prepare_dataset(dataset, source, root, seed, **given)
    numbers = ", ".join(f"{count:,} {part}" for part, count in report["counts"].items())
    typer.echo(f"{root}: {numbers}; described in {root / MANIFEST}")


def _parse_counts(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+,\d+,\d+", text):
        raise ConfigError("--counts as TRAIN,VAL,TEST", repr(text), "Say 320,40,40.")
    return tuple(int(number) for number in text.split(","))
