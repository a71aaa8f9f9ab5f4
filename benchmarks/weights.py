"""Quality of weights on tiles of tissue, beside bicubic interpolation and LIIF with its authors' weights.

python -m benchmarks.weights DIR --liif edsr-baseline-liif.pth --json scores.json
python -m benchmarks.weights DIR --weights released,runs/new/model.pt --json scores.json
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Row
from benchmarks.tile_scores import SCORES, published_liif, score, super_resolve, tile_pair
from experiments.statistics import paired_bootstrap
from experiments.tiles import source_of
from monai_iste.data import image_datalist
from monai_iste.errors import DataError
from monai_iste.io.files import checksum, read_json, write_json
from monai_iste.metrics import get_protocol
from monai_iste.networks import Bicubic
from monai_iste.networks.presets import require_weights
from monai_iste.networks.runtime import load_network

__all__ = ["app", "summary", "weights"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BICUBIC, PEER = "bicubic", "LIIF"
ALL_SOURCES = "all"
_TITLE = "Weights"  # title of the JSON file

LiifOption = Annotated[
    Path | None,
    typer.Option("--liif", envvar="LIIF_WEIGHTS", help="edsr-baseline-liif.pth as its authors published it."),
]


@app.command()
def weights(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Tiles of tissue that the weights were not trained on.")
    ],
    preset: Annotated[str, typer.Option("--preset", help="Preset of the network.")] = "iste_light",
    weights: common.WeightsOption = "released",
    liif: LiifOption = None,
    protocols: Annotated[
        str, typer.Option("--protocols", help="Protocols of the reduction, separated by commas.")
    ] = "iste-rgb,bicubic-rgb",
    scales: Annotated[str, typer.Option("--scales", help="Scale factors.")] = "2,3,4",
    crop: common.CropOption = 288,
    images: common.ImagesOption = None,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Score every tile. Scores in the file of --json are reused, so that an interrupted run resumes."""
    common.clock(device, threads)
    methods: dict[str, tuple[nn.Module, str | None]] = {BICUBIC: (Bicubic(), None)}
    if liif is not None:
        methods[PEER] = published_liif(liif, device), checksum(liif)
    for name in common.split_words(weights):
        file = require_weights(preset) if name == "released" else Path(name)
        methods[name] = load_network(preset, file, device), checksum(file)
    items = image_datalist(folder)[:images]
    rows: list[Row] = []
    for protocol in common.split_words(protocols):
        case = {"protocol": protocol, "crop": crop}
        rows += _score_tiles(methods, items, case, common.split_numbers(scales), device, json_file)
    _report(rows, list(methods), preset, device)
    return rows


# --- scoring ----------------------------------------------------------------------------------------------------------


def _score_tiles(
    methods: Mapping[str, tuple[nn.Module, str | None]],
    items: Sequence[Mapping[str, Any]],
    case: Row,
    scales: Sequence[float],
    device: str,
    file: Path | None,
) -> list[Row]:
    """Score every tile, scale and method; the file is written after every tile."""
    protocol = get_protocol(case["protocol"])
    known = _read_scores(file)
    rows = []
    for scale in scales:
        for item in tqdm(items, desc=f"{protocol.name} x{scale:g}", mininterval=2):
            about = {**case, "scale": scale, "image": item["name"], "image_sha256": checksum(item["image"])}
            wanted = [{"method": name, "weights": digest, **about} for name, (_, digest) in methods.items()]
            missing = [row for row in wanted if _identity(row) not in known]
            pair = tile_pair(item["image"], protocol, scale, case["crop"]) if missing else {}
            for row in missing:
                found = score(super_resolve(methods[row["method"]][0], pair, device), pair, protocol)
                known[_identity(row)] = {**row, **found}
            rows += [{**known[_identity(row)], "method": row["method"]} for row in wanted]
            if missing and file is not None:
                content = {"title": _TITLE, "environment": common.environment(device)}
                write_json(file, {**content, "rows": list(known.values())})
    return rows


def _read_scores(file: Path | None) -> dict[tuple[Any, ...], Row]:
    """Read earlier scores from the file, by their identity."""
    content = read_json(file) if file is not None else None
    if content is None:
        return {}
    if content.get("title") != _TITLE:
        raise DataError("a file of this command", f"{file}, of another", "Choose another name for --json.")
    return {_identity(row): row for row in content["rows"] if row.keys() >= set(SCORES)}


def _identity(row: Row) -> tuple[Any, ...]:
    """Return everything that a score depends on; file names are not part of it."""
    return tuple(row[key] for key in ("weights", "protocol", "scale", "crop", "image", "image_sha256"))


