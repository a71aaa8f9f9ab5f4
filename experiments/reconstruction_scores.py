"""Scores of reconstructions against their originals, for the experiments on tiles without labels.

Every tile is reduced by the protocol ``iste-rgb`` and upscaled by the same factor, by bicubic interpolation and by a
network (:class:`experiments.downstream.Reconstructor`). An experiment says how one tile is scored
(:func:`score_tiles`) and which columns its table has (:func:`write_scores`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from types import NoneType
from typing import Annotated, Any, NamedTuple, Optional

import numpy as np
import typer
from tqdm import tqdm

from experiments.downstream import PROTOCOL, Reconstructor, claim_folder, progress_interval
from experiments.methods import title_of
from experiments.statistics import paired_bootstrap
from experiments.table_text import (
    NONE,
    Cell,
    Line,
    TableSpec,
    csv_text,
    format_number,
    markdown_text,
    write_files,
    write_table,
)
from experiments.tables import Metric
from experiments.tiles import source_of
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.files import make_folder
from monai_iste.io.json_files import MEASURE_AGAIN, read_json, write_json
from monai_iste.metrics.manifest import fingerprint, manifest
from monai_iste.transforms.io import check_scale

#: Sentence of a table's notes on its last lines.
INTERVALS = "Differences: mean and its 95 % interval over tiles (paired bootstrap); bold: it does not contain 0."

_BICUBIC = "bicubic"

_ALL_SOURCES = "all"

DatasetOption = Annotated[Path, typer.Option("--dataset-dir", help="H&E tiles that the weights were not trained on.")]
OutputOption = Annotated[Path, typer.Option("--output-dir", help="Folder for all results; an interrupted run resumes.")]
PresetOption = Annotated[str, typer.Option("--preset", help="Network to compare with bicubic interpolation.")]
WeightsOption = Annotated[
    Optional[Path], typer.Option("--weights", help="File of its weights; default: the released ones.")
]
ScalesOption = Annotated[
    Optional[list[float]],
    typer.Option("--scale", help="Factor of the reduction and of the upscaling; repeatable; default: 2, 4."),
]
DeviceOption = Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")]

#: Scores of a tile or means over tiles; None where a score is undefined.
Rows = list[dict[str, Any]]


class ScoreSpec(NamedTuple):
    """Description of an experiment on reconstructions.

    Args:
        name: name of the experiment, of its files and of its table's label in LaTeX.
        metrics: columns of the table, by the key that rows have.
        originals: key of the original's own value, by the column in which the table shows it.
        compared: columns for which the network is compared with bicubic interpolation.
        unscored: words of the DataError if no tile can be scored: expected, received, what to do.
        parts: further keys of rows, such as a stain; each of their values has panels of its own.
    """

    name: str
    metrics: Mapping[str, Metric]
    originals: Mapping[str, str]
    compared: Sequence[str]
    unscored: tuple[str, str, str]
    parts: Sequence[str] = ()


def make_reconstructors(
    make: Callable[..., Reconstructor], preset: str, weights: Path | None, scales: Iterable[float] | None, device: str
) -> list[Reconstructor]:
    """Create the reconstructors of bicubic interpolation and of a network at every scale, each scale once.

    Args:
        make: class of the reconstructors.
        preset: name of the network.
        weights: file of its weights; None for the released weights.
        scales: scale factors; 2 and 4 by default.
        device: device of the networks.
    Raises:
        ConfigError: the network is bicubic interpolation, or has no weights.
        ScaleError: a scale is not finite or below 1.
        CheckpointError: the file does not fit the network.
    """
    if preset == _BICUBIC:
        raise ConfigError("a network to compare with bicubic interpolation", repr(preset), "Name another --preset.")
    chosen = [check_scale(m) for m in dict.fromkeys(scales or (2.0, 4.0))]
    return [make(name, weights if name == preset else None, m, device) for m in chosen for name in (_BICUBIC, preset)]


def score_tiles(
    spec: ScoreSpec,
    makers: Sequence[Reconstructor],
    items: Sequence[dict[str, Any]],
    settings: Mapping[str, Any],
    score: Callable[[str, np.ndarray, np.ndarray], Rows],
    folder: Path,
    device: str,
) -> Rows:
    """Score all tiles of all reconstructions, and write ``manifest.json`` and one file of rows a reconstruction.

    Reconstructions whose file exists are not scored again.

    Args:
        spec: the experiment.
        makers: reconstructors (:func:`make_reconstructors`).
        items: items of :func:`monai_iste.data.image_datalist`.
        settings: values that must be the same when the experiment is resumed.
        score: returns the scores of a tile from its name, the original and the reconstruction, (3, H, W) uint8; no rows
            leave the tile out.
        folder: output folder.
        device: device of the networks, for the manifest.
    Returns:
        the rows: ``image``, ``source``, ``scale``, ``method``, and what ``score`` returned.
    Raises:
        ConfigError: the folder holds an experiment with other settings.
        DataError: a tile cannot be read, or none can be scored; or a file of rows is damaged.
    """
    dataset = fingerprint(items)
    identities = [maker.identity for maker in makers]
    settings = {"experiment": spec.name, "reconstructions": identities, **settings, "dataset": dataset}
    claim_folder(folder, settings)
    make_folder(folder / "results")
    rows: Rows = []
    for maker in makers:
        file = folder / "results" / f"{maker.name}.json"
        found = _read_rows(spec, maker, file)
        if found is None:
            found = _score_all(maker, items, score)
            if not found:
                raise DataError(*spec.unscored)
            write_json(file, found)
        rows += found
    _check_tiles(spec, rows, folder / "results")
    write_json(folder / "manifest.json", manifest(PROTOCOL, dataset=dataset, device=device) | settings)
    return rows


def _read_rows(spec: ScoreSpec, maker: Reconstructor, file: Path) -> Rows | None:
    """Read the rows of a reconstruction; None if there are none yet.

    Raises:
        DataError: the file is damaged, or has rows of another reconstruction.
    """
    scores = dict.fromkeys((*spec.originals.values(), *spec.metrics), (float, NoneType))
    names = dict.fromkeys(("image", "source", "method", *spec.parts), str)
    rows: Rows | None = read_json(file, [{**names, "scale": float, **scores}])
    for row in rows or ():
        if (row["method"], row["scale"]) != (maker.preset, maker.scale):
            found = f"those of {row['method']} at x{row['scale']:g}"
            raise DataError(f"scores of {maker.preset} at x{maker.scale:g} in {file}", found, MEASURE_AGAIN)
    return rows


def _check_tiles(spec: ScoreSpec, rows: Rows, folder: Path) -> None:
    """Raise DataError unless all reconstructions at a scale have the scores of the same tiles, in the same order."""
    tiles: dict[float, dict[str, list[Any]]] = {}
    for row in rows:
        of_method = tiles.setdefault(row["scale"], {}).setdefault(row["method"], [])
        of_method.append([row[key] for key in ("image", "source", *spec.parts)])
    for scale, of_methods in tiles.items():
        first, *others = of_methods.values()
        if any(other != first for other in others):
            counts = ", ".join(f"{len(found)} of {name}" for name, found in of_methods.items())
            raise DataError(f"rows of the same tiles at x{scale:g} in the files of {folder}", counts, MEASURE_AGAIN)


def _score_all(
    maker: Reconstructor, items: Sequence[Mapping[str, Any]], score: Callable[[str, np.ndarray, np.ndarray], Rows]
) -> Rows:
    rows = []
    for item in tqdm(items, desc=maker.name, mininterval=progress_interval()):
        name = item["name"]
        high, _, reconstructed = maker(item["image"])
        tile = {"image": name, "source": source_of(name), "scale": maker.scale, "method": maker.preset}
        rows += [tile | scores for scores in score(name, high, reconstructed)]
    return rows


# --- the table --------------------------------------------------------------------------------------------------------


def write_scores(spec: ScoreSpec, rows: Rows, preset: str, folder: Path, caption: str, notes: str) -> None:
    """Write ``<name>.csv``, ``.md`` and ``.tex`` with means over tiles, and ``<name>-tiles.csv``; print the Markdown.

    The table has a panel for each scale, source and part, with a line each for the originals, bicubic interpolation,
    the network, and the network minus bicubic interpolation. A mean is over the tiles whose score is defined.

    Args:
        spec: the experiment.
        rows: rows of :func:`score_tiles`.
        preset: name of the network.
        folder: output folder.
        caption: text above the table.
        notes: text below the table.
    Raises:
        OutputError: a file cannot be written.
    """
    sources = sorted({row["source"] for row in rows})
    scales, *parts = (list(dict.fromkeys(row[key] for row in rows)) for key in ("scale", *spec.parts))
    panels, means = [], []
    for scale, source, *part in product(scales, [_ALL_SOURCES, *(sources if len(sources) > 1 else [])], *parts):
        wanted = {"scale": scale, **dict(zip(spec.parts, part, strict=True))}
        own = [row for row in rows if source in (_ALL_SOURCES, row["source"]) and wanted.items() <= row.items()]
        found = {name: [row for row in own if row["method"] == name] for name in (_BICUBIC, preset)}
        tiles = len(found[preset])
        title = ", ".join([f"x{scale:g}", source, *part, f"{tiles} {'tile' if tiles == 1 else 'tiles'}"])
        panels.append((title, _lines(spec, found, preset)))
        place = {"scale": scale, "source": source, **wanted}
        means += [
            {**place, "method": name, "tiles": tiles, **_mean(spec, of_method)} for name, of_method in found.items()
        ]
    columns = [metric.heading for metric in spec.metrics.values()]
    table = TableSpec(caption, notes, ["Images"], [("measured", columns)], panels)
    write_table(folder, spec.name, table, csv_text(list(means[0]), means))
    write_files(folder, f"{spec.name}-tiles", {".csv": csv_text(list(rows[0]), rows)})
    typer.echo(markdown_text(table))


def _mean(spec: ScoreSpec, rows: Rows) -> dict[str, float | None]:
    """Average the scores that are defined; None if none is."""
    keys = (*spec.originals.values(), *spec.metrics)
    values = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
    return {key: fmean(found) if found else None for key, found in values.items()}


def _lines(spec: ScoreSpec, found: Mapping[str, Rows], preset: str) -> list[Line]:
    """Build the lines of a panel: original, bicubic, network, and the network's difference to bicubic."""

    def line(name: str, values: Mapping[str, float | None]) -> Line:
        return Line([name], [format_number(values.get(key), metric.digits) for key, metric in spec.metrics.items()])

    means = {name: _mean(spec, rows) for name, rows in found.items()}
    originals = {column: means[preset][key] for column, key in spec.originals.items()}
    differences = [_difference(spec, found, preset, key) for key in spec.metrics]
    return [
        line("Original", originals),
        *(line(title_of(name), mean) for name, mean in means.items()),
        Line([f"{title_of(preset)} minus Bicubic"], differences),
    ]


def _difference(spec: ScoreSpec, found: Mapping[str, Rows], preset: str, key: str) -> Cell:
    """Format the network's mean difference to bicubic with its interval, over tiles where both scores are defined."""
    pairs = [(row[key], other[key]) for row, other in zip(found[preset], found[_BICUBIC], strict=True)]
    scores = np.array([pair for pair in pairs if None not in pair])
    if key not in spec.compared or len(scores) < 2:
        return Cell(NONE)
    interval = paired_bootstrap(scores[:, 0], scores[:, 1])
    mean, low, high = (f"{value:+.{spec.metrics[key].digits}f}" for value in interval)
    return Cell(f"{mean} [{low}, {high}]", bold=interval.low > 0 or interval.high < 0)
