"""Quality against cost: PSNR on tiles against processor seconds per output megapixel, measured in one run.

python -m benchmarks.quality_cost DIR --liif edsr-baseline-liif.pth --figure quality-cost.png
python -m benchmarks.quality_cost DIR --weights iste_light=runs/new/model.pt --weights lte_light=runs/lte/model.pt
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
import typer
from torch import nn
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Clock, Row
from benchmarks.tile_scores import published_liif, score, super_resolve, tile_pair
from benchmarks.weights import BICUBIC, PEER, LiifOption
from experiments.figures.style import COLUMN, check_figure_file, save_figure, style
from monai_iste.data import image_datalist
from monai_iste.errors import ConfigError
from monai_iste.io.files import checksum
from monai_iste.metrics import get_protocol
from monai_iste.networks import Bicubic, create_network, load_network, released_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["app", "draw", "quality_cost"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Contender(NamedTuple):
    """Network with the hash of its weights; None for random weights and for bicubic interpolation."""

    network: nn.Module
    weights: str | None

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.network.parameters())

    @property
    def scored(self) -> bool:
        """True if its quality is meaningful, that is, if its weights are trained or it has none."""
        return self.weights is not None or not self.parameters


@app.command()
def quality_cost(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Tiles of tissue that the weights were not trained on.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="PRESET=FILE", help="Weights instead of the released ones; repeatable."),
    ] = None,
    liif: LiifOption = None,
    presets: common.PresetsOption = "iste,iste_small,iste_light",
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
) -> list[Row]:
    """Upscale every tile with every network in turn; the timed calls are also the scored ones."""
    if figure is not None:
        check_figure_file(figure, overwrite)
    now = common.clock(device, threads)
    contenders = _contenders(common.split_words(presets), weights or [], liif, device)
    items = image_datalist(folder)[:images]
    rows = _measure(contenders, items, (protocol, scale, crop), now, repeats, device)
    title = f"Quality and cost at x{scale:g}, {protocol}, {len(items)} center crops of {crop} pixels"
    common.report(title, rows, _format_row, device, json_file)
    if figure is not None:
        save_figure(draw(rows, scale, protocol), figure, overwrite)
    return rows


def _contenders(presets: Sequence[str], given: Sequence[str], liif: Path | None, device: str) -> dict[str, Contender]:
    """Create bicubic, the presets (with given, released or random weights, in this order), and LIIF as published."""
    files: dict[str, str] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not file or name in files:
            raise ConfigError("--weights PRESET=FILE, once for each preset", repr(text), "Such as iste_light=model.pt.")
        files[name] = file
    found = {BICUBIC: Contender(Bicubic(), None)}
    for name in dict.fromkeys([*presets, *files]):
        path = files.get(name) or released_weights(name)
        if path is None:
            torch.manual_seed(0)
            found[name] = Contender(create_network(name).to(device).eval(), None)
        else:
            found[name] = Contender(load_network(name, path, device), checksum(path))
    if liif is not None:
        found[PEER] = Contender(published_liif(liif, device), checksum(liif))
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
                psnr[what].append(score(pred, pair, protocol)["psnr"])
    return [
        {
            "what": what,
            "parameters": contender.parameters,
            "weights": contender.weights,
            "seconds_per_megapixel": seconds[what],
            "psnr": psnr[what],
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
    }


def draw(rows: Sequence[Row], scale: float, protocol: str) -> Figure:
    """Draw mean PSNR against median cost for every scored network; bars are quartiles."""
    with style():
        from matplotlib.figure import Figure

        chart = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        axes = chart.add_subplot()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        for row, color in zip((row for row in rows if row["psnr"]), itertools.cycle(_COLORS), strict=False):
            cost, quality = row["seconds_per_megapixel"], statistics.fmean(row["psnr"])
            middle = statistics.median(cost)
            low, _, high = statistics.quantiles(cost, n=4) if len(cost) > 1 else [middle] * 3
            bar = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
            axes.errorbar(middle, quality, xerr=bar, fmt="o", ms=4.5, color=color, elinewidth=0.8, capsize=1.5)
            size = f"\n{row['parameters'] / 1e6:.2f} M parameters" if row["parameters"] else ""
            axes.annotate(
                row["what"] + size,
                (middle, quality),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        axes.margins(0.22)
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
