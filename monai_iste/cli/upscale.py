"""What ``monai-iste upscale`` does: plain images in one go, slides as work that can be interrupted."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import openslide
import torch
import typer
from torch import nn
from tqdm import tqdm

from monai_iste.cli.options import (
    DeviceOption,
    OverwriteOption,
    PrecisionOption,
    PresetOption,
    ThreadsOption,
    UntrainedOption,
    WeightsOption,
    network_of,
    sentences,
    tell,
)
from monai_iste.data.datasets import image_datalist
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.functional import magnified_bands, to_range
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize, require_one
from monai_iste.io.files import make_folder
from monai_iste.io.image_reader import IMAGE_SUFFIXES, image_size, read_rgb, source_icc
from monai_iste.io.image_writer import MAX_FILE_PIXELS, WRITABLE_SUFFIXES, check_output, save_image
from monai_iste.io.pixel_size import Mpp, check_mpp, find_mpp
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.slides.backends import SLIDE_ENDINGS
from monai_iste.slides.cluster import cluster_client, compute_windows_on
from monai_iste.slides.job import SlideJob
from monai_iste.slides.plan import plan_slide
from monai_iste.slides.provenance import origin
from monai_iste.slides.reader import Slide
from monai_iste.slides.writers.writer import SLIDE_SUFFIXES, slide_suffix
from monai_iste.transforms.io import plain_tensor


@dataclass(frozen=True)
class SlideOptions:
    """What only makes sense for slides; whoever gives one of them means a slide, whatever the file is called."""

    region: Region | None = None
    tissue_only: bool = False
    work_dir: Path | None = None
    resume: bool = False
    compression: str = "jpeg"
    consistency: bool = False
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.compression not in ("jpeg", "lossless"):
            raise ConfigError("--compression jpeg or lossless", repr(self.compression), "Choose one of these.")
        if self.workers is not None and self.scheduler is not None:
            raise ConfigError("one of --workers and --scheduler", "both", "Give the one you mean.")


@dataclass
class ImageJob:
    """One image to magnify in memory, (h, w) to (H, W); ``mpp`` are the result's micrometers per pixel, (y, x)."""

    source: Path
    target: Path
    size: tuple[int, int]
    output: tuple[int, int]
    mpp: Mpp | None
    network: nn.Module
    overwrite: bool
    may_be_complete: bool
    progress: Callable[[int], Any] = lambda pixels: None

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

    def is_complete(self) -> bool:
        """Whether the result is there; a file of another size, or none of ours, is not taken for it."""
        if self.overwrite or not self.may_be_complete or not self.target.exists():
            return False
        try:
            found = image_size(self.target)
        except DataError:
            found = None
        if found != self.output:
            raise OutputError(
                f"{self.target} to be absent or of {self.output[0]} x {self.output[1]} pixels (H x W)",
                "another file" if found is None else f"{found[0]} x {found[1]}",
                "Add --overwrite, or choose another folder.",
            )
        return True

    def estimate(self) -> dict[str, Any]:
        return {}

    def run(self) -> dict[str, Any]:
        image = plain_tensor(read_rgb(self.source))

        def bands() -> Iterator[np.ndarray]:
            for band in magnified_bands(image, self.network, self.output):
                yield to_range(band, torch.uint8).permute(1, 2, 0).numpy()
                self.progress(band.shape[1] * band.shape[2])

        make_folder(self.target.parent)
        save_image(
            self.target, bands(), self.output, mpp=self.mpp, icc=source_icc(self.source), overwrite=self.overwrite
        )
        return {}


