"""Quality of weights on tiles of tissue, beside bicubic interpolation and LIIF with its authors' weights.

python -m benchmarks.weights DIR --liif edsr-baseline-liif.pth --json scores.json
python -m benchmarks.weights DIR --weights released,runs/new/model.pt --json scores.json
python -m benchmarks.weights atlas=DIR old=DIR --weights new=runs/new/model.pt,old=iste_light:FILE --csv scores.csv
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any

import typer
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Row
from benchmarks.contenders import BICUBIC, PEER, Contender, LiifOption, add_told, contenders
from benchmarks.tile_scores import SCORES, score, super_resolve, tile_pair
from benchmarks.tile_sets import LABELS, Group, describe_sets, gain_over_cases, groups, tile_sets
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import DataError
from monai_iste.io.files import checksum
from monai_iste.io.json_files import check_shape, read_json, write_json
from monai_iste.metrics import get_protocol

__all__ = ["app", "checks", "summary", "weights"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_TITLE = "Weights"  # title of the JSON file

#: Groups that the main table has; organs and cases have a table of their own.
_LARGE = ("all", "set", "source")


@app.command()
def weights(
    folders: common.TilesArgument,
    preset: Annotated[str, typer.Option("--preset", help="Preset of files that name none.")] = DEFAULT_PRESET,
    weights: common.WeightsOption = "released",
    told: Annotated[
        str,
        typer.Option("--told", help="Names of --weights that are scored again, told the blur of the input."),
    ] = "",
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
    csv_file: common.CsvOption = None,
) -> list[Row]:
    """Score every tile. Scores in the file of --json are reused, so that an interrupted run resumes."""
    common.check_results(json_file, csv_file)
    common.clock(device, threads)
    methods = add_told(contenders(common.split_words(weights), preset, liif, device), common.split_words(told))
    items = tile_sets(folders, images)
    names = common.split_words(protocols)
    about = {**describe_sets(items, names), "weights": {name: one.describe() for name, one in methods.items()}}
    rows: list[Row] = []
    for name in names:
        case = {"protocol": name, "crop": crop}
        rows += _score_tiles(methods, items, case, common.split_numbers(scales), device, json_file, about)
    _report(rows, list(methods), preset, device, csv_file)
    return rows


# --- scoring ----------------------------------------------------------------------------------------------------------


def _score_tiles(
    methods: Mapping[str, Contender],
    items: Sequence[Mapping[str, Any]],
    case: Row,
    scales: Sequence[float],
    device: str,
    file: Path | None,
    measured: Row,
) -> list[Row]:
    """Score every tile, scale and method; the file is written after every tile."""
    protocol = get_protocol(case["protocol"])
    known = _read_scores(file)
    rows = []
    for scale in scales:
        for item in tqdm(items, desc=f"{protocol.name} x{scale:g}", mininterval=2):
            about = {**case, "scale": scale, "image": item["name"], "image_sha256": checksum(item["image"])}
            labels = {label: item[label] for label in LABELS}
            wanted = [
                {"method": name, "weights": one.weights, "blur_told": one.told, **about, **labels}
                for name, one in methods.items()
            ]
            missing = [row for row in wanted if _identity(row) not in known]
            pair = tile_pair(item["image"], protocol, scale, case["crop"]) if missing else {}
            for row in missing:
                pred = super_resolve(methods[row["method"]].network, pair, device, row["blur_told"])
                found = score(pred, pair, protocol)
                if not math.isfinite(found["psnr"]):
                    reason = f"{item['name']}, which {row['method']} reproduces exactly"
                    raise DataError("tiles with a finite PSNR", reason, "Leave out tiles of one color.")
                known[_identity(row)] = {**row, **found}
            rows += [{**known[_identity(row)], **row} for row in wanted]
            if missing and file is not None:
                content = {"title": _TITLE, "environment": common.environment(device), "measured": measured}
                write_json(file, {**content, "rows": list(known.values())})
    return rows


def _read_scores(file: Path | None) -> dict[tuple[Any, ...], Row]:
    """Read earlier scores from the file, by their identity."""
    remedy = "Choose another name for --json, restore the file, or remove it."
    content = read_json(file, {"title": str}, remedy) if file is not None else None
    if content is None:
        return {}
    if content["title"] != _TITLE:
        raise DataError("a file of this command", f"{file}, of another", "Choose another name for --json.")
    rows = check_shape(content, {"rows": [_IDENTITY]}, file, remedy)["rows"]
    complete = [row for row in rows if row.keys() >= set(SCORES)]  # earlier versions had fewer
    if complete:
        check_shape(complete, [dict.fromkeys(SCORES, float)], file, remedy)
    return {_identity(row): row for row in complete}


# What identifies a score, in a file.
_IDENTITY = {
    **dict.fromkeys(("protocol", "image", "image_sha256"), str),
    **{"weights": (str, NoneType), "scale": float, "crop": (int, NoneType)},
}


def _identity(row: Row) -> tuple[Any, ...]:
    """Return everything that a score depends on; names of files of weights are not part of it."""
    keys = ("weights", "protocol", "scale", "crop", "image", "image_sha256")
    return (bool(row.get("blur_told")), *(row[key] for key in keys))


# --- summaries --------------------------------------------------------------------------------------------------------


def summary(rows: Sequence[Row], method: str) -> Row:
    """Summarize one method over tiles at one scale and protocol: means, extremes, and gains over the others.

    Args:
        rows: rows of every method on these tiles.
        method: method to summarize.
    Returns:
        the mean of every score, the numbers of ``tiles`` and ``cases``, and ``lowest_lr_psnr``, ``largest_color``,
        ``largest_shift``, ``largest_truth_shift``; under ``over``, for each of bicubic and LIIF that the method is
        compared with: the ``gain`` in dB (:class:`~benchmarks.tile_sets.Gain`) and that of SSIM, the number of tiles
        ``below`` it, and the ``worst`` tile with its gain.
    """
    by = {name: [row for row in rows if row["method"] == name] for name in {row["method"] for row in rows}}
    own = by[method]
    cases = [row["case"] for row in own]
    found: Row = {key: statistics.fmean(row[key] for row in own) for key in SCORES}
    found |= {"tiles": len(own), "cases": len(set(cases))}
    found["lowest_lr_psnr"] = min(row["lr_psnr"] for row in own)
    found |= {f"largest_{key}": max(row[key] for row in own) for key in ("color", "shift", "truth_shift")}
    found["over"] = {}
    others = {BICUBIC: (), PEER: (BICUBIC,)}.get(method, (BICUBIC, PEER))
    for other in (name for name in others if name in by):
        gains, gains_ssim = ([a[key] - b[key] for a, b in zip(own, by[other], strict=True)] for key in ("psnr", "ssim"))
        worst = min(range(len(own)), key=gains.__getitem__)
        found["over"][other] = {
            "gain": gain_over_cases(gains, cases),
            "gain_ssim": gain_over_cases(gains_ssim, cases),
            "below": sum(value < 0 for value in gains),
            "worst": (own[worst]["image"], gains[worst]),
        }
    return found


def _parts(rows: Sequence[Row]) -> Iterator[tuple[Row, Group, list[Row]]]:
    """Yield every protocol, scale and group of tiles with its rows."""
    for protocol, scale in dict.fromkeys((row["protocol"], row["scale"]) for row in rows):
        part = [row for row in rows if (row["protocol"], row["scale"]) == (protocol, scale)]
        methods = list(dict.fromkeys(row["method"] for row in part))
        tiles = part[:: len(methods)]
        for group in groups(tiles):
            chosen = [part[i * len(methods) + j] for i in group.members for j in range(len(methods))]
            yield {"protocol": protocol, "scale": scale}, group, chosen


def checks(rows: Sequence[Row]) -> list[str]:
    """Check every method tile by tile against bicubic, and case by case against LIIF; one line for each.

    A line names what is below, with its gain in dB, the lowest first.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    scales = ", ".join(f"x{scale:g}" for scale in sorted({row["scale"] for row in rows}))
    where = f"{scales}; {', '.join(dict.fromkeys(row['protocol'] for row in rows))}"
    units = {BICUBIC: ("tile", ("set", "image", "image_sha256")), PEER: ("case", ("set", "case"))}
    lines = []
    for other, (unit, keys) in units.items():
        for method in (name for name in methods if other in methods and name not in (other, BICUBIC)):
            gains: dict[tuple[Any, ...], list[float]] = {}
            both = ([row for row in rows if row["method"] == name] for name in (method, other))
            for own, its in zip(*both, strict=True):
                key = (*(own[key] for key in keys), own["protocol"], own["scale"])
                gains.setdefault(key, []).append(own["psnr"] - its["psnr"])
            mean = {key: statistics.fmean(values) for key, values in gains.items()}
            below = sorted((gain, key) for key, gain in mean.items() if gain < 0)
            count = len({key[: len(keys)] for key in mean})
            verdict = f"{len(below)} of {len(mean)} below it: " if below else "passed"
            named = "; ".join(f"{key[1]} ({key[-2]} x{key[-1]:g}) {gain:+.2f} dB" for gain, key in below)
            lines.append(f"{method}, no {unit} below {other} ({count} {unit}s; {where}): {verdict}{named}")
    return lines


