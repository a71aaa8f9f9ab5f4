"""Super-resolution of one slide, from its file to the result: check, compute, write."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

import monai_iste
from monai_iste.errors import OutputError, check_choice
from monai_iste.io.files import make_folder
from monai_iste.io.image_writer import slide_suffix
from monai_iste.io.stated_pixel_size import describe_mpp
from monai_iste.networks.parallel import worker_threads
from monai_iste.progress import ProgressBar
from monai_iste.slides.compute import compute_windows
from monai_iste.slides.estimate import Estimate, folder_bytes, peak_memory
from monai_iste.slides.plan import SlidePlan, Window
from monai_iste.slides.reader import Slide
from monai_iste.slides.result import SlideResult
from monai_iste.slides.tissue import TissueMask, tissue_mask
from monai_iste.slides.window_store import DamagedWindow, SourceRewritten, WindowStore
from monai_iste.slides.work_folder import WorkFolder
from monai_iste.slides.writers.writer import COMPRESSIONS, SlideMetadata

_ATTEMPTS = 3  # to write a result whose stored windows are damaged again and again

#: Bytes per pixel of a finished file: JPEG of quality 90 stays below one; lossless never passes three.
_FILE_BYTES = {"jpeg": 1.0, "lossless": 3.0}


@dataclass
class SlideJob:
    """Super-resolution of one slide to one file; it can be interrupted and resumed.

    Args:
        slide: slide, opened.
        target: file of the result; ends in one of :data:`~monai_iste.io.image_writer.SLIDE_SUFFIXES`, or is a plain
            image.
        plan: plan of the slide.
        network: network of the plan, on its device, in evaluation mode.
        provenance: provenance of the network (:func:`~monai_iste.slides.provenance.network_provenance`).
        work_dir: parent of the folder of unfinished work; default: the folder of the target.
        compression: ``jpeg`` or ``lossless``, for slides.
        consistency: whether a consistency map is written beside the result (:mod:`monai_iste.slides.consistency`).
        resume: continue unfinished work, and keep a complete result.
        overwrite: replace an existing result, and delete unfinished work that is not continued.
        log: receives progress messages, one line each.
        compute: function with the signature of :func:`~monai_iste.slides.compute.compute_windows`.
        quiet: hide progress bars; default: hidden unless standard error is a terminal.
    """

    slide: Slide
    target: Path
    plan: SlidePlan
    network: nn.Module
    provenance: dict[str, str]
    work_dir: str | os.PathLike[str] | None = None
    compression: str = "jpeg"
    consistency: bool = False
    resume: bool = False
    overwrite: bool = False
    log: Callable[[str], None] = lambda text: None
    compute: Callable[..., None] = compute_windows
    quiet: bool | None = None

    def __post_init__(self) -> None:
        self.target = Path(self.target)
        beside = self.target.parent if self.work_dir is None else Path(self.work_dir)
        self.folder = beside / f"{self.target.name}.work"
        # Two jobs of one output meet here, wherever their work is.
        self._beside = WorkFolder(self.target.parent / self.folder.name, self.plan)
        self.store = WindowStore(self.folder, self.plan, self.slide.source)
        self.result = SlideResult(self.target, self.plan, self.compression, self.consistency, self.overwrite)

    # --- checks -------------------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> SlideMetadata:
        """Metadata of the result."""
        box, full = self.plan.region, (0, 0, *self.plan.output)
        properties = {
            "software": f"monai_iste {monai_iste.__version__}",
            **self.provenance,
            "scale": f"{self.plan.scale[0]:.6g} x {self.plan.scale[1]:.6g} (y, x)",
            "source mpp": str(self.slide.pixel_size),
            "region": "all" if tuple(box) == full else f"top {box.top}, left {box.left}, of {full[2]} x {full[3]}",
            "background": "interpolated" if self.plan.tissue_only else "super-resolved",
            "job": self.plan.digest,
            "notice": "Super-resolved: pixels are inferred, not measured. Not for diagnosis.",
        }
        return SlideMetadata(self.plan.output_mpp, self.slide.icc, properties)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.plan.region.height, self.plan.region.width

    def is_complete(self) -> bool:
        """Check that nothing is left to do: the result and its map are there and whole, and nothing else is.

        Raises:
            OutputError: another file has the name of the result, and may not be overwritten.
        """
        if not os.path.exists(self.target) or self.overwrite or not self.resume:
            return False
        self.result.check_own()
        is_left = self.store.folder.is_left_over() or self._beside.is_reservation() or self.result.has_abandoned()
        return self.result.has_maps() and not is_left

    def check(self) -> None:
        """Check compression, format, names and disk of the result before any work."""
        check_choice("a compression", self.compression, COMPRESSIONS)
        self.result.check(self.metadata, self.resume and not self.overwrite)

    # --- the work -----------------------------------------------------------------------------------------------------

    def estimate(self) -> dict[str, Any]:
        """Estimate the cost of the whole job from a few windows, which are discarded."""
        with TemporaryDirectory() as folder:
            trial = replace(self, work_dir=folder)
            trial.store.begin()
            estimate = trial._calibrate(trial._todo(), trial._mask())
        self.log(str(estimate))
        self._check_room(estimate.disk)
        return {"estimate": asdict(estimate)}

    def run(self) -> dict[str, Any]:
        """Compute and write the result, and delete the work folder.

        Returns:
            counts and times for a report, beside :meth:`record`.
        """
        if self.is_complete():
            self.log(f"{self.target} is complete already")
            return {"complete": True}
        make_folder(self.target.parent)
        self.check()
        is_elsewhere = self.folder.absolute() != self._beside.path.absolute()
        beside = self._beside.reserve() if is_elsewhere else nullcontext(True)
        with beside as is_safe_beside, self.store.folder.lock() as is_safe:
            for folder, is_held in ((self._beside, is_safe_beside), (self.store.folder, is_safe)):
                if not is_held:
                    self.log(f"warning: {folder.path} cannot be locked here: start no second job of this output")
            self.check()  # what another process did meanwhile is seen from here on
            is_written = self.resume and not self.overwrite and self.result.is_there()
            report = self._finish() if is_written else self._run()
            self.result.remove_abandoned()
            self.store.folder.remove()
        return report

    def _run(self) -> dict[str, Any]:
        continued = self.store.begin(self.resume, self.overwrite)
        self.slide.source.confirm()
        damaged = self.store.verify() if continued else []
        mask, total, reused = self._mask(), len(self.plan.windows), len(self.store.done)
        if continued:
            self.log(f"continues in {self.folder}: {reused:,} of {total:,} windows are done and are kept")
        elif self.resume:
            self.log("there is no unfinished work of this job: it starts from the beginning")
        self._report_damaged(len(damaged))
        started = time.perf_counter()
        estimate = self._calibrate(self._todo(), mask)
        self.log(str(estimate))
        self._check_room(estimate.disk)
        for attempt in range(_ATTEMPTS):
            self._compute(mask)
            self.slide.source.confirm()
            computed, work = time.perf_counter(), folder_bytes(self.folder)
            try:
                result = self._write()
                break
            except DamagedWindow:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.store.verify()
                self._report_damaged(len(self._todo()))
        report = {
            "windows": total,
            "windows_reused": reused,
            "compute_seconds": round(computed - started, 3),
            "write_seconds": round(time.perf_counter() - computed, 3),
            "work_bytes": work,
            **result,
        }
        if mask is not None:
            report["tissue"] = round(mask.fraction, 4)
        return report

    def _report_damaged(self, count: int) -> None:
        if count:
            self.log(f"{count:,} stored windows were damaged: they are computed again")

    def _finish(self) -> dict[str, Any]:
        """Make up for the end of a run that was interrupted after the result had its name."""
        found = {}
        if not self.result.has_maps():
            self.slide.source.confirm()
            if self.store.folder.holds_this_job() and self.store.begin(resume=True):
                self.store.verify()
            if self.store.folder.holds_this_job() and not self._todo():
                found = self.result.write_maps(self.slide.read, self.store.assemble, self.log)
            else:
                with self.result.opened() as read:
                    found = self.result.write_maps(self.slide.read, read, self.log)
            self.slide.source.confirm()
        self.log(f"{self.target} is complete already")
        return {"complete": True, **found}

    def record(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return {
            "input": str(self.slide.path),
            "output": str(self.target),
            "input_size": list(self.plan.size),
            "output_size": list(self.size),
            "scale": list(self.plan.scale),
            "mpp": self.plan.output_mpp and list(self.plan.output_mpp),
            "input_pixel_size": self.slide.pixel_size._asdict(),
            "note": self.slide.note,
        }

    def __str__(self) -> str:
        (h, w), (height, width), scale = self.plan.size, self.size, math.sqrt(math.prod(self.plan.scale))
        part = "" if self.size == self.plan.output else "a part of "
        unit, known = describe_mpp(self.plan.output_mpp), self.slide.pixel_size
        text = f"{self.target}: {part}{h} x {w} -> {height} x {width} (H x W, x{scale:.4g}, {unit})"
        return text if known.mpp is not None else f"{text}, pixel size: {known.remark}"

    def _mask(self) -> TissueMask | None:
        if not self.plan.tissue_only:
            return None
        mask = self.store.folder.read_mask()
        if mask is None:
            mask = tissue_mask(self.slide)
            self.slide.source.confirm()
            self.store.folder.write_mask(mask)
        return mask

    def _todo(self) -> list[Window]:
        return [window for window in self.plan.windows if window.key not in self.store.done]

    def _calibrate(self, todo: list[Window], mask: TissueMask | None) -> Estimate:
        """Compute a few windows and extrapolate from them; they are kept.

        After one for warming up there is one for each worker thread, computed at once, as all others will be. Windows
        without tissue take almost no time, and are not counted.
        """
        costly = [window for window in todo if mask is None or _touches(self.plan, mask, window)] or todo
        middle = max(1, len(costly) // 2)
        batches = [costly[:1], costly[middle : middle + max(1, worker_threads(self.network))]]
        each, before = 0.0, folder_bytes(self.folder)
        for batch in filter(None, batches):
            started = time.perf_counter()
            compute_windows(self.store, batch, self.slide, self.network, mask, lambda _: None)
            each = (time.perf_counter() - started) / len(batch)
        count = sum(map(len, batches))
        rest, nbytes = len(todo) - count, (folder_bytes(self.folder) - before) / max(1, count)
        return Estimate(rest, (len(costly) - count) * each, round(nbytes * rest + self._writing_bytes()), peak_memory())

    def _result_bytes(self) -> int:
        """Estimate the bytes of the result."""
        return round(math.prod(self.size) * (_FILE_BYTES[self.compression] * 4 / 3 if slide_suffix(self.target) else 3))

    def _writing_bytes(self) -> int:
        """Estimate the bytes of the result and of its levels while it is written."""
        return self._result_bytes() + (math.prod(self.size) if slide_suffix(self.target) else 0)

    def _check_room(self, needed: int) -> None:
        """Raise OutputError if a disk is too small for the work or for the result."""
        for place, nbytes in ((self.folder, needed), (self.target, self._result_bytes())):
            free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
            if nbytes > free:
                raise OutputError(
                    f"about {nbytes / 1e9:,.3g} GB of free space for {place}",
                    f"{free / 1e9:,.3g} GB",
                    "Free disk space, then run again with --resume, or choose another disk.",
                )

    def _compute(self, mask: TissueMask | None) -> None:
        plan, total = self.plan, math.prod(self.size)
        while todo := self._todo():
            initial = total - sum(plan.pixels(window) for window in todo)
            with ProgressBar(
                total=total, initial=initial, unit="px", unit_scale=True, desc="upscaling", disable=self.quiet
            ) as bar:

                def progress(window: Window, bar: Any = bar) -> None:
                    bar.update(plan.pixels(window))

                try:
                    self.compute(self.store, todo, self.slide, self.network, mask, progress)
                except SourceRewritten:
                    self.log(
                        f"{self.slide.path} was written again, with the same content: the latest windows do not count"
                    )

    def _write(self) -> dict[str, Any]:
        """Write the result, and the consistency map beside it."""
        total = math.prod(self.size)
        with ProgressBar(total=total, unit="px", unit_scale=True, desc="writing", disable=self.quiet) as bar:
            self.result.write(self.store.assemble, self.metadata, self.folder, bar.update)
        if not self.consistency:
            return {}
        found = self.result.write_maps(self.slide.read, self.store.assemble, self.log)
        self.slide.source.confirm()
        return found


def _touches(plan: SlidePlan, mask: TissueMask, window: Window) -> bool:
    """Check whether a window has tissue, so that the network runs for it."""
    y, x = (plan.positions(axis_window, axis) for axis, axis_window in enumerate(window))
    return mask.touches(float(y[0]), float(x[0]), float(y[-1]) + 1, float(x[-1]) + 1)
