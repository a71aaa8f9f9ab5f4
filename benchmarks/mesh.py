"""Mesh: detail that a network adds above the Nyquist frequency of its input where the input is smooth.

python -m benchmarks.mesh DIR --weights released --pictures FOLDER
python -m benchmarks.mesh DIR --weights new=FILE,old=released --liif FILE --csv mesh.csv
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Row
from benchmarks.contenders import BICUBIC, Contender, LiifOption, contenders
from benchmarks.tile_scores import super_resolve
from benchmarks.tile_sets import LABELS, Group, describe_sets, groups, tile_sets
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError
from monai_iste.inferers import Region
from monai_iste.io.files import check_name, make_folder, open_output
from monai_iste.io.image_reader import read_rgb
from monai_iste.visualize import contact_sheet, to_picture

__all__ = ["added_energy", "app", "mesh", "smooth_patches", "spread", "summaries"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SIDE = 16  # side of a patch in input pixels; patches overlap by half
STEP = SIDE // 2
LEAKAGE = 2  # cycles per patch beyond Nyquist that the window smears, which are not counted

_ABSORBED = 0.045  # absorption above which a patch is tissue, as in monai_iste.slides.tissue

_SHOWN = 3  # tiles of a picture
_PART = 32  # side of the shown part in input pixels
_AMPLIFIED = 8  # factor of the shown differences to bicubic


@app.command()
def mesh(
    folders: common.TilesArgument,
    preset: Annotated[str, typer.Option("--preset", help="Preset of files that name none.")] = DEFAULT_PRESET,
    weights: common.WeightsOption = "released",
    liif: LiifOption = None,
    scales: Annotated[str, typer.Option("--scales", help="Scale factors above 1.")] = "4.9,6.1,7.3",
    smooth: Annotated[
        float, typer.Option("--smooth", help="Largest standard deviation of a smooth patch of the input, in levels.")
    ] = 6.0,
    crop: Annotated[
        int, typer.Option("--crop", min=_PART, help="Side of the part of a tile, its smoothest, in pixels.")
    ] = 192,
    images: common.ImagesOption = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for pictures of the patches with most added energy.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the pictures.")] = False,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
    csv_file: common.CsvOption = None,
) -> list[Row]:
    """Upscale tiles as they are, without reducing them, and compare the energy in smooth patches with bicubic's."""
    common.check_results(json_file, csv_file)
    factors = common.split_numbers(scales)
    if not factors or min(factors) <= 1 or not smooth > 0:
        raise ConfigError("scales and --smooth above 1 and 0", f"{scales} and {smooth:g}", "Such as --scales 4.9,6.1.")
    if pictures is not None:
        make_folder(pictures)
        for scale in factors:
            check_name(_picture(pictures, scale), overwrite)
    common.clock(device, threads)
    methods = contenders(common.split_words(weights), preset, liif, device)
    items = tile_sets(folders, images)
    parts = [part for item in tqdm(items, desc="smooth patches", mininterval=2) if (part := _part(item, crop, smooth))]
    if not parts:
        reason = f"no patch of {len(items)} tiles below {smooth:g} levels"
        raise DataError("tiles with smooth tissue", reason, "Raise --smooth, or give other tiles.")
    about = {
        **describe_sets(items, []),
        "weights": {name: one.describe() for name, one in methods.items()},
        **{"smooth": smooth, "crop": crop, "tiles_without_smooth_patches": len(items) - len(parts)},
    }
    rows: list[Row] = []
    for scale in factors:
        for part in tqdm(parts, desc=f"x{scale:g}", mininterval=2):
            rows += _measure(part, methods, scale, device)
            common.save("Mesh", rows, device, json_file, about)
        if pictures is not None:
            _draw(rows, parts, methods, scale, device, _picture(pictures, scale), overwrite)
    found = summaries(rows)
    title = f"Energy above the input's Nyquist frequency, in {sum(len(part.tops) for part in parts)} smooth patches"
    common.report(f"{title} of {len(parts)} tiles", [r for r in found if r["by"] == "all"], _format_row, device, None)
    common.save_csv(found, csv_file)
    return rows


def _picture(folder: Path, scale: float) -> Path:
    return folder / f"mesh-x{scale:g}.png"


# --- the number -------------------------------------------------------------------------------------------------------


def _window(length: int) -> Tensor:
    """Return Hann's window, sin(pi (i + 1/2) / n)^2."""
    return torch.sin(math.pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length) ** 2


