"""Removal of what a job made before its input was refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from monai_iste.errors import DataError

if TYPE_CHECKING:
    from monai_iste.cli.image_job import ImageJob
    from monai_iste.slides import SlideJob


@contextmanager
def leave_nothing(job: ImageJob | SlideJob) -> Iterator[None]:
    """Remove the folders that the block made for a job if it raises DataError, so that the next try says the same.

    Work that existed before is kept. So is work on a slide that can be read when it is opened again: of a network disk
    that failed for a moment, say.
    """
    slide_job = cast("SlideJob", job) if hasattr(job, "folder") else None  # images have no work folder
    made = _missing_above(job.target)
    if slide_job is not None:
        made = _missing_above(slide_job.folder) + made
    is_new = slide_job is not None and not os.path.lexists(slide_job.folder)
    try:
        yield
    except DataError:
        if slide_job is not None and is_new and _is_refused(slide_job):
            shutil.rmtree(slide_job.folder, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # of other jobs, too
                folder.rmdir()
        raise


def _missing_above(path: Path) -> list[Path]:
    """List the folders above a path that do not exist, the deepest first."""
    return [folder for folder in path.parents if not os.path.lexists(folder)]


def _is_refused(job: SlideJob) -> bool:
    """Check whether a slide still cannot be read where windows are missing."""
    from monai_iste.slides.reader import Slide
    from monai_iste.slides.tissue import tissue_mask

    done = job.store.done
    if not done:
        return True
    try:
        with Slide(job.slide.path) as slide:
            for window in job.plan.windows:
                if window.key not in done:
                    slide.read(window.source)
            if job.plan.tissue_only:
                tissue_mask(slide)
    except DataError:
        return True
    return False
