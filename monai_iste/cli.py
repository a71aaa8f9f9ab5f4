"""The command ``monai-iste``: magnify images and slides, compare with bicubic, list the presets, view slides.

Every refusal is one sentence on standard error and an exit code: 2 options, presets or configuration, 3 input,
4 output, 5 weights, 7 shape, 8 scale (those of :mod:`monai_iste.errors`), 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM). Results go to standard output.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn
from tqdm import tqdm

import monai_iste
from monai_iste.compare import with_truth, without_truth
from monai_iste.data.io import image_size
from monai_iste.errors import ConfigError, DataError, ISTEError, OutputError, ScaleError, find_error
from monai_iste.images import MAX_FILE_PIXELS, check_output, save_image
from monai_iste.inferers import Region
from monai_iste.magnify import (
    at_precision,
    default_device,
    emulates_bf16,
    magnified_size,
)
from monai_iste.networks import PRESETS, create_iste, load_network, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.upscaling import SlideOptions, Upscaler, Wanted, check_apart, pairs
from monai_iste.viewer.command import ThreadsOption, view

__all__ = ["app", "main"]

app = typer.Typer(
    name="monai-iste",
    help="Magnify H&E histopathology by any factor. Not for diagnosis: magnified pixels are inferred, not measured.",
    epilog="Exit codes: 0 done, 2 options or preset, 3 input, 4 output, 5 weights, 7 shape, 8 scale, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a refusal is a sentence, and a defect keeps its plain traceback
    rich_markup_mode=None,
)

PresetOption = Annotated[str, typer.Option("--preset", help="Network, see: monai-iste presets.")]
WeightsOption = Annotated[
    Optional[Path],
    typer.Option("--weights", help="Weights of the preset, .safetensors or .pt, instead of the released."),
]
DeviceOption = Annotated[Optional[str], typer.Option("--device", help="cpu, cuda, cuda:1; default: the GPU if any.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
UntrainedOption = Annotated[bool, typer.Option("--allow-untrained", help="Random weights where none are released.")]


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler or ``timeout`` sends it: cleaned up after like Ctrl-C."""


def main() -> None:
    """Entry point of ``monai-iste``."""

    def terminate(*_: object) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: a file's name may be no text
    app(prog_name="monai-iste")


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors of the family, Ctrl-C and SIGTERM, as one line and an exit code."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs of a damaged file, the sentence says
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused, the rest is no bomb
    try:
        yield
    except (ISTEError, RuntimeError) as error:
        known = find_error(error)  # MONAI wraps what a transform raises
        if known is None:
            raise
        typer.echo(f"error: {known}", err=True)
        raise typer.Exit(known.exit_code) from error
    except BrokenPipeError:  # whoever read along has ended
        raise
    except OSError as error:  # an input's, such as a name that is too long: outputs have OutputError
        typer.echo(f"error: {error.strerror}: {error.filename or 'standard output'}", err=True)
        raise typer.Exit((DataError if error.filename else OutputError).exit_code) from error
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
        typer.echo(f"{what}: finished files are kept; an unfinished slide goes on with --resume", err=True)
        raise typer.Exit(code) from error


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(monai_iste.__version__)
        raise typer.Exit


# --- upscale ----------------------------------------------------------------------------------------------------------


@app.command()
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
    mpp: Annotated[Optional[float], typer.Option("--mpp", help="Micrometres per pixel of the result.")] = None,
    input_mpp: Annotated[
        Optional[float], typer.Option("--input-mpp", help="Those of the input, if its file does not state them.")
    ] = None,
    region: Annotated[
        Optional[str], typer.Option("--region", metavar="Y,X,H,W", help="Part of the input alone, in its pixels.")
    ] = None,
    tissue_only: Annotated[bool, typer.Option("--tissue-only", help="Interpolate bare glass instead.")] = False,
    work_dir: Annotated[
        Optional[Path], typer.Option("--work-dir", help="Where a slide's unfinished work is; default: beside OUTPUT.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a slide that was interrupted.")] = False,
    compression: Annotated[str, typer.Option("--compression", help="Of slides: jpeg or lossless.")] = "jpeg",
    consistency: Annotated[
        bool, typer.Option("--consistency", help="Also map where a slide's result departs from its input.")
    ] = False,
    workers: Annotated[Optional[int], typer.Option("--workers", min=1, help="Processes for a slide.")] = None,
    scheduler: Annotated[
        Optional[str], typer.Option("--scheduler", help="A Dask scheduler for a slide: tcp://host:8786.")
    ] = None,
    preset: PresetOption = DEFAULT_PRESET,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report in JSON.")] = False,
    allow_untrained: UntrainedOption = False,
) -> None:
    """Magnify an image or a slide, or every one of a folder, to 8-bit RGB.

    The colour profile is kept, and the new pixel size written where the input's is known. A file appears complete or
    not at all. A slide's work is kept in a folder until it is done, so that --resume goes on where it was interrupted;
    in a folder of images, those that are there already in the right size are skipped.
    """
    with _sentences():
        wanted = Wanted(scale, _parse_size(size), _check_mpp("--mpp", mpp), _check_mpp("--input-mpp", input_mpp))
        if sum(option is not None for option in wanted[:3]) != 1:
            raise ConfigError("one of --scale, --size and --mpp", "none or several", "Give the one you mean.")
        options = SlideOptions(
            _parse_region(region), tissue_only, work_dir, resume, compression, consistency, workers, scheduler
        )
        several = source.is_dir()
        found = pairs(source, target) if several else [(source, target)]
        network, about = _network(preset, weights, device, precision, threads, allow_untrained)
        upscaler = Upscaler(wanted, options, network, about, threads, overwrite, several, _tell)
        report: dict[str, Any] = {**about, "dry_run": dry_run, "skipped": 0, "failed": 0, "images": []}

        @contextmanager
        def one_of_several() -> Iterator[None]:
            """One unreadable image does not cost the rest of a folder; it is named, and the exit code tells."""
            try:
                yield
            except DataError as error:
                if not several:
                    raise
                _tell(f"error: {error}")
                report["failed"] += 1

        jobs = []
        for pair in found:
            with one_of_several():
                job = upscaler.plan(*pair)
                if job.is_complete():
                    report["skipped"] += 1
                    continue
                jobs.append(job)
        if report["skipped"]:
            _tell(
                f"{report['skipped']} of {len(found)} are there already and are skipped"
                if several
                else f"{target} is complete already"
            )

        with upscaler.at_work(jobs, dry_run):
            for job in jobs:
                with one_of_several():
                    started = time.perf_counter()
                    done = job.estimate() if dry_run else job.run()
                    seconds = None if dry_run else round(time.perf_counter() - started, 3)
                    report["images"].append({**job.record(), "seconds": seconds, **done})
                    if not as_json:
                        tqdm.write(f"would write {job}" if dry_run else f"wrote {job} in {seconds:.1f} s")
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        if report["failed"]:
            raise typer.Exit(DataError.exit_code)


