"""Robustness of weights to other degradations than the protocol's: sharper, noisy, or JPEG-compressed inputs.

python -m benchmarks.robustness DIR --scales 2,4
python -m benchmarks.robustness atlas=DIR old=DIR --weights released,new=runs/new/model.pt --liif FILE --csv FILE
python -m benchmarks.robustness DIR --scales 2,4,8 --figure failures.png
python -m benchmarks.robustness DIR --lower 2
python -m benchmarks.robustness DIR --scales 1    # cleaning alone: noise and JPEG
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from monai.metrics.regression import SSIMMetric
from monai.transforms import Compose, EnsureTyped, ScaleIntensityRanged
from torch import Tensor, nn

from benchmarks import common
from benchmarks.common import Row
from benchmarks.contenders import BICUBIC, LiifOption, contenders
from benchmarks.tile_sets import LABELS, Gain, describe_sets, gain_over_cases, groups, tile_sets
from experiments.figures.style import check_figure_file
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ShapeError
from monai_iste.io.files import open_output
from monai_iste.metrics import get_protocol
from monai_iste.metrics.protocols import AddBicubicd, AsScoredd
from monai_iste.transforms import ArbitraryScaleCropd, LoadRGBd, RandLowerMagnificationd
from monai_iste.transforms.random_degradation import DegradationSpec, degrade_with
from monai_iste.visualize import comparison

__all__ = ["CASES", "app", "block_steps", "blockiness", "pixel_steps", "robustness"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PROTOCOL = "iste-rgb"  # of the scores

BLOCK = 8  # side of a JPEG block in low-resolution pixels

#: Degradations. The first two are those of ``bicubic-rgb`` and ``iste-rgb``. JPEG is 4:2:0, with a block at the corner.
CASES: dict[str, DegradationSpec] = {
    "bicubic": DegradationSpec(blur=0),
    "blur_bicubic": DegradationSpec(),
    "area": DegradationSpec(blur=0, reduction="area"),
    "noise 2": DegradationSpec(noise=2),
    **{f"JPEG {quality}": DegradationSpec(quality=quality) for quality in (90, 75, 50, 30)},
    "bicubic, JPEG 75": DegradationSpec(blur=0, quality=75),
    "noise 2, JPEG 75": DegradationSpec(noise=2, quality=75),
}

#: Number of cases in a figure.
FAILURES = 3

METHODS = ("pred", "bicubic", "label")

_GRIDS = ("grid", "bicubic_grid", "truth_grid")


@app.command()
def robustness(
    folders: common.TilesArgument,
    preset: Annotated[str, typer.Option("--preset", help="Preset of files that name none.")] = DEFAULT_PRESET,
    weights: common.WeightsOption = "released",
    liif: LiifOption = None,
    scales: Annotated[str, typer.Option("--scales", help="Scale factors.")] = "2,4",
    crop: common.CropOption = 192,
    lower: Annotated[
        float, typer.Option("--lower", min=1.0, help="Factor to reduce all tiles by first, as a weaker objective does.")
    ] = 1.0,
    images: common.ImagesOption = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="PNG or PDF of the cases and tiles with the smallest gain.")
    ] = None,
    overwrite: common.OverwriteOption = False,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
    csv_file: common.CsvOption = None,
) -> list[Row]:
    """Score every degradation on the same tiles: scores as in iste-rgb, and visibility of block and pixel borders."""
    if figure is not None:
        check_figure_file(figure, overwrite)
    common.check_results(json_file, csv_file)
    common.clock(device, threads)
    found = contenders(common.split_words(weights), preset, liif, device)
    tiles = tile_sets(folders, images)
    paths = [str(item["image"]) for item in tiles]
    networks = {name: one.network for name, one in found.items() if name != BICUBIC}
    about = {
        **describe_sets(tiles, [PROTOCOL]),
        "weights": {name: found[name].describe() for name in networks},
        "crop": crop,
        "labels": [{"image": item["name"], **{label: item[label] for label in LABELS}} for item in tiles],
    }
    rows: list[Row] = []
    for scale in common.split_numbers(scales):
        for case, scan in _cases(scale).items():
            items = [_pair(path, scale, crop, lower, scan) for path in paths]
            for name, network in networks.items():
                row = {"weights": name, "lower": lower, "scale": scale, "degradation": case}
                rows.append({**row, **_scores(network, items, device)})
            common.save("Robustness", rows, device, json_file, about)
    lowered = "" if lower == 1 else f", tiles first reduced by {lower:g}"
    title = f"Robustness of {preset}{lowered}"
    common.report(title, rows, _format_row, device, json_file, about)
    grouped = [part for row in rows for part in _by_group(row, tiles)]
    large = [part for part in grouped if part["by"] in ("set", "source")]
    if large:
        common.report(f"{title}, by source", large, _format_group, device, None)
    common.save_csv(grouped, csv_file)
    if figure is not None:
        failures = [_failure(row, paths, crop, networks, device) for row in sorted(rows, key=_gain)[:FAILURES]]
        with open_output(figure, overwrite) as file:
            comparison(failures).save(file, figure.suffix[1:])
    return rows


def _cases(scale: float) -> dict[str, DegradationSpec]:
    """Return the degradations that differ at a scale: at 1 an image is neither blurred nor reduced."""
    if scale != 1:
        return CASES
    names: dict[tuple[float, int | None], str] = {}
    for name, spec in CASES.items():
        names.setdefault((spec.noise, spec.quality), name)
    return {name: CASES[name] for changes, name in names.items() if any(changes)}


def _gain(row: Row) -> float:
    return float(row["gain"])


def _failure(row: Row, paths: list[str], crop: int, networks: dict[str, nn.Module], device: str) -> dict[Any, Any]:
    """Return the tile with the smallest gain of a case, as input of :func:`monai_iste.visualize.comparison`."""
    gains = [ours - bicubic for ours, bicubic in zip(row["psnr"], row["bicubic_psnr"], strict=True)]
    path = paths[gains.index(min(gains))]
    item = _pair(path, row["scale"], crop, row["lower"], CASES[row["degradation"]])
    shown = _as_saved(networks[row["weights"]], item, device)
    return {**shown, "name": f"x{row['scale']:g}, {row['degradation']}"}


def _pair(path: str, scale: float, crop: int, lower: float, scan: DegradationSpec) -> dict[Any, Any]:
    weaker = RandLowerMagnificationd("image", prob=1, factor_range=(lower, lower), min_size=1)
    cut = Compose([LoadRGBd("image"), weaker, ArbitraryScaleCropd("image", max_size=crop)])
    label = cut({"image": path, "scale": scale})["image"]
    height, width = label.shape[1:]
    low = degrade_with(label, (round(height / scale), round(width / scale)), scan)
    keys = ("image", "label")
    ready = Compose([ScaleIntensityRanged(keys, 0, 255, 0, 1), EnsureTyped(keys, track_meta=False)])
    return dict(ready({"image": low, "label": label, "scale": scale}))


def _scores(network: nn.Module, items: list[dict[Any, Any]], device: str) -> Row:
    shave = get_protocol(PROTOCOL).shave
    similarity = SSIMMetric(spatial_dims=2)
    psnr: dict[str, list[float]] = {method: [] for method in METHODS[:2]}
    ssim: dict[str, list[float]] = {method: [] for method in METHODS[:2]}
    blocks: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    pixels: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for item in items:
        whole = _as_saved(network, item, device)
        for method in METHODS:
            blocks[method].append(block_steps(whole[method], item["image"].shape[1:]))
            if item["image"].shape != whole[method].shape:
                pixels[method].append(pixel_steps(whole[method], item["image"].shape[1:]))
        scored = AsScoredd(METHODS, shave)(whole)
        for method, found in psnr.items():
            error = (scored[method] - scored["label"]).square().mean()
            found.append(-10 * float(torch.log10(error)))
            both = (scored[key].unsqueeze(0) for key in (method, "label"))
            ssim[method].append(float(cast(Tensor, similarity(*both))))
    return {
        "psnr": psnr["pred"],
        "bicubic_psnr": psnr["bicubic"],
        "ssim": ssim["pred"],
        "bicubic_ssim": ssim["bicubic"],
        "gain": statistics.mean(psnr["pred"]) - statistics.mean(psnr["bicubic"]),
        "blockiness": blockiness(blocks["pred"]),
        "bicubic_blockiness": blockiness(blocks["bicubic"]),
        "truth_blockiness": blockiness(blocks["label"]),
        **{  # at scale 1 every border of pixels is one of the input's
            key: blockiness(pixels[method]) if pixels[method] else None
            for key, method in zip(_GRIDS, METHODS, strict=True)
        },
    }


@torch.no_grad()
def _as_saved(network: nn.Module, item: dict[Any, Any], device: str) -> dict[Any, Any]:
    """Add the network's and the bicubic result to the item, all rounded to 8 bits."""
    pred = network(item["image"].unsqueeze(0).to(device), scale=item["scale"])[0].cpu()
    return dict(AsScoredd(METHODS, 0)(AddBicubicd()({**item, "pred": pred})))


