"""Quality against cost: PSNR on tiles against processor seconds per output megapixel, measured in one run.

python -m benchmarks.quality_cost DIR --liif edsr-baseline-liif.pth --figure quality-cost.png
python -m benchmarks.quality_cost DIR --weights iste_light=runs/new/model.pt --weights lte_light=runs/lte/model.pt
python -m benchmarks.quality_cost DIR --presets iste_light --weights new=iste_light:runs/new/model.pt --crop 384
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Clock, Row
from benchmarks.contenders import BICUBIC, PEER, RELEASED, Contender, LiifOption, WeightsSpec, load, load_liif
from benchmarks.tile_scores import score, super_resolve, tile_pair
from benchmarks.tile_sets import LABELS, Gain, describe_sets, gain_over_cases, groups, tile_sets
from experiments.figures.style import COLUMN, check_figure_file, save_figure, style
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError
from monai_iste.metrics import get_protocol
from monai_iste.networks import Bicubic, create_network, released_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["app", "draw", "quality_cost"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def quality_cost(
    folders: common.TilesArgument,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="PRESET=FILE",
            help="Weights instead of the released ones; NAME=PRESET:FILE adds a network; repeatable.",
        ),
    ] = None,
    liif: LiifOption = None,
    presets: common.PresetsOption = f"iste,iste_small,{DEFAULT_PRESET}",
    scale: Annotated[float, typer.Option("--scale", help="Scale factor.")] = 4.0,
    protocol: Annotated[str, typer.Option("--protocol", help="Protocol of reduction and scores.")] = "iste-rgb",
    crop: Annotated[int, typer.Option("--crop", help="Side of the center crops in pixels.")] = 288,
    images: common.ImagesOption = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Number of tiles to time networks without weights on.")
    ] = 3,
    figure: Annotated[Path | None, typer.Option("--figure", help="PNG or PDF of quality against cost.")] = None,
    overwrite: common.OverwriteOption = False,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
    csv_file: common.CsvOption = None,
) -> list[Row]:
    """Upscale every tile with every network in turn; the timed calls are also the scored ones."""
    if figure is not None:
        check_figure_file(figure, overwrite)
    common.check_results(json_file, csv_file)
    now = common.clock(device, threads)
    contenders = _contenders(common.split_words(presets), weights or [], liif, device)
    items = tile_sets(folders, images)
    about = {
        **describe_sets(items, [protocol]),
        "weights": {name: one.describe() for name, one in contenders.items()},
        "labels": [{"image": item["name"], **{label: item[label] for label in LABELS}} for item in items],
        **{"scale": scale, "crop": crop},
    }
    rows = _measure(contenders, items, (protocol, scale, crop), now, repeats, device)
    title = f"Quality and cost at x{scale:g}, {protocol}, {len(items)} center crops of {crop} pixels"
    common.report(title, rows, _format_row, device, json_file, about)
    grouped = [part for row in rows for part in _by_group(row, rows[0], items)]
    large = [part for part in grouped if part["by"] in ("set", "source")]
    if large:
        common.report(f"{title}, by source", large, _format_group, device, None)
    common.save_csv(grouped, csv_file)
    if figure is not None:
        save_figure(draw(rows, scale, protocol), figure, overwrite)
    return rows


def _contenders(presets: Sequence[str], given: Sequence[str], liif: Path | None, device: str) -> dict[str, Contender]:
    """Create bicubic, the presets (with given, released or random weights, in this order), and LIIF as published."""
    specs: dict[str, WeightsSpec] = {}
    for text in given:
        spec = WeightsSpec.parse(text)
        if spec.name in (*specs, BICUBIC, PEER):
            raise ConfigError("--weights with a name of its own", repr(text), "Such as new=iste_light:model.pt.")
        specs[spec.name] = spec
    found = {BICUBIC: Contender(Bicubic())}
    for name in dict.fromkeys([*presets, *specs]):
        if name in specs or released_weights(name):
            found[name] = load(specs.get(name, WeightsSpec(name, name, RELEASED)), device)
        else:
            torch.manual_seed(0)
            found[name] = Contender(create_network(name).to(device).eval(), preset=name)
    if liif is not None:
        found[PEER] = load_liif(liif, device)
    return found


def _measure(
    contenders: Mapping[str, Contender],
    items: Sequence[Mapping[str, Any]],
    case: tuple[str, float, int],
    now: Clock,
    repeats: int,
    device: str,
) -> list[Row]:
    """Measure every network; they alternate tile by tile, so that temporary slowdowns affect all of them."""
    name, scale, crop = case
    protocol = get_protocol(name)
    seconds: dict[str, list[float]] = {what: [] for what in contenders}
    psnr: dict[str, list[float]] = {what: [] for what in contenders}
    ssim: dict[str, list[float]] = {what: [] for what in contenders}
    for number, item in enumerate(tqdm(items, desc="upscaling", mininterval=2)):
        pair = tile_pair(item["image"], protocol, scale, crop)
        for what, contender in contenders.items():
            if number >= repeats and not contender.scored:
                continue
            if number == 0:
                super_resolve(contender.network, pair, device)  # warm-up
            start = now()
            pred = super_resolve(contender.network, pair, device)
            seconds[what].append((now() - start) / (pred.shape[1] * pred.shape[2]) * 1e6)
            if contender.scored:
                scores = score(pred, pair, protocol)
                psnr[what].append(scores["psnr"])
                ssim[what].append(scores["ssim"])
    return [
        {
            "what": what,
            "parameters": contender.parameters,
            "weights": contender.weights,
            "seconds_per_megapixel": seconds[what],
            "psnr": psnr[what],
            "ssim": ssim[what],
        }
        for what, contender in contenders.items()
    ]


def _format_row(row: Row) -> Row:
    return {
        "network": row["what"],
        "parameters, M": f"{row['parameters'] / 1e6:.2f}",
        "s/megapixel": common.format_range(row["seconds_per_megapixel"]),
        "tiles timed": len(row["seconds_per_megapixel"]),
        "PSNR dB": f"{statistics.fmean(row['psnr']):.2f}" if row["psnr"] else "no weights",
        "SSIM": f"{statistics.fmean(row['ssim']):.4f}" if row["ssim"] else "",
    }


def _by_group(row: Row, bicubic: Row, items: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield the scores of a network for every group of tiles, with its gain over bicubic; nothing without scores."""
    if not row["psnr"]:
        return
    gains = [ours - its for ours, its in zip(row["psnr"], bicubic["psnr"], strict=True)]
    for by, name, members in groups(items):
        cases = [items[i]["case"] for i in members]
        gain = gain_over_cases([gains[i] for i in members], cases)
        yield {
            "what": row["what"],
            "by": by,
            "group": name,
            "tiles": len(members),
            "cases": len(set(cases)),
            "seconds_per_megapixel": statistics.median(row["seconds_per_megapixel"][i] for i in members),
            **{key: statistics.fmean(row[key][i] for i in members) for key in ("psnr", "ssim")},
            **{"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high},
        }


def _format_group(row: Row) -> Row:
    return {
        "network": row["what"],
        "by": row["by"],
        "group": row["group"],
        "tiles": row["tiles"],
        "cases": row["cases"],
        "s/megapixel": f"{row['seconds_per_megapixel']:.3g}",
        "PSNR dB": f"{row['psnr']:.2f}",
        "SSIM": f"{row['ssim']:.4f}",
        "over bicubic dB": str(Gain(row["gain"], row["gain_low"], row["gain_high"])),
    }


def draw(rows: Sequence[Row], scale: float, protocol: str) -> Figure:
    """Draw mean PSNR against median cost for every scored network; bars are quartiles."""
    with style():
        from matplotlib.figure import Figure

        chart = Figure(figsize=(COLUMN, 2.9), layout="constrained")
        axes = chart.add_subplot()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        for row, color in zip((row for row in rows if row["psnr"]), itertools.cycle(_COLORS), strict=False):
            cost, quality = row["seconds_per_megapixel"], statistics.fmean(row["psnr"])
            middle = statistics.median(cost)
            low, _, high = statistics.quantiles(cost, n=4) if len(cost) > 1 else [middle] * 3
            bar = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
            size = f", {row['parameters'] / 1e6:.2f} M parameters" if row["parameters"] else ""
            label = row["what"] + size
            axes.errorbar(
                middle, quality, xerr=bar, fmt="o", ms=4.5, color=color, elinewidth=0.8, capsize=1.5, label=label
            )
        chart.legend(loc="outside upper center", ncols=2, frameon=False, handletextpad=0.2, columnspacing=1)
        axes.margins(0.1)
        axes.set_xlabel("processor seconds per output megapixel")
        axes.set_ylabel(f"PSNR at x{scale:g}, dB ({protocol})")
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return chart


#: Colors of Okabe and Ito, distinguishable with red-green color blindness.
_COLORS = ("#000000", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00")


if __name__ == "__main__":
    common.run(app)
