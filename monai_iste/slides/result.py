"""Files of a finished job: a slide or an image, and the consistency map beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_iste.errors import OutputError, require_extra
from monai_iste.inferers.tiling import Read, Region
from monai_iste.io.files import abandoned, check_name, check_writable, remove_abandoned
from monai_iste.io.image_writer import check_output, save_image, slide_suffix
from monai_iste.io.seal import Fields, read_seal
from monai_iste.slides.consistency import comparable, consistency_maps
from monai_iste.slides.consistency_report import summary, write_consistency
from monai_iste.slides.plan import SlidePlan
from monai_iste.slides.reader import Slide
from monai_iste.slides.writers.writer import SlideMetadata, check_slide_output, write_slide

_BAND = 256  # rows of a plain image that are assembled at once


@dataclass
class SlideResult:
    """Files of the result of a plan. Each has a seal, by which it is known to be whole and to be that of the plan.

    Args:
        target: file or folder of the slide, or file of the image.
        plan: the plan.
        compression: ``jpeg`` or ``lossless``.
        consistency: whether a consistency map belongs to the result.
        overwrite: whether existing files are replaced.
    """

    target: Path
    plan: SlidePlan
    compression: str
    consistency: bool
    overwrite: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.plan.region.height, self.plan.region.width

    @property
    def maps(self) -> tuple[Path, ...]:
        """Files of the consistency map: picture and numbers; none if no map is asked for."""
        picture = map_name(self.target)
        return (picture, picture.with_suffix(".tif")) if self.consistency else ()

    @property
    def seal(self) -> Fields:
        """Fields of the seals."""
        suffix = slide_suffix(self.target)
        compression = "lossless" if suffix == ".ome.zarr" else self.compression if suffix else "none"
        return {"job": self.plan.digest, "compression": compression}

    # --- what is there ------------------------------------------------------------------------------------------------

    def is_there(self) -> bool:
        """Check that the slide or image is there, whole, made by this job, and compressed as asked for or lossless."""
        return self._describe_target() is None

    def check_own(self) -> None:
        """Raise OutputError if the target exists, and is something else than the result of this job."""
        found = self._describe_target() if os.path.exists(self.target) else None
        if found is not None:
            raise OutputError(
                f"{self.target} to be absent or the result of this job", found, "Name another, or add --overwrite."
            )

    def _describe_target(self) -> str | None:
        """Describe what is wrong with the target; None if it is the result of this job."""
        found, asked = read_seal(self.target), self.seal
        if found is None:
            return "another file, or one that is not complete"
        if found["job"] != asked["job"]:
            return "that of another slide, network, blur, size or region"
        if found["compression"] not in (asked["compression"], "lossless"):
            return f"its result with --compression {found['compression']}"
        return None

    def has_maps(self) -> bool:
        """Check that the consistency map is there, if one is asked for."""
        return all(self._is_own_map(path) for path in self.maps)

    def _is_own_map(self, path: Path) -> bool:
        return (read_seal(path) or {}).get("job") == self.plan.digest

    def has_abandoned(self) -> bool:
        """Check whether a killed process left temporary files."""
        return any(abandoned(path) for path in (self.target, *self.maps))

    def remove_abandoned(self) -> None:
        """Delete what killed processes left."""
        for path in (self.target, *self.maps):
            remove_abandoned(path)

    def check(self, metadata: SlideMetadata, is_resumed: bool) -> None:
        """Check that all files can be written, before any work.

        Args:
            is_resumed: whether files that this job made before may be there.
        """
        if not (is_resumed and self.is_there()):
            if slide_suffix(self.target):
                check_slide_output(self.target, self.size, metadata, self.overwrite)
            else:
                check_output(self.target, self.size, self.overwrite)
        if self.consistency:
            comparable(self.plan.size, self.plan.output, self.plan.region)
        for path in self.maps:
            check_name(path, self.overwrite or (is_resumed and self._is_own_map(path)))
            check_writable(path)

    # --- writing and reading ------------------------------------------------------------------------------------------

    def write(self, read: Read, metadata: SlideMetadata, work_dir: Path, progress: Callable[[int], Any]) -> None:
        """Write the slide or image.

        Args:
            read: reads a region of the whole output.
            work_dir: folder for temporary files.
            progress: called with a number of pixels when they have been written.
        """
        whole = self.plan.region

        def read_own(region: Region) -> np.ndarray:
            pixels: np.ndarray = read(region._replace(top=whole.top + region.top, left=whole.left + region.left))
            return pixels

        if slide_suffix(self.target):
            write_slide(
                self.target,
                read_own,
                self.size,
                metadata,
                work_dir,
                compression=self.compression,
                overwrite=self.overwrite,
                progress=progress,
                seal=self.seal,
            )
            return
        height, width = self.size

        def bands() -> Iterator[np.ndarray]:
            for top in range(0, height, _BAND):
                band = read_own(Region(top, 0, min(_BAND, height - top), width))
                yield band
                progress(band.shape[0] * width)

        mpp, icc = metadata.mpp, metadata.icc
        save_image(self.target, bands(), self.size, mpp=mpp, icc=icc, overwrite=self.overwrite, seal=self.seal)

    def write_maps(self, read_slide: Read, read: Read, log: Callable[[str], None]) -> dict[str, Any]:
        """Write the consistency map (:mod:`monai_iste.slides.consistency`), log its summary, and return it."""
        plan = self.plan
        maps = consistency_maps(read_slide, read, plan.size, plan.output, region=plan.region)
        found = summary(maps, origin=comparable(plan.size, plan.output, plan.region)[:2])
        picture, numbers = write_consistency(self.maps[0], maps, mpp=plan.mpp, overwrite=True, seal=self.seal)
        log(str(found))
        return {"consistency": {**found._asdict(), "picture": str(picture), "numbers": str(numbers)}}

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """Open the finished slide or image; yields a function that reads a region of the whole output."""
        whole = self.plan.region

        def own(region: Region) -> Region:
            return region._replace(top=region.top - whole.top, left=region.left - whole.left)

        if slide_suffix(self.target) == ".ome.zarr":
            level = require_extra("zarr", "slides").open_group(self.target, mode="r")["0"]
            yield lambda region: np.asarray(level[(slice(None), *own(region).slices)]).transpose(1, 2, 0)
            return
        with Slide(next(self.target.glob("*.dcm")) if self.target.is_dir() else self.target) as slide:
            yield lambda region: slide.read(own(region))


def map_name(target: Path) -> Path:
    """Name the picture of a result's consistency map.

    Example:
        >>> map_name(Path("a.1.ome.tiff")).name, map_name(Path("a.png")).name
        ('a.1.consistency.png', 'a.png.consistency.png')
    """
    stem = target.name[: len(target.name) - len(slide_suffix(target))]
    return target.with_name(f"{stem}.consistency.png")
