"""Quality and cost of the choices at inference: retrieval keys, windows, overlaps and halos.

python -m benchmarks.choices DIR --presets iste_light
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks import common
from benchmarks.common import Clock, Row
from monai_iste import DEFAULT_PRESET
from monai_iste.data import image_datalist
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.metrics import get_protocol
from monai_iste.networks import ISTE

__all__ = ["app", "choices"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

KEYS: dict[str, dict[str, Any]] = {
    "lattice, 8^2 keys": {"key_side": 8},
    "lattice, 16^2 keys": {"key_side": 16},
    "lattice, 48^2 keys": {"key_side": 48},
    "all": {"inference_keys": "all"},
}
#: Window, overlap and halo in low-resolution pixels.
TILINGS = [(48, 16, 16), (96, 16, 0), (96, 16, 8), (96, 16, 16), (96, 16, 24), (96, 32, 16), (192, 16, 16)]


@app.command()
def choices(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Validation tiles of tissue.")],
    presets: common.PresetsOption = DEFAULT_PRESET,
    scales: Annotated[str, typer.Option("--scales", help="Scale factors.")] = "2,4",
    crop: Annotated[int, typer.Option("--crop", help="Side of the scored center crops in pixels.")] = 288,
    images: Annotated[
        int, typer.Option("--images", min=1, help="Number of tiles for the windows, the first of the folder.")
    ] = 2,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Score every choice on the same tiles under the protocol iste-rgb."""
    now, rows = common.clock(device, threads), []
    paths = [Path(item["image"]) for item in image_datalist(folder)]
    for preset in common.split_words(presets):
        for scale in common.split_numbers(scales):
            case = {"preset": preset, "scale": scale}
            rows += [{**case, **row} for row in _keys(preset, scale, paths, crop, now, device)]
            rows += [{**case, **row} for row in _tilings(preset, scale, paths[:images], now, device)]
            common.save("Choices", rows, device, json_file)
    common.report("Retrieval keys", [row for row in rows if "psnr" in row], _format_keys, device, None)
    common.report("Windows", [row for row in rows if "psnr" not in row], _format_tilings, device, None)
    return rows


@torch.no_grad()
def _keys(preset: str, scale: float, paths: list[Path], crop: int, now: Clock, device: str) -> Iterator[Row]:
    """Measure PSNR, seconds per output megapixel, and the difference to the preset's own choice."""
    protocol = get_protocol("iste-rgb")
    items = [protocol.preprocessing(crop)({"image": str(path), "scale": scale}) for path in paths]
    own = common.load_preset(preset, device)
    expected = [_time_call(own, item["image"], scale, now, device)[0] for item in items]
    for name, changes in KEYS.items():
        net, scores, seconds, pixels, apart = common.load_preset(preset, device, **changes), [], 0.0, 0, []
        for item, before in zip(items, expected, strict=True):
            pred, taken = _time_call(net, item["image"], scale, now, device)
            scored = protocol.postprocessing()({**item, "pred": pred})
            scores.append(-10 * float(torch.log10((scored["pred"] - scored["label"]).square().mean())))
            seconds, pixels = seconds + taken, pixels + pred[0].numel()
            apart.append(float((pred - before).abs().mean()) * 255)
        yield {
            "choice": name,
            "psnr": statistics.mean(scores),
            "seconds_per_megapixel": seconds / pixels * 1e6,
            "mean_difference": statistics.mean(apart),
        }


def _time_call(net: ISTE, image: Tensor, scale: float, now: Clock, device: str) -> tuple[Tensor, float]:
    start = now()
    result = net(image.unsqueeze(0).to(device), scale=scale)[0].cpu()
    return result, now() - start


@torch.no_grad()
def _tilings(preset: str, scale: float, paths: list[Path], now: Clock, device: str) -> Iterator[Row]:
    """Measure difference and cost of windows, compared with the output for the whole image.

    ``border_steps`` is the mean step between the two rows at a border of windows, divided by the step between the same
    rows of the output for the whole image. 1 means that no border is visible.
    """
    protocol, net = get_protocol("iste-rgb"), common.load_preset(preset, device)
    items = [protocol.preprocessing()({"image": str(path), "scale": scale})["image"] for path in paths]
    wholes = [_time_call(net, image, scale, now, device) for image in items]
    for window, overlap, halo in TILINGS:
        tile: Callable[..., Tensor] = partial(ArbitraryScaleInferer(window, overlap, halo), network=net, scale=scale)
        apart, mean, steps, cost = [], [], [], []
        for image, (whole, seconds) in zip(items, wholes, strict=True):
            start = now()
            tiled = tile(image.unsqueeze(0))[0]
            cost.append((now() - start) / seconds)
            difference = (tiled.clamp(0, 1) - whole.clamp(0, 1)).abs() * 255
            apart.append(float(difference.max()))
            mean.append(float(difference.mean()))
            steps += list(_border_steps(tiled, whole, window, image.shape[1]))
        yield {
            "choice": f"window {window}, overlap {overlap}, halo {halo}",
            "max_difference": max(apart),
            "mean_difference": statistics.mean(mean),
            "border_steps": statistics.mean(steps) if steps else None,
            "times_whole": statistics.mean(cost),
        }


def _border_steps(tiled: Tensor, whole: Tensor, window: int, lr_rows: int) -> Iterator[float]:
    """Yield the mean step across each border of windows, divided by that of the same rows of the whole."""
    own, expected = (image.diff(dim=1).abs().mean((0, 2)) for image in (tiled, whole))
    for border in range(window, lr_rows - 8, window):
        row = round(border * tiled.shape[1] / lr_rows) - 1
        yield float(own[row] / expected[row])


def _format_keys(row: Row) -> Row:
    return {
        "preset": row["preset"],
        "scale": f"x{row['scale']:g}",
        "keys": row["choice"],
        "PSNR dB": f"{row['psnr']:.3f}",
        "s/megapixel": f"{row['seconds_per_megapixel']:.3g}",
        "mean difference, 8-bit levels": f"{row['mean_difference']:.3f}",
    }


def _format_tilings(row: Row) -> Row:
    return {
        "preset": row["preset"],
        "scale": f"x{row['scale']:g}",
        "windows": row["choice"],
        "largest difference to whole, 8-bit levels": f"{row['max_difference']:.2f}",
        "mean": f"{row['mean_difference']:.4f}",
        "step across borders": "" if row["border_steps"] is None else f"{row['border_steps']:.3f}",
        "x whole": f"{row['times_whole']:.2f}",
    }


if __name__ == "__main__":
    common.run(app)
