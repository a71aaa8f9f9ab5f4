"""Robustness of weights to other degradations than the protocol's: sharper, noisy, or JPEG-compressed inputs.

python -m benchmarks.robustness DIR --scales 2,4
python -m benchmarks.robustness DIR --weights released,runs/new/model.pt
python -m benchmarks.robustness DIR --scales 2,4,8 --figure failures.png
python -m benchmarks.robustness DIR --lower 2
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from monai.transforms import Compose, EnsureTyped, ScaleIntensityRanged
from torch import Tensor, nn

from benchmarks import common
from benchmarks.common import Row
from experiments.figures.style import check_figure_file
from monai_iste.data import image_datalist
from monai_iste.errors import ShapeError
from monai_iste.io.files import open_output
from monai_iste.metrics import get_protocol
from monai_iste.metrics.protocols import AddBicubicd, AsScoredd
from monai_iste.networks.runtime import load_network
from monai_iste.transforms import ArbitraryScaleCropd, LoadRGBd, RandLowerMagnificationd
from monai_iste.transforms.random_degradation import DegradationSpec, degrade_with
from monai_iste.visualize import comparison

__all__ = ["CASES", "app", "block_steps", "blockiness", "pixel_steps", "robustness"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

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


@app.command()
def robustness(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Tiles of tissue; for a choice of weights, validation tiles.")
    ],
    preset: Annotated[str, typer.Option("--preset", help="Preset of the network.")] = "iste_light",
    weights: common.WeightsOption = "released",
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
) -> list[Row]:
    """Score every degradation on the same tiles: PSNR as in iste-rgb, and visibility of block and pixel borders."""
    if figure is not None:
        check_figure_file(figure, overwrite)
    common.clock(device, threads)
    paths = [str(item["image"]) for item in image_datalist(folder)][:images]
    networks = {
        name: load_network(preset, None if name == "released" else name, device) for name in common.split_words(weights)
    }
    rows: list[Row] = []
    for scale in common.split_numbers(scales):
        for case, scan in CASES.items():
            items = [_pair(path, scale, crop, lower, scan) for path in paths]
            for name, network in networks.items():
                row = {"weights": name, "lower": lower, "scale": scale, "degradation": case}
                rows.append({**row, **_scores(network, items, device)})
            common.save("Robustness", rows, device, json_file)
    tiles = "" if lower == 1 else f", tiles first reduced by {lower:g}"
    common.report(f"Robustness of {preset}{tiles}", rows, _format_row, device, json_file)
    if figure is not None:
        failures = [_failure(row, paths, crop, networks, device) for row in sorted(rows, key=_gain)[:FAILURES]]
        with open_output(figure, overwrite) as file:
            comparison(failures).save(file, figure.suffix[1:])
    return rows


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
    shave = get_protocol("iste-rgb").shave
    psnr: dict[str, list[float]] = {method: [] for method in METHODS[:2]}
    blocks: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    pixels: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for item in items:
        whole = _as_saved(network, item, device)
        for method in METHODS:
            blocks[method].append(block_steps(whole[method], item["image"].shape[1:]))
            pixels[method].append(pixel_steps(whole[method], item["image"].shape[1:]))
        scored = AsScoredd(METHODS, shave)(whole)
        for method, found in psnr.items():
            error = (scored[method] - scored["label"]).square().mean()
            found.append(-10 * float(torch.log10(error)))
    return {
        "psnr": psnr["pred"],
        "bicubic_psnr": psnr["bicubic"],
        "gain": statistics.mean(psnr["pred"]) - statistics.mean(psnr["bicubic"]),
        "blockiness": blockiness(blocks["pred"]),
        "bicubic_blockiness": blockiness(blocks["bicubic"]),
        "truth_blockiness": blockiness(blocks["label"]),
        "grid": blockiness(pixels["pred"]),
        "bicubic_grid": blockiness(pixels["bicubic"]),
        "truth_grid": blockiness(pixels["label"]),
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


def _format_row(row: Row) -> Row:
    means: Iterator[float] = (statistics.mean(row[key]) for key in ("bicubic_psnr", "psnr"))
    return {
        "weights": row["weights"],
        "scale": f"x{row['scale']:g}",
        "degradation": row["degradation"],
        **dict(zip(("bicubic dB", "network dB"), (f"{value:.2f}" for value in means), strict=True)),
        "gain dB": f"{row['gain']:+.2f}",
        "blockiness: network": f"{row['blockiness']:.3f}",
        "bicubic": f"{row['bicubic_blockiness']:.3f}",
        "truth": f"{row['truth_blockiness']:.3f}",
        "grid: network, bicubic, truth": f"{row['grid']:.3f}, {row['bicubic_grid']:.3f}, {row['truth_grid']:.3f}",
        "images": len(row["psnr"]),
    }


if __name__ == "__main__":
    common.run(app)
