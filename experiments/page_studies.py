"""Tables of the pages about comparisons of trainings, made from their files of scores (:mod:`experiments.check`)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from experiments.page_sources import Row, Source, interval, number, one, select, table
from experiments.page_tables import Lines


def _scales(rows: Sequence[Row]) -> list[float]:
    """List the scales of a file of scores."""
    return sorted({number(row, "scale") for row in rows})


def _heads(rows: Sequence[Row]) -> list[str]:
    return [f"x{scale:g}" for scale in _scales(rows)]


def _psnr(rows: Sequence[Row], method: str) -> list[str]:
    """Format PSNR at every scale, with the deviation over seeds where there is one."""
    cells = []
    for scale in _scales(rows):
        found = select(rows, method=method, scale=scale)
        cells.append(_with_deviation(found[0], "psnr", 2) if found else "-")
    return cells


@table
def methods(rows: Source, manifest: Source) -> Lines:
    """Make Table I or II: PSNR of every method, with the processor seconds of its trainings.

    Args:
        rows: ``table1.csv``, ``table2.csv``.
        manifest: ``table1-manifest.json``, ``table2-manifest.json``. Seconds are means over seeds; methods of one scale
            have one for each scale.
    """
    lines = [["PSNR dB", *_heads(rows), "processor s"]]
    for method in dict.fromkeys(row["method"] for row in rows):
        label = select(rows, method=method)[0]["label"]
        seconds: dict[str, list[float]] = {}
        for name, run in manifest["runs"].items():
            if "cpu_seconds" in run and name.startswith(f"{method}-"):
                seconds.setdefault(name.rpartition("-seed")[0], []).append(run["cpu_seconds"])
        times = [f"{statistics.fmean(values):,.0f}" for values in seconds.values()]
        lines.append([label, *_psnr(rows, method), ", ".join(times) or "0"])
    return lines


@table
def alternatives(rows: Source, differences: Source, over: str = "images") -> Lines:
    """Make the differences of other methods to ISTE, such as of ``choices.csv`` and ``choices-differences.csv``.

    The file has ISTE minus each of them.

    Args:
        over: unit of the intervals: images, or cases.
    """
    lines = [[f"minus ISTE, dB (95 % over {over})", *_heads(differences)]]
    for method in dict.fromkeys(row["other"] for row in differences):
        cells = []
        for scale in _scales(differences):
            row = one(differences, metric="psnr", other=method, scale=scale)
            mean, low, high = (-number(row, key) for key in ("mean", "high", "low"))
            cells.append(f"{_plain(mean, '+')} ({_plain(low)} to {_plain(high)})")
        lines.append([select(rows, method=method)[0]["label"], *cells])
    return lines


def _plain(value: float, sign: str = "") -> str:
    text = f"{value:{sign}.2f}"
    return "0.00" if float(text) == 0 else text


@table
def corners(choices: Source, rows: Source) -> Lines:
    """Make PSNR of ISTE with textures at four corners, beside LTE: ``choices.csv``, ``table1.csv``."""
    found = (("ISTE, four corners", _psnr(choices, "four_corners")), ("LTE", _psnr(rows, "lte")))
    return [
        ["PSNR dB", *_heads(choices)],
        *([name, *(cell.split(" ± ")[0] for cell in cells)] for name, cells in found),
    ]


@table
def glands(rows: Source) -> Lines:
    """Make Table III from ``table3.csv``."""
    words = {"original": "originals", "reconstructed": "reconstructions", "bicubic": "bicubic"}
    lines = [["setting", "F1", "object Dice", "object Hausdorff, pixels"]]
    for row in rows:
        setting = f"trained on {words[row['trained_on']]}, run on {words[row['run_on']]}"
        scores = [_with_deviation(row, key, digits) for key, digits in (("f1", 3), ("object_dice", 3))]
        lines.append([setting, *scores, _with_deviation(row, "object_hausdorff", 0)])
    return lines


@table
def tumors(rows: Source) -> Lines:
    """Make Table IV from ``table4.csv``."""
    names = {"original": "originals", "low_resolution": "reductions, at their own size", "bicubic": "bicubic"}
    lines = [["the classifier's input", "accuracy, %", "F1"]]
    for row in rows:
        scores = [_with_deviation(row, key, digits) for key, digits in (("accuracy", 1), ("f1", 3))]
        name = names.get(row["setting"], f"{row['label']} (`{row['note']}`)")
        lines.append([name, *scores])
    return lines


def _with_deviation(row: Row, key: str, digits: int) -> str:
    """Format a mean over seeds, with the deviation where there are several."""
    deviation = f" ± {number(row, f'{key}_std'):.{digits}f}" if row.get(f"{key}_std") else ""
    return f"{number(row, key):.{digits}f}{deviation}"


@table
def parts(rows: Source) -> Lines:
    """Make what a network loses without each of its parts, from the CSV file of :mod:`benchmarks.parts`."""
    columns = [(protocol, scale) for protocol in ("iste-rgb", "bicubic-rgb") for scale in (2, 4)]
    heads = [f"{protocol} x{scale}" for protocol, scale in columns]
    lines = [["change of PSNR, dB", *heads, "difference at x4, levels"]]
    for name in dict.fromkeys(row["part"] for row in rows):
        found = [one(rows, part=name, protocol=protocol, scale=scale) for protocol, scale in columns]
        changes = [interval(row, "change") for row in found]
        lines.append([name, *changes, f"{number(found[1], 'difference'):.2f}"])
    return lines[:1] + lines[2:]  # the whole network is what the others are compared with


@table
def validation_tiles(rows: Source) -> Lines:
    """Make PSNR of networks on validation tiles, with and without blur, for every kind of ground truth."""
    protocols = [("iste-rgb", "blur"), ("bicubic-rgb", "no blur")]
    heads = [f"{word} x{scale}" for _, word in protocols for scale in (2, 3, 4)]
    lines = [["validation tiles", "network", *heads, "mean"]]
    for truth, network in dict.fromkeys((row["truth"], row["network"]) for row in rows):
        of = {"truth": truth, "network": network}
        found = [one(rows, protocol=name, scale=scale, **of) for name, _ in protocols for scale in (2, 3, 4)]
        scores = [number(row, "psnr") for row in found]
        lines.append([truth, network, *(f"{score:.2f}" for score in scores), f"{statistics.fmean(scores):.2f}"])
    return lines


@table
def second_generation(rows: Source) -> Lines:
    """Make the comparison of light networks after equal processor time."""
    keys = ("blur_x2", "blur_x3", "blur_x4", "no_blur_x2", "no_blur_x3", "no_blur_x4", "mean")
    heads = ("blur x2", "x3", "x4", "no blur x2", "x3", "x4", "mean")
    lines = [["encoder", "textures", "corners blended", "parameters", "steps", *heads]]
    for row in rows:
        size = f"{number(row, 'parameters') / 1e6:.2f} M"
        steps = f"{number(row, 'steps'):,.0f}"
        scores = [f"{number(row, key):.2f}" for key in keys]
        lines.append([row["encoder"], row["textures"], row["blended"], size, steps, *scores])
    return lines


@table
def keys(scores: Source) -> Lines:
    """Make what the number of keys costs and gains, from the JSON file of :mod:`benchmarks.choices`."""
    lines = [["preset", "scale", "keys", "PSNR dB", "s/megapixel", "mean difference, levels"]]
    for row in _choices(scores, "psnr"):
        cells = [f"{row['psnr']:.3f}", f"{row['seconds_per_megapixel']:.3g}", f"{row['mean_difference']:.3f}"]
        lines.append([row["preset"], f"x{row['scale']:g}", row["choice"], *cells])
    return lines


@table
def windows(scores: Source) -> Lines:
    """Make what windows change and cost, from the JSON file of :mod:`benchmarks.choices`."""
    lines = [["preset", "scale", "windows", "largest difference, levels", "mean", "step across borders", "x whole"]]
    for row in _choices(scores, "times_whole"):
        step = "" if row["border_steps"] is None else f"{row['border_steps']:.3f}"
        cells = [f"{row['max_difference']:.2f}", f"{row['mean_difference']:.4f}", step, f"{row['times_whole']:.2f}"]
        lines.append([row["preset"], f"x{row['scale']:g}", row["choice"], *cells])
    return lines


def _choices(scores: Source, measured: str) -> list[Row]:
    return [row for row in scores["rows"] if measured in row]