def block_steps(image: Tensor, lr_size: tuple[int, int]) -> tuple[float, float]:
    """Compute the mean step across the borders of JPEG blocks of the low-resolution image, and across other borders.

    An upscaled image ``Y`` of H rows from h has the border between the low-resolution rows ``j - 1`` and ``j`` at
    ``e(j) = round(j H / h)``. The step there is

        d(j) = mean over columns and channels of |Y(e(j)) - Y(e(j) - 1)|,   j = 1 ... h - 1

    Borders of blocks have j divisible by 8. They are compared with all other borders of low-resolution pixels, where
    interpolation is equally steep. Columns are treated likewise.

    Args:
        lr_size: (h, w).
    Shape:
        image: (C, H, W); the first JPEG block begins at the corner.
    Returns:
        mean of d over the borders of blocks, and over the other borders.
    Raises:
        ShapeError: the low-resolution image has no border of blocks.

    Example:
        >>> block_steps(torch.arange(32.0).expand(3, 32, 32), (16, 16))  # a ramp along the columns
        (0.5, 0.5)
    """
    if max(lr_size) <= BLOCK:
        raise ShapeError(
            f"a low-resolution image of more than {BLOCK} pixels, a whole JPEG block", str(lr_size), "Raise --crop."
        )
    on: list[float] = []
    off: list[float] = []
    for step, borders in _steps(image, lr_size):
        for j, border in enumerate(borders, start=1):
            (off if j % BLOCK else on).append(float(step[border - 1]))
    return statistics.mean(on), statistics.mean(off)