def spread(image: Tensor, side: int = SIDE) -> Tensor:
    """Compute the standard deviation of every patch of an image, weighted with Hann's window v.

    With w(y, x) = v(y) v(x) / sum(v)^2 and the patch X_c of channel c::

        s^2 = mean over c of sum(w X_c^2) - sum(w X_c)^2

    Shape:
        image: (C, h, w); returns (rows, columns), one value for each patch of side x side, half a patch apart.
    Units: those of the image.

    Example:
        >>> spread(torch.ones(3, 16, 24)).round(decimals=6).tolist()
        [[0.0, 0.0]]
    """
    window = _window(side)
    weight = torch.outer(window, window) / window.sum() ** 2
    parts = image.double().unfold(1, side, side // 2).unfold(2, side, side // 2)
    mean = (parts * weight).sum((3, 4))
    square = ((parts - mean[..., None, None]) ** 2 * weight).sum((3, 4))
    return square.mean(0).sqrt()


def added_energy(image: Tensor, lr_size: tuple[int, int], tops: Sequence[int], lefts: Sequence[int]) -> Tensor:
    """Compute the energy of an upscaled image above the Nyquist frequency of its input, patch by patch.

    The patch of the input at (t, l), of S = 16 pixels, is the patch Y of n x k output pixels at (round(t H / h),
    round(l W / w)), with n = round(S H / h) and k = round(S W / w). With Hann's window v, w(y, x) = v(y) v(x), and mu
    the mean of Y with the weights w, for every channel::

        Z(a, b) = sum over y, x of w(y, x) (Y(y, x) - mu) exp(-2 pi i (a y / n + b x / k))
        E       = sum of |Z(a, b)|^2 over |a| > n h / (2 H) + 2 or |b| > k w / (2 W) + 2,   / (n k sum(w^2))

    where a and b run from -n/2 and -k/2 on. ``n h / (2 H)``, about 8 cycles a patch, is the input's Nyquist frequency,
    and 2 is the width of the window's main lobe, so that what the input holds does not count. By Parseval's theorem E
    is the mean square of that part of the patch.

    Args:
        lr_size: (h, w).
        tops, lefts: first row and column of the patches in the input.
    Shape:
        image: (C, H, W); returns (patches,), the mean over channels.
    Units: squares of those of the image.

    Example:
        >>> added_energy(torch.ones(3, 64, 64), (16, 16), [0], [0]).tolist()
        [0.0]
    """
    size = image.shape[1:]
    n, k = (round(SIDE * many / few) for many, few in zip(size, lr_size, strict=True))
    weight = torch.outer(_window(n), _window(k))
    rows, columns = (
        (torch.fft.fftfreq(length, 1 / length, dtype=torch.float64).abs() > length * few / (2 * many) + LEAKAGE)
        for length, few, many in zip((n, k), lr_size, size, strict=True)
    )
    above = rows[:, None] | columns
    found = []
    for top, left in zip(tops, lefts, strict=True):
        y, x = (round(start * many / few) for start, many, few in zip((top, left), size, lr_size, strict=True))
        y, x = min(y, size[0] - n), min(x, size[1] - k)  # rounding may pass the end by a pixel
        patch = image[:, y : y + n, x : x + k].double()
        mean = (patch * weight).sum((1, 2), keepdim=True) / weight.sum()
        energy = torch.fft.fft2((patch - mean) * weight).abs().square()
        found.append((energy * above).sum((1, 2)).mean() / (n * k * weight.square().sum()))
    return torch.stack(found)


# --- the tiles --------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Part of a tile with its smooth patches: first rows and columns in the part."""

    item: Row
    image: Tensor
    tops: list[int]
    lefts: list[int]


def smooth_patches(image: Tensor, limit: float) -> Tensor:
    """Mark the patches of tissue whose :func:`spread` is at most ``limit``.

    Let b be the mean of a patch in its darkest channel. A patch is background if b is within 4.5 % of the 99th
    percentile of b over the tile, which is the glass where there is some.

    Shape:
        image: (3, h, w); returns (rows, columns), bool
    Units: those of the image.

    Example:
        >>> image = torch.full((3, 24, 48), 240.0)
        >>> image[1, :, 24:] = 180
        >>> smooth_patches(image, 1.0)[0].tolist()
        [False, False, False, True, True]
    """
    bright = image.double().unfold(1, SIDE, STEP).unfold(2, SIDE, STEP).mean((3, 4)).amin(0)
    return (spread(image) <= limit) & (bright < (1 - _ABSORBED) * bright.flatten().quantile(0.99))


def _part(item: Mapping[str, Any], crop: int, limit: float) -> Part | None:
    """Cut out the part of a tile with the most smooth patches; None if it has none."""
    image = torch.from_numpy(read_rgb(item["image"]).copy())
    if min(image.shape[1:]) < SIDE:
        size = f"{image.shape[2]} x {image.shape[1]}"
        raise DataError(f"tiles of at least {SIDE} x {SIDE} pixels", f"{item['image']} of {size}", "Leave it out.")
    smooth = smooth_patches(image, limit)
    rows, columns = (min(count, (crop - SIDE) // STEP + 1) for count in smooth.shape)
    counts = smooth.long().unfold(0, rows, 1).unfold(1, columns, 1).sum((2, 3))
    if not counts.any():
        return None
    row, column = divmod(int(counts.argmax()), counts.shape[1])
    chosen = smooth[row : row + rows, column : column + columns].nonzero() * STEP
    region = Region(row * STEP, column * STEP, *(SIDE + (count - 1) * STEP for count in (rows, columns)))
    rows_of, columns_of = (chosen[:, axis].tolist() for axis in (0, 1))
    return Part(dict(item), image[:, *region.slices], rows_of, columns_of)


def _upscaled(part: Part, contender: Contender, scale: float, device: str) -> Tensor:
    """Upscale a part; (3, H, W) in 8-bit levels, not rounded."""
    pair = {"image": part.image.float() / 255, "scale": scale}
    return super_resolve(contender.network, pair, device).cpu().clamp(0, 1) * 255


def _measure(part: Part, methods: Mapping[str, Contender], scale: float, device: str) -> Iterator[Row]:
    size = (part.image.shape[1], part.image.shape[2])
    for name, contender in methods.items():
        energy = added_energy(_upscaled(part, contender, scale, device), size, part.tops, part.lefts)
        yield {
            "method": name,
            "weights": contender.weights,
            "scale": scale,
            "image": part.item["name"],
            **{label: part.item[label] for label in LABELS},
            "patches": len(part.tops),
            "energy": energy.tolist(),
        }


# --- results ----------------------------------------------------------------------------------------------------------


def summaries(rows: Sequence[Row]) -> list[Row]:
    """Summarize every scale and method over groups of tiles, then tile by tile.

    Returns:
        rows with ``rms``, the root of the mean energy over patches, in 8-bit levels; ``ratio``, the mean energy
        divided by bicubic's; ``added``, their difference in squared levels; ``worst``, the largest root of a patch.
    """
    found = []
    for scale, method in dict.fromkeys((row["scale"], row["method"]) for row in rows):
        own, bicubic = (
            [row for row in rows if (row["scale"], row["method"]) == (scale, name)] for name in (method, BICUBIC)
        )
        tiles = [Group("tile", row["image"], [i]) for i, row in enumerate(own)]
        for by, name, members in [*groups(own), *tiles]:
            ours, its = ([value for i in members for value in part[i]["energy"]] for part in (own, bicubic))
            energy, reference = statistics.fmean(ours), statistics.fmean(its)
            found.append(
                {
                    **{"by": by, "group": name, "scale": scale, "method": method},
                    **{"tiles": len(members), "patches": len(ours), "rms": math.sqrt(energy)},
                    "ratio": energy / reference if reference else None,
                    "added": energy - reference,
                    "worst": math.sqrt(max(ours)),
                }
            )
    return found


def _format_row(row: Row) -> Row:
    return {
        "scale": f"x{row['scale']:g}",
        "method": row["method"],
        "tiles": row["tiles"],
        "patches": row["patches"],
        "rms, levels": f"{row['rms']:.3f}",
        "energy over bicubic's": "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        "added, levels^2": f"{row['added']:+.4f}",
        "worst patch, levels": f"{row['worst']:.2f}",
    }


def _draw(
    rows: Sequence[Row],
    parts: Sequence[Part],
    methods: Mapping[str, Contender],
    scale: float,
    device: str,
    file: Path,
    overwrite: bool,
) -> None:
    """Draw the patches with the most added energy at one scale: input, bicubic, networks, amplified differences."""
    sheet = []
    for part, position in _most_added(rows, parts, scale)[:_SHOWN]:
        size, starts = part.image.shape[1:], (part.tops[position], part.lefts[position])
        top, left = (max(0, min(n - _PART, start - (_PART - SIDE) // 2)) for n, start in zip(size, starts, strict=True))
        side = round(_PART * scale)
        y, x = round(top * scale), round(left * scale)
        panels = {"input": part.image[:, top : top + _PART, left : left + _PART].float()}
        for name, contender in methods.items():
            panels[name] = _upscaled(part, contender, scale, device)[:, y : y + side, x : x + side]
        for name in methods:
            if name != BICUBIC:
                panels[f"{name} - bicubic, x{_AMPLIFIED}"] = 128 + _AMPLIFIED * (panels[name] - panels[BICUBIC])
        shown = (2 * side, 2 * side)
        nearest = Image.Resampling.NEAREST
        sheet.append({name: to_picture(panel / 255).resize(shown, nearest) for name, panel in panels.items()})
    with open_output(file, overwrite) as out:
        contact_sheet(sheet).save(out, "PNG")


def _most_added(rows: Sequence[Row], parts: Sequence[Part], scale: float) -> list[tuple[Part, int]]:
    """Find the patch of every part to which a network adds most; the parts with the largest addition first."""
    here = [row for row in rows if row["scale"] == scale]
    bicubic = [row["energy"] for row in here if row["method"] == BICUBIC]
    count = len(here) // len(bicubic)
    found = []
    for i, part in enumerate(parts):
        ours = [row["energy"] for row in here[i * count : (i + 1) * count] if row["method"] != BICUBIC]
        added = [max(values) - its for its, *values in zip(bicubic[i], *ours, strict=True)]
        position = max(range(len(added)), key=added.__getitem__)
        found.append((added[position], part, position))
    return [(part, position) for _, part, position in sorted(found, key=lambda one: -one[0])]


if __name__ == "__main__":
    common.run(app)
