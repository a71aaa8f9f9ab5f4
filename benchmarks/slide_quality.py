"""Quality of a whole slide: reduced, upscaled by the command, and compared with its own pixels.

python -m benchmarks.slide_quality SLIDE --output-dir FOLDER --liif edsr-baseline-liif.pth
python -m benchmarks.slide_quality SLIDE --output-dir FOLDER --region 4096,4096,4096,4096 --weights runs/new/model.pt
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn
from tqdm import tqdm

from benchmarks import common
from benchmarks.common import Row
from benchmarks.contenders import BICUBIC, PEER, RELEASED, LiifOption, WeightsSpec, load, load_liif
from benchmarks.slide_blocks import MARGIN, Block, blocks_of, score_block, summary
from experiments.downstream import claim_folder
from monai_iste import DEFAULT_PRESET
from monai_iste.cli.upscale import parse_region
from monai_iste.errors import ConfigError, DataError
from monai_iste.functional import to_array
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import Tiler, inside
from monai_iste.io.files import checksum, open_output
from monai_iste.io.json_files import check_shape, read_json
from monai_iste.networks import Bicubic
from monai_iste.slides import Slide
from monai_iste.slides.tissue import tissue_mask
from monai_iste.slides.writers.pyramid import SlideMetadata
from monai_iste.slides.writers.writer import write_slide
from monai_iste.visualize import contact_sheet

__all__ = ["app", "reduced", "slide_quality"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

RESULT = "monai-iste"

_SHOWN = 256  # side of the picture's panels in pixels of the slide

Read = Callable[[Region], np.ndarray]


@app.command()
def slide_quality(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="Slide that the weights were not trained on, 40x.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder for all results; the same command resumes.")],
    scale: Annotated[int, typer.Option("--scale", min=2, help="Factor of the reduction and the upscaling.")] = 4,
    region: Annotated[
        str | None, typer.Option("--region", metavar="Y,X,H,W", help="Part of the slide, in its pixels; default: all.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Network of the command.")] = DEFAULT_PRESET,
    weights: Annotated[str, typer.Option("--weights", help="File of its weights, or released.")] = RELEASED,
    liif: LiifOption = None,
    liif_blocks: Annotated[int, typer.Option("--liif-blocks", min=1, help="Blocks with most tissue for LIIF.")] = 4,
    block: Annotated[int, typer.Option("--block", min=64, help="Side of the compared blocks in pixels.")] = 1024,
    compression: Annotated[str, typer.Option("--compression", help="Of the result: jpeg or lossless.")] = "lossless",
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
) -> list[Row]:
    """Reduce a slide by area means, upscale it by monai-iste, and compare the tissue with the slide itself.

    Writes low.ome.tif, high.ome.tif, scores.json, scores.csv and comparison.png.
    """
    common.clock(device, threads)
    spec = WeightsSpec(RESULT, preset, weights)
    about = load(spec, device).describe()  # before anything is written
    peer = None if liif is None else load_liif(liif, device)
    with Slide(slide) as source:
        box = Region(0, 0, *source.size) if (part := parse_region(region)) is None else inside(part, source.size)
        box = Region(box.top, box.left, box.height // scale * scale, box.width // scale * scale)
        if source.mpp is None:
            raise DataError("a slide that states its pixel size", str(slide), "Nuclei are counted in micrometers.")
        if min(box.height, box.width) < block:
            size = f"{box.height} x {box.width} pixels"
            raise ConfigError(f"an area of at least one block, {block} pixels", size, "Lower --block.")
        settings = {"slide": slide.name, "sha256": checksum(slide), "region": list(box), "scale": scale}
        settings |= {"network": about, "compression": compression, "block": block}
        claim_folder(output_dir, settings)
        low, high = output_dir / "low.ome.tif", output_dir / "high.ome.tif"
        if not low.exists():
            _reduce(source, box, scale, low)
        _run_command(low, high, scale, spec, compression, device, threads)
        with Slide(low) as small, Slide(high) as result:
            mask = tissue_mask(small)
            truth = _within(source, box)
            tiler = Tiler()
            readers: dict[str, Read] = {
                BICUBIC: _upscaler(tiler, small, Bicubic().eval(), scale),
                RESULT: result.read,
            }
            blocks = blocks_of(box, block, mask, scale)
            chosen = sorted(blocks, key=lambda one: -int(one.tissue.sum()))[:liif_blocks]
            if peer is not None:
                readers[PEER] = _upscaler(tiler, small, peer.network, scale)
            mpp = math.sqrt(source.mpp[0] * source.mpp[1])
            file = output_dir / "scores.json"
            measured = {**settings, "liif": None if peer is None else peer.describe()}
            rows = _score(readers, truth, result.size, blocks, chosen, mpp, file, measured, device)
            _draw(readers, truth, small, chosen[0], scale, output_dir / "comparison.png")
    _report(rows, scale, device, output_dir / "scores.csv")
    return rows


# --- the slides -------------------------------------------------------------------------------------------------------


def reduced(read: Read, factor: int, region: Region) -> np.ndarray:
    """Read a region of a slide that is reduced by area means of factor x factor pixels, rounded half up.

    Args:
        read: reads regions of the full slide.
        region: in pixels of the reduced slide.
    Shape:
        returns (height, width, 3), uint8
    """
    pixels = read(Region(*(number * factor for number in region))).astype(np.uint32)
    parts = pixels.reshape(region.height, factor, region.width, factor, 3).sum((1, 3))
    return ((parts + factor**2 // 2) // factor**2).astype(np.uint8)


def _within(slide: Slide, box: Region) -> Read:
    """Return a reader of the area alone, in its own pixels."""
    return lambda part: slide.read(Region(box.top + part.top, box.left + part.left, part.height, part.width))


def _reduce(slide: Slide, box: Region, scale: int, file: Path) -> None:
    read = _within(slide, box)
    size = box.height // scale, box.width // scale
    mpp = None if slide.mpp is None else (slide.mpp[0] * scale, slide.mpp[1] * scale)
    metadata = SlideMetadata(mpp, slide.icc, {"reduced": f"by area means of {scale} x {scale} pixels"})
    with tqdm(total=size[0] * size[1], desc="reducing", unit="px", unit_scale=True, mininterval=2) as bar:
        write_slide(
            file,
            lambda part: reduced(read, scale, part),
            size,
            metadata,
            file.parent,
            compression="lossless",
            progress=bar.update,
        )


def _run_command(
    low: Path, high: Path, scale: int, spec: WeightsSpec, compression: str, device: str, threads: int
) -> None:
    """Run ``monai-iste upscale``; it resumes, and interpolates the background, which is not compared."""
    words = ["upscale", str(low), str(high), "--scale", str(scale), "--tissue-only", "--resume"]
    words += ["--preset", spec.preset, "--compression", compression, "--device", device, "--threads", str(threads)]
    if spec.file != RELEASED:
        words += ["--weights", spec.file]
    done = subprocess.run([sys.executable, "-m", "monai_iste.cli.main", *words])
    if done.returncode:  # the command has printed the error
        raise typer.Exit(done.returncode)


def _upscaler(tiler: Tiler, slide: Slide, network: nn.Module, scale: int) -> Read:
    """Return a reader of the upscaled slide, 8-bit as a saved one."""

    @torch.no_grad()
    def read(region: Region) -> np.ndarray:
        bands = list(tiler.bands(slide.read, slide.size, network, float(scale), region))
        return to_array(torch.cat(bands, dim=1))

    return read


# --- scores -----------------------------------------------------------------------------------------------------------


def _score(
    readers: Mapping[str, Read],
    truth: Read,
    size: tuple[int, int],
    blocks: Sequence[Block],
    chosen: Sequence[Block],
    mpp: float,
    file: Path,
    about: Row,
    device: str,
) -> list[Row]:
    """Score every block by every method, and the chosen ones by LIIF; scores in the file are kept."""
    peer = (about["liif"] or {}).get("sha256")
    keys = ("method", "weights", "top", "left")
    known = {tuple(row[key] for key in keys): row for row in _read_scores(file)}
    rows = []
    for block in tqdm(blocks, desc="comparing", mininterval=2):
        part = block.region
        top, left = max(0, part.top - MARGIN), max(0, part.left - MARGIN)
        bottom = min(size[0], part.top + part.height + MARGIN)
        right = min(size[1], part.left + part.width + MARGIN)
        wide = Region(top, left, bottom - top, right - left)
        inner = Region(part.top - top, part.left - left, part.height, part.width)
        for name, read in readers.items():
            key = (name, peer if name == PEER else None, part.top, part.left)
            if name == PEER and not any(block is one for one in chosen):
                continue
            if key not in known:
                scores = score_block(read(wide), truth(wide), inner, block.tissue, mpp)
                known[key] = {**dict(zip(keys, key, strict=True)), **scores}
            rows.append(known[key])
        common.save("Slide quality", list(known.values()), device, file, about)
    return rows


def _read_scores(file: Path) -> list[Row]:
    """Read the scores of the blocks that were compared before.

    Raises:
        DataError: the file is damaged.
    """
    block = {"method": str, "weights": (str, NoneType), "top": int, "left": int}
    block |= {"pixels": int, "squared_error": float, "ssim": float}
    rows: list[Row] = (read_json(file, {"rows": [block]}) or {"rows": []})["rows"]
    counted = [row for row in rows if "there" in row]  # too little tissue has no nuclei
    if counted:
        check_shape(counted, [dict.fromkeys(("there", "found", "matched"), int)], file)
    return rows


# --- results ----------------------------------------------------------------------------------------------------------


def _report(rows: Sequence[Row], scale: int, device: str, csv_file: Path) -> None:
    """Print and write the summaries: over all blocks, and over those that LIIF has, too."""
    places = {name: {(row["top"], row["left"]) for row in rows if row["method"] == name} for name in (RESULT, PEER)}
    found = []
    for area, wanted in {"all tissue": places[RESULT], "LIIF's blocks": places[PEER]}.items():
        part = [row for row in rows if (row["top"], row["left"]) in wanted]
        for name in dict.fromkeys(row["method"] for row in part):
            own = [row for row in part if row["method"] == name]
            if len(own) == len(wanted):
                found.append({"area": area, "method": name, **summary(own)})
    common.report(f"Slide, reduced by {scale} and upscaled again", found, _format_row, device, None)
    common.save_csv(found + [{"area": "block", **row} for row in rows], csv_file)


def _format_row(row: Row) -> Row:
    def text(key: str, form: str) -> str:
        return "" if row[key] is None else form.format(row[key])

    return {
        "area": row["area"],
        "method": row["method"],
        "blocks": row["blocks"],
        "tissue, megapixels": f"{row['megapixels']:.1f}",
        "PSNR dB": f"{row['psnr']:.2f}",
        "SSIM": f"{row['ssim']:.4f}",
        "nuclei of the slide": row["there"],
        "found": row["found"],
        "count error": text("count_error", "{:.2f} %"),
        "bias": text("bias", "{:+.2f} %"),
        "F1": text("f1", "{:.4f}"),
    }


def _draw(readers: Mapping[str, Read], truth: Read, small: Slide, block: Block, scale: int, file: Path) -> None:
    """Draw the center of a block: the reduced slide, every method, the slide itself."""
    side = min(_SHOWN, block.region.height, block.region.width) // scale * scale
    top, left = (
        (start + (length - side) // 2) // scale
        for start, length in zip(block.region[:2], block.region[2:], strict=True)
    )
    shown = Region(top * scale, left * scale, side, side)
    panels = {"input": small.read(Region(top, left, side // scale, side // scale))}
    panels |= {name: read(shown) for name, read in readers.items()} | {"slide": truth(shown)}
    size, nearest = (2 * side, 2 * side), Image.Resampling.NEAREST
    row = {name: Image.fromarray(pixels).resize(size, nearest) for name, pixels in panels.items()}
    with open_output(file, overwrite=True) as out:
        contact_sheet([row]).save(out, "PNG")


if __name__ == "__main__":
    common.run(app)