class Upscaler:
    """Plans and does the jobs of one command.

    Args:
        output_size: requested size of the results.
        input_mpp: micrometers per pixel of the inputs, where the user gives them.
        options: for slides.
        network: on its device, in evaluation mode.
        about: what is reported of the network: preset, weights, device, precision.
        threads: processor threads of each worker.
        overwrite: whether existing files are replaced.
        several: whether there may be results of an earlier run to go on from.
        tell: receives a sentence now and then.
    """

    def __init__(
        self,
        output_size: OutputSize,
        input_mpp: float | None,
        options: SlideOptions,
        network: nn.Module,
        about: dict[str, Any],
        threads: int | None,
        overwrite: bool,
        several: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.output_size, self.input_mpp, self.options = output_size, input_mpp, options
        self.network, self.about = network, about
        self.threads, self.overwrite, self.several, self.tell = threads, overwrite, several, tell

    @contextmanager
    def at_work(self, jobs: Sequence[ImageJob | SlideJob], dry_run: bool) -> Iterator[None]:
        """Bars, and a cluster if one is asked for, while jobs are run."""
        images = [job for job in jobs if isinstance(job, ImageJob)]
        slides = [job for job in jobs if isinstance(job, SlideJob)]
        with ExitStack() as stack:
            if images:
                total = sum(math.prod(job.output) for job in images)
                bar = tqdm(total=total, unit="px", unit_scale=True, desc="magnifying", disable=dry_run or None)
                for image in images:
                    image.progress = stack.enter_context(bar).update
            options = self.options
            if slides and not dry_run and (options.workers, options.scheduler) != (None, None):
                client = stack.enter_context(cluster_client(options.workers, options.scheduler, self.threads))
                for slide in slides:
                    slide.compute = partial(compute_windows_on, client, self.about["device"])
            yield

    def plan(self, source: Path, target: Path) -> ImageJob | SlideJob:
        """The job of one file, after all that can be refused before the work."""
        check_apart(source, target)
        _check_ending(target)
        return self._slide(source, target) if self._is_slide(source, target) else self._image(source, target)

    def _is_slide(self, source: Path, target: Path) -> bool:
        """Whether a file is magnified through a work folder, in memory that does not grow with it: what only slide
        readers open or slide writers write, what memory cannot hold, and whatever comes with an option for slides."""
        if self.options != SlideOptions() or slide_suffix(target):
            return True
        try:
            image_size(source)
        except DataError:  # too large, or not an image: is it a slide?
            return source.is_file() and openslide.OpenSlide.detect_format(source) is not None
        return False

    def _image(self, source: Path, target: Path) -> ImageJob:
        size = image_size(source)
        mpp, _, stated = find_mpp(source, self.input_mpp)
        self._warn_contradiction(source, stated)
        output = self.output_size.resolve_upscaled(size, mpp, source, MAX_FILE_PIXELS)
        if mpp is not None:
            mpp = mpp[0] * size[0] / output[0], mpp[1] * size[1] / output[1]
        if not self.several:
            check_output(target, output, self.overwrite)
        return ImageJob(source, target, size, output, mpp, self.network, self.overwrite, self.several)

    def _slide(self, source: Path, target: Path) -> SlideJob:
        options = self.options
        slide = Slide(source, self.input_mpp)
        plan = plan_slide(
            slide,
            self.network,
            **vars(self.output_size),
            region=options.region,
            tissue_only=options.tissue_only,
            precision=self.about["precision"],
        )
        self._warn_contradiction(source, slide.stated_mpp)
        job = SlideJob(
            slide,
            target,
            plan,
            self.network,
            origin(self.about["preset"], self.about["weights"], self.about["precision"]),
            options.work_dir,
            compression=options.compression,
            consistency=options.consistency,
            resume=options.resume or self.several,
            overwrite=self.overwrite,
            tell=self.tell,
        )
        if not self.several and not job.is_complete():
            job.check()
        return job

    def _warn_contradiction(self, path: Path, stated: Mpp | None) -> None:
        if stated is not None:
            self.tell(f"warning: {path} itself states {stated[1]:.4g} um/px; --input-mpp is used")


def pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Every image and slide of a folder, and where its result goes: the same relative path, with an ending that can be
    written (slides become OME-TIFF)."""
    if target.exists() and not target.is_dir():
        raise OutputError("a folder for the results of a folder", f"the file {target}", "Name another.")
    if target.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"an output outside {source}", str(target), "Results beside inputs would become inputs.")
    names = [Path(item["image"]).relative_to(source) for item in image_datalist(source, IMAGE_SUFFIXES + SLIDE_ENDINGS)]
    times = Counter(map(_written_name, names))
    return [(source / name, target / _own_name(name, times)) for name in names]


def _own_name(name: Path, times: Counter[Path]) -> Path:
    """The name of a result; where two slides would share it, as a.svs and a.ndpi, each keeps its ending in it."""
    written = _written_name(name)
    return written if times[written] == 1 or written == name else name.with_name(f"{name.name}.ome.tiff")


def _written_name(name: Path) -> Path:
    suffix = name.suffix.lower()
    if suffix in SLIDE_ENDINGS:
        return name.with_suffix(".ome.tiff")
    return name if suffix in WRITABLE_SUFFIXES else name.with_name(f"{name.name}.png")


def _check_ending(target: Path) -> None:
    endings = WRITABLE_SUFFIXES + SLIDE_SUFFIXES
    if not target.name.lower().endswith(endings):
        raise OutputError(f"an output that ends in {', '.join(endings)}", str(target), "TIFF holds any size.")


def check_apart(source: Path, target: Path) -> None:
    if os.path.exists(target) and target.samefile(source):
        raise OutputError("an output other than the input", str(target), "Choose another name.")


# --- upscale ----------------------------------------------------------------------------------------------------------


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

    The color profile is kept, and the new pixel size written where the input's is known. A file appears complete or
    not at all. A slide's work is kept in a folder until it is done, so that --resume goes on where it was interrupted;
    in a folder of images, those that are there already in the right size are skipped.
    """
    with sentences():
        require_one({"--scale": scale, "--size": size, "--mpp": mpp})
        output_size = OutputSize(scale, _parse_size(size), check_mpp("--mpp", mpp))
        input_mpp = check_mpp("--input-mpp", input_mpp)
        options = SlideOptions(
            _parse_region(region), tissue_only, work_dir, resume, compression, consistency, workers, scheduler
        )
        several = source.is_dir()
        found = pairs(source, target) if several else [(source, target)]
        network, about = network_of(preset, weights, device, precision, threads, allow_untrained)
        upscaler = Upscaler(output_size, input_mpp, options, network, about, threads, overwrite, several, tell)
        report: dict[str, Any] = {**about, "dry_run": dry_run, "skipped": 0, "failed": 0, "images": []}

        @contextmanager
        def one_of_several() -> Iterator[None]:
            """One unreadable image does not cost the rest of a folder; it is named, and the exit code tells."""
            try:
                yield
            except DataError as error:
                if not several:
                    raise
                tell(f"error: {error}")
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
            tell(
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
