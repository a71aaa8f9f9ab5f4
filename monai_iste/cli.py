"""The command ``monai-iste``: magnify images, compare with bicubic, list the presets.

Every refusal is one sentence on standard error and an exit code: 2 options, presets or configuration, 3 input,
4 output, 5 weights, 7 shape, 8 scale (those of :mod:`monai_iste.errors`), 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM). Results go to standard output.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import numpy as np
import torch
import typer
from torch import nn
from tqdm import tqdm

import monai_iste
from monai_iste.compare import with_truth, without_truth
from monai_iste.data.datasets import image_datalist
from monai_iste.data.io import image_size, read_rgb
from monai_iste.errors import ConfigError, DataError, ISTEError, OutputError, ScaleError
from monai_iste.images import MAX_FILE_PIXELS, WRITABLE_SUFFIXES, check_output, save_image, source_icc, source_mpp
from monai_iste.magnify import (
    at_precision,
    default_device,
    emulates_bf16,
    magnified_bands,
    magnified_size,
    to_range,
)
from monai_iste.networks import PRESETS, create_iste, load_network, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.transforms.loading import plain_tensor

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
ThreadsOption = Annotated[Optional[int], typer.Option("--threads", min=1, help="Processor threads.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
UntrainedOption = Annotated[bool, typer.Option("--allow-untrained", help="Random weights where none are released.")]


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler or ``timeout`` sends it: cleaned up after like Ctrl-C."""


def main() -> None:
    """Entry point of ``monai-iste``."""

    def terminate(*_: object) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    app(prog_name="monai-iste")


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors of the family, Ctrl-C and SIGTERM, as one line and an exit code."""
    try:
        yield
    except ISTEError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:  # an input's, such as a name that is too long: outputs have OutputError
        typer.echo(f"error: {error.strerror}: {error.filename}", err=True)
        raise typer.Exit(DataError.exit_code) from error
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
        typer.echo(f"{what}: finished files are kept, the unfinished one is gone", err=True)
        raise typer.Exit(code) from error


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(monai_iste.__version__)
        raise typer.Exit


# --- upscale ----------------------------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """How large the results shall be: one of scale, size (H, W) and mpp is given."""

    scale: float | None
    size: tuple[int, int] | None
    mpp: float | None
    input_mpp: float | None


class _Job(NamedTuple):
    """One image to magnify: (h, w) to (H, W), with the micrometres per pixel (y, x) of the result if known."""

    source: Path
    target: Path
    size: tuple[int, int]
    output: tuple[int, int]
    mpp: tuple[float, float] | None

    def __str__(self) -> str:
        (h, w), (height, width) = self.size, self.output
        mpp = "" if self.mpp is None else f", {self.mpp[1]:.4g} um/px"
        return (
            f"{self.target}: {h} x {w} -> {height} x {width} (H x W, x{math.sqrt(height * width / (h * w)):.4g}{mpp})"
        )

    def record(self) -> dict[str, Any]:
        return {
            "input": str(self.source),
            "output": str(self.target),
            "input_size": self.size,
            "output_size": self.output,
            "scale": [n / m for n, m in zip(self.output, self.size, strict=True)],
            "mpp": self.mpp,
        }


@app.command()
def upscale(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, or a folder of images.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A .png, .tif or .jpg file; for a folder, another folder.")
    ],
    scale: Annotated[Optional[float], typer.Option("--scale", help="Magnification, such as 3.7.")] = None,
    size: Annotated[Optional[str], typer.Option("--size", metavar="HxW", help="Exact size of the result.")] = None,
    mpp: Annotated[Optional[float], typer.Option("--mpp", help="Micrometres per pixel of the result.")] = None,
    input_mpp: Annotated[
        Optional[float], typer.Option("--input-mpp", help="Those of the input, if its file does not state them.")
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
    """Magnify an image, or every image of a folder, to 8-bit RGB.

    The colour profile is kept, and the new pixel size written where the input's is known. A file appears complete or
    not at all. For a folder, files that are already there in the right size are skipped, so that interrupted work goes
    on where it stopped.
    """
    with _sentences():
        wanted = _Wanted(scale, _parse_size(size), _check_mpp("--mpp", mpp), _check_mpp("--input-mpp", input_mpp))
        if sum(option is not None for option in wanted[:3]) != 1:
            raise ConfigError("one of --scale, --size and --mpp", "none or several", "Give the one you mean.")
        several = source.is_dir()
        pairs = _pairs(source, target) if several else [(source, target)]
        network, about = _network(preset, weights, device, precision, threads, allow_untrained)
        report: dict[str, Any] = {**about, "dry_run": dry_run, "skipped": 0, "failed": 0, "images": []}

        @contextmanager
        def one_of_several() -> Iterator[None]:
            """One unreadable image does not cost the rest of a folder; it is named, and the exit code tells."""
            try:
                yield
            except DataError as error:
                if not several:
                    raise
                tqdm.write(f"error: {error}", file=typer.get_text_stream("stderr"))
                report["failed"] += 1

        jobs = []
        for pair in pairs:
            with one_of_several():
                job = _plan(*pair, wanted)
                if several and not overwrite and _is_finished(job):
                    report["skipped"] += 1
                    continue
                if not several:
                    check_output(job.target, job.output, overwrite)
                jobs.append(job)
        if report["skipped"]:
            typer.echo(f"{report['skipped']} of {len(pairs)} are there already and are skipped", err=True)

        pixels = sum(math.prod(job.output) for job in jobs)
        with tqdm(total=pixels, unit="px", unit_scale=True, desc="magnifying", disable=dry_run or None) as bar:
            for job in jobs:
                with one_of_several():
                    started = time.perf_counter()
                    if not dry_run:
                        _magnify(job, network, overwrite, bar)
                    seconds = time.perf_counter() - started
                    report["images"].append({**job.record(), "seconds": None if dry_run else round(seconds, 3)})
                    if not as_json:
                        tqdm.write(f"would write {job}" if dry_run else f"wrote {job} in {seconds:.1f} s")
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        if report["failed"]:
            raise typer.Exit(DataError.exit_code)


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


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Every image of a folder and where its result goes: the same relative path, in a format that can be written."""
    if target.exists() and not target.is_dir():
        raise OutputError("a folder for the results of a folder", f"the file {target}", "Name another.")
    if target.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"an output outside {source}", str(target), "Results beside inputs would become inputs.")
    pairs = []
    for item in image_datalist(source):
        path = Path(item["image"])
        name = path.relative_to(source)
        written = name if name.suffix.lower() in WRITABLE_SUFFIXES else name.with_name(f"{name.name}.png")
        pairs.append((path, target / written))
    return pairs


