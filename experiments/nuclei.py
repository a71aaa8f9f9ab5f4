"""Nucleus counts on originals and on their reconstructions.

Not in the paper. Every tile is reduced by the protocol ``iste-rgb`` and upscaled by the same factor, by bicubic
interpolation and by a network. One detector without training finds nuclei on all of them, at one physical scale
(:mod:`experiments.nucleus_task`). Its detections on the original are the reference. The numbers therefore measure how
much the images differ for the detector, not how many nuclei there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Optional

import numpy as np
import typer
from tqdm import tqdm

from experiments.downstream import PROTOCOL, Reconstructor, claim_folder, progress_interval
from experiments.methods import title_of
from experiments.nucleus_task import agreement, centroids, find_nuclei
from experiments.statistics import paired_bootstrap
from experiments.table_text import (
    NONE,
    Cell,
    Line,
    TableSpec,
    csv_text,
    format_number,
    latex_text,
    markdown_text,
    write_files,
)
from experiments.tables import Metric
from experiments.tiles import pixel_sizes, source_of
from monai_iste.data import image_datalist
from monai_iste.errors import DataError
from monai_iste.io.files import make_folder, read_json, write_json
from monai_iste.metrics.manifest import fingerprint, manifest
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

_METRICS = {
    "found": Metric("nuclei a tile", "", 1, True),
    "count_error": Metric("count error", "%", 2, False),
    "bias": Metric("bias", "%", 2, False),
    "f1": Metric("F1", "", 4, True),
}

_COMPARED = ("count_error", "f1")

_ALL_SOURCES = "all"

Rows = list[dict[str, Any]]


def nuclei(
    dataset_dir: Annotated[Path, typer.Option("--dataset-dir", help="H&E tiles that the weights were not trained on.")],
    mpp: Annotated[
        Optional[str],
        typer.Option("--mpp", help="Micrometers per pixel: 0.5, or by file name prefix: glas=0.62,monuseg=0.25."),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder for all results; an interrupted run resumes.")
    ] = Path("runs/nuclei"),
    preset: Annotated[
        str, typer.Option("--preset", help="Network to compare with bicubic interpolation.")
    ] = DEFAULT_PRESET,
    weights: Annotated[
        Optional[Path], typer.Option("--weights", help="File of its weights; default: the released ones.")
    ] = None,
    scale: Annotated[
        Optional[list[float]],
        typer.Option("--scale", help="Factor of the reduction and of the upscaling; repeatable; default: 2, 4."),
    ] = None,
    distance: Annotated[
        float, typer.Option("--distance", help="Largest distance of the centers of matched nuclei, micrometers.")
    ] = 3.0,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
) -> None:
    """Detect nuclei on originals and on their reconstructions; compare the counts, and match them one to one.

    Writes nuclei.csv, nuclei.md, nuclei.tex, nuclei-tiles.csv and manifest.json. After an interruption, the same
    command resumes.
    """
    device = device or default_device()
    items = image_datalist(dataset_dir)
    sizes = pixel_sizes(items, mpp)
    makers = [
        Reconstructor(name, None if name == "bicubic" else weights, m, device)
        for m in scale or [2.0, 4.0]
        for name in ("bicubic", preset)
    ]
    dataset = fingerprint(items)
    settings = {
        "experiment": "nuclei",
        "reconstructions": [maker.identity for maker in makers],
        "distance": distance,
        "mpp": sizes,
        "dataset": dataset,
    }
    claim_folder(output_dir, settings)
    make_folder(output_dir / "results")
    originals: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def original(name: str, image: np.ndarray) -> np.ndarray:
        key = name, image.shape
        if key not in originals:
            originals[key] = centroids(find_nuclei(image, sizes[name]), sizes[name])
        return originals[key]

    rows: Rows = []
    for maker in makers:
        file = output_dir / "results" / f"{maker.name}.json"
        rows += read_json(file) or _score(maker, items, sizes, original, distance, file)
    report = manifest(PROTOCOL, dataset=dataset, device=device)
    write_json(output_dir / "manifest.json", report | settings)
    _write(output_dir, rows, preset, distance)


def _score(
    maker: Reconstructor,
    items: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, float],
    original: Callable[[str, np.ndarray], np.ndarray],
    distance: float,
    file: Path,
) -> Rows:
    """Score every tile and write the rows to a file. Tiles whose original has no nuclei are left out."""
    rows = []
    for item in tqdm(items, desc=maker.name, mininterval=progress_interval()):
        name, mpp = item["name"], sizes[item["name"]]
        high, _, reconstructed = maker(item["image"])
        pairs = agreement(original(name, high), centroids(find_nuclei(reconstructed, mpp), mpp), distance)
        if not pairs.there:
            continue
        bias = 100 * (pairs.found - pairs.there) / pairs.there
        rows.append(
            {
                "image": name,
                "source": source_of(name),
                "scale": maker.scale,
                "method": maker.preset,
                "mpp": mpp,
                **pairs._asdict(),
                "count_error": abs(bias),
                "bias": bias,
                "f1": pairs.f1,
            }
        )
    if not rows:
        raise DataError("tiles with nuclei", "tiles without detections", "Give H&E tissue and its true --mpp.")
    write_json(file, rows)
    return rows


# --- the table --------------------------------------------------------------------------------------------------------


def _write(folder: Path, rows: Rows, preset: str, distance: float) -> None:
    sources = sorted({row["source"] for row in rows})
    panels, means = [], []
    for scale in dict.fromkeys(row["scale"] for row in rows):
        for source in [_ALL_SOURCES, *(sources if len(sources) > 1 else [])]:
            part = [row for row in rows if row["scale"] == scale and source in (_ALL_SOURCES, row["source"])]
            found = {name: [row for row in part if row["method"] == name] for name in ("bicubic", preset)}
            tiles = len(found[preset])
            panels.append((f"x{scale:g}, {source}, {tiles} {'tile' if tiles == 1 else 'tiles'}", _lines(found, preset)))
            means += [
                {"scale": scale, "source": source, "method": name, "tiles": tiles, **_mean(own)}
                for name, own in found.items()
            ]
    columns = [metric.heading for metric in _METRICS.values()]
    caption = f"Nuclei that one classical detector finds on tiles reduced by {PROTOCOL} and upscaled by {preset}."
    table = TableSpec(caption, _notes(distance), ["Images"], [("measured", columns)], panels)
    files = {".csv": csv_text(list(means[0]), means), ".md": markdown_text(table), ".tex": latex_text(table, "nuclei")}
    paths = write_files(folder, "nuclei", files)
    write_files(folder, "nuclei-tiles", {".csv": csv_text(list(rows[0]), rows)})
    typer.echo(next(path for path in paths if path.suffix == ".md").read_text())


def _mean(rows: Rows) -> dict[str, float]:
    return {key: fmean(row[key] for row in rows) for key in ("there", *_METRICS)}


def _lines(found: Mapping[str, Rows], preset: str) -> list[Line]:
    """Build the lines of a panel: original, bicubic, network, and the network's difference to bicubic."""
    there = format_number(_mean(found[preset])["there"], _METRICS["found"].digits)
    lines = [Line(["Original"], [there, *[Cell(NONE)] * (len(_METRICS) - 1)])]
    for name, rows in found.items():
        mean = _mean(rows)
        lines.append(
            Line([title_of(name)], [format_number(mean[key], metric.digits) for key, metric in _METRICS.items()])
        )
    return [*lines, Line([f"{title_of(preset)} minus Bicubic"], [_difference(found, preset, key) for key in _METRICS])]


def _difference(found: Mapping[str, Rows], preset: str, key: str) -> Cell:
    if key not in _COMPARED or len(found[preset]) < 2:
        return Cell(NONE)
    own, other = ([row[key] for row in found[name]] for name in (preset, "bicubic"))
    interval = paired_bootstrap(own, other)
    mean, low, high = (f"{value:+.{_METRICS[key].digits}f}" for value in interval)
    return Cell(f"{mean} [{low}, {high}]", bold=interval.low > 0 or interval.high < 0)


def _notes(distance: float) -> str:
    return (
        "Count error: absolute difference to the count on the original, in percent of it, mean over tiles. Bias: the "
        f"same with its sign. F1: nuclei matched one to one within {distance:g} um of those on the original. "
        "Differences: mean and its 95 % interval over tiles (paired bootstrap); bold: it does not contain 0. "
        "Detections on the original are the reference."
    )