def pixel_steps(image: Tensor, lr_size: tuple[int, int]) -> tuple[float, float]:
    """Compute the mean step across the borders ``e(j)`` of low-resolution pixels (:func:`block_steps`), and elsewhere.

    If each output pixel depends on its nearest low-resolution pixel only, these borders may be visible as a fine grid.

    Args:
        lr_size: (h, w).
    Shape:
        image: (C, H, W), upscaled by more than 1.

    Example:
        >>> nearest = torch.arange(8.0).repeat_interleave(2).expand(3, 16, 16)  # steps at borders alone, along one axis
        >>> on, off = pixel_steps(nearest, (8, 8))
        >>> on, off
        (0.5, 0.0)
    """
    on: list[float] = []
    off: list[float] = []
    for step, borders in _steps(image, lr_size):
        inside = torch.ones_like(step, dtype=torch.bool)
        inside[torch.tensor(borders) - 1] = False
        on += step[~inside].tolist()
        off += step[inside].tolist()
    return statistics.mean(on), statistics.mean(off)


def _steps(image: Tensor, lr_size: tuple[int, int]) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield, for rows and then columns, the mean step after each and the borders e(j), j from 1."""
    for axis, few in ((1, lr_size[0]), (2, lr_size[1])):
        borders = [round(j * image.shape[axis] / few) for j in range(1, few)]
        yield image.diff(dim=axis).abs().double().mean((0, 3 - axis)), borders


def blockiness(steps: list[tuple[float, float]]) -> float:
    """Divide the mean step across borders by the mean step elsewhere, over all images; 1 if no border is visible.

    Example:
        >>> blockiness([(3.0, 1.0), (1.0, 1.0)])
        2.0
    """
    on, off = zip(*steps, strict=True)
    return statistics.mean(on) / statistics.mean(off)


def _by_group(row: Row, tiles: list[Row]) -> Iterator[Row]:
    """Yield the scores of a row for every group of tiles, then tile by tile."""
    case = {key: row[key] for key in ("weights", "lower", "scale", "degradation")}
    names = ("psnr", "bicubic_psnr", "ssim", "bicubic_ssim")
    gains = [ours - bicubic for ours, bicubic in zip(row["psnr"], row["bicubic_psnr"], strict=True)]
    for by, name, members in groups(tiles):
        cases = [tiles[i]["case"] for i in members]
        gain = gain_over_cases([gains[i] for i in members], cases)
        yield {
            **case,
            "by": by,
            "group": name,
            "tiles": len(members),
            "cases": len(set(cases)),
            **{key: statistics.mean(row[key][i] for i in members) for key in names},
            **{"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high},
            "tiles_below_bicubic": sum(gains[i] < 0 for i in members),
        }
    for i, tile in enumerate(tiles):
        labels = {label: tile[label] for label in LABELS}
        scores = {**{key: row[key][i] for key in names}, "gain": gains[i]}
        yield {**case, "by": "tile", "group": tile["name"], **scores, **labels}


def _format_group(row: Row) -> Row:
    return {
        "weights": row["weights"],
        "scale": f"x{row['scale']:g}",
        "degradation": row["degradation"],
        "by": row["by"],
        "group": row["group"],
        "tiles": row["tiles"],
        "cases": row["cases"],
        "gain dB": str(Gain(row["gain"], row["gain_low"], row["gain_high"])),
        "tiles below bicubic": row["tiles_below_bicubic"],
    }


def _format_row(row: Row) -> Row:
    means: Iterator[float] = (statistics.mean(row[key]) for key in ("bicubic_psnr", "psnr"))
    return {
        "weights": row["weights"],
        "scale": f"x{row['scale']:g}",
        "degradation": row["degradation"],
        **dict(zip(("bicubic dB", "network dB"), (f"{value:.2f}" for value in means), strict=True)),
        "gain dB": f"{row['gain']:+.2f}",
        "SSIM: bicubic, network": ", ".join(f"{statistics.mean(row[key]):.4f}" for key in ("bicubic_ssim", "ssim")),
        "blockiness: network": f"{row['blockiness']:.3f}",
        "bicubic": f"{row['bicubic_blockiness']:.3f}",
        "truth": f"{row['truth_blockiness']:.3f}",
        "grid: network, bicubic, truth": ", ".join(f"{row[key]:.3f}" for key in _GRIDS if row[key] is not None),
        "images": len(row["psnr"]),
    }


if __name__ == "__main__":
    common.run(app)