def _tell(text: str) -> None:
    tqdm.write(text, file=typer.get_text_stream("stderr"))


def _parse_region(text: str | None) -> Region | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text)
    if match is None:
        raise ConfigError("a region Y,X,H,W, such as 1000,2000,512,512", repr(text), "Top and left first, no spaces.")
    return Region(*(int(number) for number in match.groups()))


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    if match is None:
        raise ConfigError("a size HxW, such as 1110x962", repr(text), "Height first, no spaces.")
    return int(match[1]), int(match[2])


def _check_mpp(option: str, value: float | None) -> float | None:
    if value is not None and not 1e-3 <= value <= 1e3:
        raise ScaleError(f"{option} between 0.001 and 1000 micrometres per pixel", repr(value), "Try 0.25, as at 40x.")
    return value


def _network(
    preset: str,
    weights: Path | None,
    device: str | None,
    precision: str,
    threads: int | None,
    allow_untrained: bool,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network as it will be used, and what a report says about it."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = device or default_device()
    network = at_precision(load_network(preset, weights, device, allow_untrained), precision)
    if precision == "bf16" and emulates_bf16(device):
        typer.echo("warning: this processor only emulates bfloat16, at a fraction of fp32's speed", err=True)
    path = weights or released_weights(preset)
    if path is None:
        typer.echo("warning: the weights are random; the result shows nothing about the method", err=True)
    about = {"preset": preset, "weights": path and str(path), "device": device, "precision": precision}
    return network, {"version": monai_iste.__version__, **about}


# --- compare ----------------------------------------------------------------------------------------------------------


@app.command()
def compare(
    source: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image.")],
    scale: Annotated[float, typer.Option("--scale", help="Magnification.")] = 4.0,
    target: Annotated[Path, typer.Option("-o", "--output", help="The picture, .png, .tif or .jpg.")] = Path(
        "comparison.png"
    ),
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Reduce the image first (protocol iste-rgb), to show truth and errors.")
    ] = False,
    preset: PresetOption = DEFAULT_PRESET,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    allow_untrained: UntrainedOption = False,
) -> None:
    """Draw bicubic and ISTE side by side, where the image has most detail."""
    with _sentences():
        magnified_size(image_size(source), scale, limit=MAX_FILE_PIXELS)  # refuses impossible scales
        check_apart(source, target)
        check_output(target, (1, 1), overwrite)
        network, _ = _network(preset, weights, device, precision, threads, allow_untrained)
        picture = with_truth(source, scale, network) if degrade else without_truth(source, scale, network)
        save_image(target, [np.asarray(picture)], (picture.height, picture.width), overwrite=overwrite)
        typer.echo(f"wrote {target}")


# --- presets ----------------------------------------------------------------------------------------------------------


@app.command()
def presets() -> None:
    """List the networks: name, parameters, whether weights are released, and their terms."""
    for name, preset in PRESETS.items():
        count = sum(parameter.numel() for parameter in create_iste(name).parameters())
        path = released_weights(name)
        weights = "no weights" if path is None else f"weights, {os.path.getsize(path) / 1e6:.1f} MB"
        typer.echo(f"{name:12}{count / 1e6:6.2f} M  {weights}\n    {preset.summary}\n    terms: {preset.terms}")


app.command()(_sentences()(view))


if __name__ == "__main__":
    main()
