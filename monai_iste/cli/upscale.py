"""Command ``monai-iste upscale``: super-resolve an image, a slide, or a folder of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from monai_iste import DEFAULT_PRESET
from monai_iste.cli.options import (
    DeviceOption,
    InputBlurOption,
    OverwriteOption,
    PrecisionOption,
    PresetOption,
    ThreadsOption,
    UntrainedOption,
    WeightsOption,
    log,
    network_of,
    sentences,
)
from monai_iste.errors import ConfigError

if TYPE_CHECKING:
    from monai_iste.inferers import Region


def upscale(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, a slide, or a folder of them.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="A .png, .tif or .jpg file, a slide (.ome.tiff, .ome.zarr, .dcm), or a folder."
        ),
    ],
    scale: Annotated[Optional[float], typer.Option("--scale", help="Magnification, such as 3.7.")] = None,
    size: Annotated[Optional[str], typer.Option("--size", metavar="HxW", help="Exact size of the result.")] = None,
    mpp: Annotated[Optional[float], typer.Option("--mpp", help="Micrometers per pixel of the result.")] = None,
    input_mpp: Annotated[
        Optional[float], typer.Option("--input-mpp", help="Those of the input, if its file does not state them.")
    ] = None,
    region: Annotated[
        Optional[str], typer.Option("--region", metavar="Y,X,H,W", help="Part of the input alone, in its pixels.")
    ] = None,
    tissue_only: Annotated[bool, typer.Option("--tissue-only", help="Interpolate the background of slides.")] = False,
    work_dir: Annotated[
        Optional[Path], typer.Option("--work-dir", help="Where a slide's unfinished work is; default: beside OUTPUT.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a slide that was interrupted.")] = False,
    compression: Annotated[str, typer.Option("--compression", help="Of slides: jpeg or lossless.")] = "jpeg",
    consistency: Annotated[
        bool, typer.Option("--consistency", help="Also map where a slide's result departs from its input.")
    ] = False,
    workers: Annotated[Optional[int], typer.Option("--workers", min=1, help="Processes for a slide.")] = None,
    scheduler: Annotated[
        Optional[str], typer.Option("--scheduler", help="A Dask scheduler for a slide: tcp://host:8786.")
    ] = None,
    input_blur: InputBlurOption = None,
    preset: PresetOption = DEFAULT_PRESET,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report in JSON.")] = False,
    allow_untrained: UntrainedOption = False,
) -> None:
    """Upscale an image, a slide, or a folder of them to 8-bit RGB.

    The color profile is kept, and the new pixel size is written where the input's is known. A file appears
    only when it is complete. Unfinished work on a slide is kept in a folder, so that --resume continues after an
    interruption. In a folder, whole results of the same inputs, network and size are skipped.
    """
    with sentences():
        from tqdm import tqdm

        from monai_iste.cli.folder import pair_folder
        from monai_iste.cli.jobs import SlideOptions, Upscaler
        from monai_iste.inferers.output_size import OutputSize, require_one
        from monai_iste.io.pixel_size import check_mpp

        require_one({"--scale": scale, "--size": size, "--mpp": mpp})
        output_size = OutputSize(scale, _parse_size(size), check_mpp("--mpp", mpp))
        options = SlideOptions(
            parse_region(region), tissue_only, work_dir, resume, compression, consistency, workers, scheduler
        )
        is_folder = source.is_dir()
        pairs = pair_folder(source, target, lambda text: log(f"note: {text}")) if is_folder else [(source, target)]
        input_mpp = check_mpp("--input-mpp", input_mpp)
        network, network_info = network_of(preset, weights, device, precision, threads, allow_untrained, input_blur)
        upscaler = Upscaler(output_size, input_mpp, options, network, network_info, threads, overwrite, is_folder)
        report = upscaler.run(pairs, dry_run, None if as_json else tqdm.write)
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        if report["failed"]:
            raise typer.Exit(upscaler.exit_code)


def parse_region(text: str | None) -> Region | None:
    """Parse the option --region, Y,X,H,W; None without one."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text)
    if match is None:
        raise ConfigError("a region Y,X,H,W, such as 1000,2000,512,512", repr(text), "Top and left first, no spaces.")
    from monai_iste.inferers import Region

    return Region(*(int(number) for number in match.groups()))


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    if match is None:
        raise ConfigError("a size HxW, such as 1110x962", repr(text), "Height first, no spaces.")
    return int(match[1]), int(match[2])