# --- printing ---------------------------------------------------------------------------------------------------------


def summary(rows: Sequence[Row], method: str) -> Row:
    """Summarize one method over tiles at one scale and protocol: means, extremes, and gains over the others.

    Args:
        rows: rows of every method on these tiles.
        method: method to summarize.
    Returns:
        the mean of every score and ``lowest_lr_psnr``, ``largest_color``, ``largest_shift``, ``largest_truth_shift``;
        under ``over``, for each of bicubic and LIIF that the method is compared with: the ``gain`` in dB as (mean, low,
        high) with a 95 % interval over tiles (:func:`~experiments.statistics.paired_bootstrap`; a single tile gives
        its gain three times), the number of tiles ``below`` it, and the ``worst`` tile with its gain.
    """
    by = {name: [row for row in rows if row["method"] == name] for name in {row["method"] for row in rows}}
    own = by[method]
    found: Row = {key: statistics.fmean(row[key] for row in own) for key in SCORES} | {"tiles": len(own)}
    found["lowest_lr_psnr"] = min(row["lr_psnr"] for row in own)
    found |= {f"largest_{key}": max(row[key] for row in own) for key in ("color", "shift", "truth_shift")}
    found["over"] = {}
    others = {BICUBIC: (), PEER: (BICUBIC,)}.get(method, (BICUBIC, PEER))
    for other in (name for name in others if name in by):
        gains = {a["image"]: a["psnr"] - b["psnr"] for a, b in zip(own, by[other], strict=True)}
        values = list(gains.values())
        worst = min(gains, key=lambda name: gains[name])
        found["over"][other] = {
            "gain": tuple(paired_bootstrap(values, [0.0] * len(values)) if len(values) > 1 else values * 3),
            "below": sum(value < 0 for value in values),
            "worst": (worst, gains[worst]),
        }
    return found


def _report(rows: Sequence[Row], methods: Sequence[str], preset: str, device: str) -> None:
    found = [{**case, "method": method, **summary(part, method)} for case, part in _cases(rows) for method in methods]
    whole = [row for row in found if row["source"] == ALL_SOURCES]
    common.report(f"Quality of {preset}", found, _quality, device, None)
    common.report("Tile by tile", [row for row in whole if row["over"]], _tile_by_tile, device, None)
    common.report("Faithfulness to the input", whole, _faithfulness, device, None)


def _cases(rows: Sequence[Row]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield every protocol, scale and source with its rows; first all sources, then each if there are several."""
    sources = sorted({source_of(row["image"]) for row in rows})
    for protocol, scale in dict.fromkeys((row["protocol"], row["scale"]) for row in rows):
        part = [row for row in rows if (row["protocol"], row["scale"]) == (protocol, scale)]
        for source in [ALL_SOURCES, *(sources if len(sources) > 1 else [])]:
            yield (
                {"protocol": protocol, "scale": scale, "source": source},
                [row for row in part if source in (ALL_SOURCES, source_of(row["image"]))],
            )


def _place(row: Row) -> Row:
    return {"protocol": row["protocol"], "scale": f"x{row['scale']:g}"}


def _quality(row: Row) -> Row:
    return {
        **_place(row),
        "source": row["source"],
        "tiles": row["tiles"],
        "method": row["method"],
        "PSNR dB": f"{row['psnr']:.2f}",
        "SSIM": f"{row['ssim']:.4f}",
        **{f"over {other} dB": _interval(*over["gain"]) for other, over in row["over"].items()},
    }


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _tile_by_tile(row: Row) -> Row:
    cells: Row = {**_place(row), "method": row["method"], "tiles": row["tiles"]}
    for other, over in row["over"].items():
        cells[f"below {other}"] = over["below"]
        cells[f"worst against {other}"] = f"{over['worst'][0]} {over['worst'][1]:+.2f} dB"
    return cells


def _faithfulness(row: Row) -> Row:
    return {
        **_place(row),
        "method": row["method"],
        "reduced again, dB": f"{row['lr_psnr']:.2f}",
        "lowest": f"{row['lowest_lr_psnr']:.2f}",
        "mean color, levels": f"{row['color']:.3f}",
        "largest color": f"{row['largest_color']:.3f}",
        "shift, LR pixels": f"{row['shift']:.4f}",
        "largest shift": f"{row['largest_shift']:.4f}",
        "largest of the truth": f"{row['largest_truth_shift']:.4f}",
    }


if __name__ == "__main__":
    common.run(app)