def _plan(source: Path, target: Path, wanted: _Wanted) -> _Job:
    size = image_size(source)
    _check_apart(source, target)
    mpp = source_mpp(source) if wanted.input_mpp is None else (wanted.input_mpp, wanted.input_mpp)
    target_size = wanted.size
    if wanted.mpp is not None:
        if mpp is None:
            raise DataError(
                f"the pixel size of {source} in its file", "none or an implausible one", "Give it: --input-mpp 0.5."
            )
        if wanted.mpp > min(mpp):
            raise ScaleError(
                f"--mpp of at most {min(mpp):.4g}, the input's", f"{wanted.mpp:g}", "Reduce with a resampler instead."
            )
        target_size = round(size[0] * mpp[0] / wanted.mpp), round(size[1] * mpp[1] / wanted.mpp)
    output = magnified_size(size, wanted.scale, target_size, MAX_FILE_PIXELS)
    if mpp is not None:
        mpp = mpp[0] * size[0] / output[0], mpp[1] * size[1] / output[1]
    return _Job(source, target, size, output, mpp)


def _check_apart(source: Path, target: Path) -> None:
    if os.path.exists(target) and target.samefile(source):
        raise OutputError("an output other than the input", str(target), "Choose another name.")


def _is_finished(job: _Job) -> bool:
    """Whether the result is there; a file of another size, or none of ours, is not taken for it."""
    if not job.target.exists():
        return False
    try:
        found = image_size(job.target)
    except DataError:
        found = None
    if found != job.output:
        raise OutputError(
            f"{job.target} to be absent or of {job.output[0]} x {job.output[1]} pixels (H x W)",
            "another file" if found is None else f"{found[0]} x {found[1]}",
            "Add --overwrite, or choose another folder.",
        )
    return True


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


def _magnify(job: _Job, network: nn.Module, overwrite: bool, bar: tqdm[Any]) -> None:
    image = plain_tensor(read_rgb(job.source))

    def bands() -> Iterator[np.ndarray]:
        for band in magnified_bands(image, network, job.output):
            yield to_range(band, torch.uint8).permute(1, 2, 0).numpy()
            bar.update(band.shape[1] * band.shape[2])

    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"to be able to make the folder {job.target.parent}", str(error.strerror)) from error
    save_image(job.target, bands(), job.output, mpp=job.mpp, icc=source_icc(job.source), overwrite=overwrite)


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
        _check_apart(source, target)
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


if __name__ == "__main__":
    main()
