"""Planning and running of the jobs of ``monai-iste upscale``: plain images, and slides as work that can be interrupted.

Only slides need MONAI, so that it is imported with the first of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from monai_iste.cli.departures import warn_departure, warn_slide_departure
from monai_iste.cli.folder import Pair
from monai_iste.cli.image_job import ImageJob
from monai_iste.cli.options import log
from monai_iste.cli.refused import leave_nothing
from monai_iste.errors import ConfigError, DataError, OutputError, ScaleError, ShapeError, check_choice
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize
from monai_iste.io.checks import TooManyPixels
from monai_iste.io.files import check_apart, check_new_path
from monai_iste.io.image_reader import ImageInfo, probe
from monai_iste.io.image_writer import (
    MAX_FILE_PIXELS,
    SLIDE_SUFFIXES,
    WRITABLE_SUFFIXES,
    check_output,
    slide_suffix,
)
from monai_iste.io.pixel_size import PixelSize
from monai_iste.io.stated_pixel_size import describe_mpp
from monai_iste.networks.weights import network_digest
from monai_iste.progress import ProgressBar

if TYPE_CHECKING:
    from monai_iste.slides import SlideJob


@dataclass(frozen=True)
class SlideOptions:
    """Options that only slides have. An input is processed as a slide if one of them is given."""

    region: Region | None = None
    tissue_only: bool = False
    work_dir: Path | None = None
    resume: bool = False
    compression: str = "jpeg"
    consistency: bool = False
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        check_choice("--compression", self.compression, ("jpeg", "lossless"))
        if self.workers is not None and self.scheduler is not None:
            raise ConfigError("one of --workers and --scheduler", "both", "Give the one you mean.")


class Upscaler:
    """Plan and run the jobs of one command.

    Args:
        output_size: requested size of the results.
        input_mpp: micrometers per pixel of the inputs, given by the user.
        options: options of slides.
        network: on its device, in evaluation mode.
        network_info: what the report states about the network: preset, weights, device, precision.
        threads: processor threads of each process.
        overwrite: whether existing files are replaced.
        is_folder: whether the inputs are those of a folder. Existing results are then skipped, and an input that cannot
            be read, or an output that cannot be written, is reported without ending the others.
    Attributes:
        exit_code: that of the first input or output that failed; else 0.
    """

    def __init__(
        self,
        output_size: OutputSize,
        input_mpp: float | None,
        options: SlideOptions,
        network: nn.Module,
        network_info: dict[str, Any],
        threads: int | None,
        overwrite: bool,
        is_folder: bool,
    ) -> None:
        self.output_size, self.input_mpp, self.options = output_size, input_mpp, options
        self.network, self.network_info, self.threads = network, network_info, threads
        self.overwrite, self.is_folder = overwrite, is_folder
        self.skipped = self.failed = self.exit_code = 0

    def run(self, pairs: Sequence[Pair], dry_run: bool, announce: Callable[[str], None] | None) -> dict[str, Any]:
        """Run the jobs of all inputs, after all of them were checked.

        Args:
            dry_run: only check and estimate.
            announce: receives a line about every result.
        Returns:
            the report, plain values.
        """
        jobs = self._plan_all(pairs)
        images = []
        with self._progress_and_cluster(jobs, dry_run):
            for job in jobs:
                with self._continue_folder(), leave_nothing(job):
                    started = time.perf_counter()
                    done = job.estimate() if dry_run else self._run(job)
                    seconds = None if dry_run else round(time.perf_counter() - started, 3)
                    images.append({**job.record(), "seconds": seconds, **done})
                    if announce is not None and not done.get("complete"):
                        announce(f"would write {job}" if dry_run else f"wrote {job} in {seconds:.1f} s")
        return {
            **self.network_info,
            "dry_run": dry_run,
            "skipped": self.skipped,
            "failed": self.failed,
            "images": images,
        }

    def _run(self, job: ImageJob | SlideJob) -> dict[str, Any]:
        """Warn of an input that the weights did not learn, then compute and write the result."""
        if isinstance(job, ImageJob):
            return job.run(partial(warn_departure, self.network_info, job.source))
        return warn_slide_departure(self.network_info, job.slide) | job.run()

    def _plan_all(self, pairs: Sequence[Pair]) -> list[ImageJob | SlideJob]:
        """Plan the jobs whose results do not exist yet."""
        jobs = []
        for pair in pairs:
            with self._continue_folder():
                job = self._plan(*pair)
                if job.is_complete():
                    self.skipped += 1
                else:
                    jobs.append(job)
        if self.skipped:
            log(
                f"{self.skipped} of {len(pairs)} are there already and are skipped"
                if self.is_folder
                else f"{pairs[0][1]} is complete already"
            )
        return jobs

    def _plan(self, source: Path, target: Path) -> ImageJob | SlideJob:
        """Check one input and its output, and make their job."""
        check_apart(source, target)
        _check_ending(target)
        if self.is_folder:  # whose subfolders are made with their first results
            check_new_path(target)
        info = self._image_info(source, target)
        return self._plan_slide(source, target) if info is None else self._plan_image(source, target, info)

    def _image_info(self, source: Path, target: Path) -> ImageInfo | None:
        """Read the header of a plain image; None for an input that is processed as a slide.

        Slides are outputs that only slide writers write, images too large for memory, and all inputs if an option for
        slides is given.
        """
        if self.options != SlideOptions() or slide_suffix(target):
            return None
        try:
            return probe(source, self.input_mpp)
        except TooManyPixels:  # regions of it may still be read
            return None

    def _plan_image(self, source: Path, target: Path, info: ImageInfo) -> ImageJob:
        output = self.output_size.resolve_upscaled(info.size, info.mpp, source, MAX_FILE_PIXELS, info.pixel_size.remark)
        _log_notes(source, info.pixel_size, info.note)
        if not self.is_folder:
            check_output(target, output, self.overwrite)
        return ImageJob(
            source, target, info, output, self.network, self.network_digest, self.overwrite, resume=self.is_folder
        )

    @cached_property
    def network_digest(self) -> str:
        """Digest of the network at its precision, which results of images are sealed with."""
        return f"{network_digest(self.network)} {self.network_info['precision']}"

    def _plan_slide(self, source: Path, target: Path) -> SlideJob:
        from monai_iste.slides import Slide, SlideJob, network_provenance, plan_slide

        options = self.options
        slide = Slide(source, self.input_mpp)
        plan = plan_slide(
            slide,
            self.network,
            **vars(self.output_size),
            region=options.region,
            tissue_only=options.tissue_only,
            precision=self.network_info["precision"],
        )
        _log_notes(source, slide.pixel_size, slide.note)
        job = SlideJob(
            slide,
            target,
            plan,
            self.network,
            network_provenance(*(self.network_info[key] for key in ("preset", "weights", "precision", "input_blur"))),
            options.work_dir,
            compression=options.compression,
            consistency=options.consistency,
            resume=options.resume or self.is_folder,
            overwrite=self.overwrite,
            log=log,
        )
        if not self.is_folder and not job.is_complete():
            job.check()
        return job

    @contextmanager
    def _continue_folder(self) -> Iterator[None]:
        """Log and count an error of one input or output of a folder, so that the others are still processed."""
        try:
            yield
        except (DataError, OutputError, ScaleError, ShapeError) as error:
            if not self.is_folder:
                raise
            log(f"error: {error}")
            self.failed += 1
            self.exit_code = self.exit_code or error.exit_code

    @contextmanager
    def _progress_and_cluster(self, jobs: Sequence[ImageJob | SlideJob], dry_run: bool) -> Iterator[None]:
        """Give the jobs a progress bar, and the workers that --workers or --scheduler ask for."""
        images = [job for job in jobs if isinstance(job, ImageJob)]
        slides = [job for job in jobs if not isinstance(job, ImageJob)]
        with ExitStack() as stack:
            if images:
                total = sum(math.prod(job.output) for job in images)
                bar = ProgressBar(total=total, unit="px", unit_scale=True, desc="upscaling", disable=dry_run or None)
                stack.enter_context(bar)
                for image in images:
                    image.progress = bar.update
            options = self.options
            if slides and not dry_run and (options.workers, options.scheduler) != (None, None):
                from monai_iste.slides.cluster import cluster_client, compute_windows_on

                client = stack.enter_context(cluster_client(options.workers, options.scheduler, self.threads))
                for slide in slides:
                    slide.compute = partial(compute_windows_on, client, self.network_info["device"])
            yield


def _log_notes(source: Path, pixel_size: PixelSize, note: str) -> None:
    """Log what the user should know about an input: its page, and a pixel size that is not the one that it states."""
    if note:
        log(f"note: {source}: {note}")
    if pixel_size.stated is not None:
        log(f"warning: {source} itself states {describe_mpp(pixel_size.stated)}; --input-mpp is used")
    elif pixel_size.mpp is not None and pixel_size.not_believed is not None:
        log(f"note: {source} states {pixel_size.not_believed}; {pixel_size} is used")


def _check_ending(target: Path) -> None:
    endings = WRITABLE_SUFFIXES + SLIDE_SUFFIXES
    if not target.name.lower().endswith(endings):
        raise OutputError(f"an output that ends in {', '.join(endings)}", str(target), "TIFF holds any size.")