# --- printing ---------------------------------------------------------------------------------------------------------


def _report(rows: Sequence[Row], methods: Sequence[str], preset: str, device: str, csv_file: Path | None) -> None:
    found = [
        {**case, "by": group.by, "group": group.name, "method": method, **summary(part, method)}
        for case, group, part in _parts(rows)
        for method in methods
    ]
    whole = [row for row in found if row["by"] == "all"]
    small = [row for row in found if row["by"] not in _LARGE and row["over"]]
    common.report(f"Quality of {preset}", [row for row in found if row["by"] in _LARGE], _quality, device, None)
    if small:
        common.report("By organ and case", small, _quality, device, None)
    common.report("Tile by tile", [row for row in whole if row["over"]], _tile_by_tile, device, None)
    common.report("Faithfulness to the input", whole, _faithfulness, device, None)
    typer.echo("\n".join(["Checks", *checks(rows)]))
    common.save_csv([_flat(row) for row in found] + [_tile(row) for row in rows], csv_file)


def _flat(row: Row) -> Row:
    """Return a summary as a row of the CSV file, without nesting."""
    place = {key: row[key] for key in ("by", "group", "protocol", "scale", "method", "tiles", "cases")}
    flat = {**place, **{key: row[key] for key in SCORES}}
    for other, over in row["over"].items():
        for key, gain in (("psnr", over["gain"]), ("ssim", over["gain_ssim"])):
            start = f"{key}_over_{other}"
            flat |= {start: gain.mean, f"{start}_low": gain.low, f"{start}_high": gain.high}
        flat[f"tiles_below_{other}"] = over["below"]
    return flat


def _tile(row: Row) -> Row:
    """Return a tile's scores as a row of the CSV file."""
    place = {key: row[key] for key in ("protocol", "scale", "method")}
    labels = {key: row[key] for key in LABELS}
    return {"by": "tile", "group": row["image"], **place, **{key: row[key] for key in SCORES}, **labels}


def _place(row: Row) -> Row:
    return {"protocol": row["protocol"], "scale": f"x{row['scale']:g}"}


def _quality(row: Row) -> Row:
    return {
        **_place(row),
        "by": row["by"],
        "group": row["group"],
        "tiles": row["tiles"],
        "cases": row["cases"],
        "method": row["method"],
        "PSNR dB": f"{row['psnr']:.2f}",
        "SSIM": f"{row['ssim']:.4f}",
        **{f"over {other} dB": str(over["gain"]) for other, over in row["over"].items()},
    }


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
