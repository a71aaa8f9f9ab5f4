"""Catalog of the slides and images that a viewer serves, under short ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openslide

from monai_iste.data.datasets import image_datalist
from monai_iste.errors import DataError, ISTEError
from monai_iste.inferers import Region
from monai_iste.inferers.input_traits import describe_departure
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.pixels import IMAGE_SUFFIXES, SLIDE_ENDINGS
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.slides.reader import Slide
from monai_iste.slides.resampling import Size

#: Id suffixes of the virtual images, which are upscaled versions of a slide, and the method of each.
VIRTUAL_SUFFIXES = {"-sr": "sr", "-bicubic": "bicubic"}

_MAX_SLUG_LENGTH = 60


class UnknownImage(ISTEError, LookupError):
    """The id is not in the catalog."""


class ImageRemoved(UnknownImage, DataError):
    """The file of the image was there when the viewer was started, and is not any more."""


class ImageChanged(DataError):
    """The file of the image was replaced, and the request or the file does not fit any more."""


class CatalogImage:
    """Slide or plain image with its id; safe to read from several threads.

    After OpenSlide has failed once, it refuses every further call. A failed read therefore reopens the file and tries
    once more.

    Args:
        id: name in addresses.
        path: the file.
        input_mpp: micrometers per pixel, if the file does not state them.
    Raises:
        DataError: the file cannot be opened.
    """

    def __init__(self, id: str, path: Path, input_mpp: float | None = None) -> None:
        self.id, self.path, self._input_mpp = id, path, input_mpp
        self._lock = Lock()
        self._cache: ByteCache | None = None
        self._adopt(Slide(path, input_mpp))

    def read(self, region: Region) -> np.ndarray:
        """Read a region of level 0 as (height, width, 3) uint8."""
        return self._read_with_retry(lambda slide: slide.read(region))

    def read_at(self, size: Size, region: Region) -> np.ndarray:
        """Read a region of the slide resampled to ``size`` as (height, width, 3) uint8."""
        return self._read_with_retry(lambda slide: slide.read_at(size, region))

    @property
    def version(self) -> str:
        """Version of the file that is open, which is part of the ETag and of the keys of caches."""
        return self._slide.source.version

    @property
    def digest(self) -> str:
        """SHA-256 of the slide's content."""
        return self._slide.source.digest

    def refresh(self) -> None:
        """Open the file again if it was written or replaced.

        Raises:
            ImageRemoved, ImageChanged: it cannot be opened any more.
        """
        if self._slide.source.is_changed():
            with self._lock:
                if self._slide.source.is_changed():
                    self._adopt(self._open_again())

    def check_version(self, version: str) -> None:
        """Check that the file is still the one whose :attr:`version` this is, such as after a long rendering.

        Raises:
            ImageRemoved, ImageChanged: it is not.
        """
        if self._slide.source.is_changed() or self.version != version:
            self._check_exists()
            raise ImageChanged(f"the same {self.path.name} until its pixels were read", "a replaced file", "Ask again.")

    def _check_exists(self) -> None:
        if not self.path.exists():
            raise ImageRemoved(
                f"the file {self.path.name}, which the viewer shows",
                "none: it was removed or renamed",
                "Put it back, or start the viewer again.",
            )

    def _open_again(self) -> Slide:
        try:
            return Slide(self.path, self._input_mpp)
        except (ISTEError, OSError) as error:
            self._check_exists()
            reason = str(error).replace(str(self.path), self.path.name).rstrip(".")
            raise ImageChanged(
                f"a readable {self.path.name}, as it was", f"a replaced or damaged file ({reason})", "Put it back."
            ) from error

    def share_cache(self, cache: ByteCache) -> None:
        """Keep decoded pixels in a cache that others use too."""
        self._cache = cache
        self._slide.share_cache(cache)

    def _adopt(self, slide: Slide) -> None:
        if self._cache is not None:
            slide.share_cache(self._cache)
        self._slide = slide
        self.size: Size = slide.size
        self.mpp, self.icc = slide.mpp, slide.icc
        self.__dict__.pop("objective", None)
        self._departures: dict[LearnedRange | None, str] = {}

    @cached_property
    def objective(self) -> float | None:
        """Magnification of the objective, or None if the file does not state it."""
        try:
            with openslide.OpenSlide(self.path) as slide:
                return float(slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER])
        except (openslide.OpenSlideError, KeyError, ValueError):
            return None

    def metadata(self) -> dict[str, Any]:
        """Return what clients see: sizes as (width, height), ``mpp`` as (y, x). The path is left out.

        ``mpp_remark`` is the reason why the pixel size is unknown, or what else the file states and is not believed.
        """
        return {
            "id": self.id,
            "name": self.path.name,
            "width": self.size[1],
            "height": self.size[0],
            "mpp": self.mpp,
            "mpp_source": self._slide.mpp_source,
            "mpp_remark": self._slide.pixel_size.remark if self.mpp is None else self._slide.pixel_size.not_believed,
            "note": self._slide.note,
            "objective": self.objective,
            "levels": [level[::-1] for level in self._slide.levels],
        }

    def departure(self, learned: LearnedRange | None) -> str:
        """Return a sentence if the slide is outside what weights learned, else an empty string."""
        if learned not in self._departures:
            self._departures[learned] = describe_departure(learned, self.read, self.size, self.mpp)
        return self._departures[learned]

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _read_with_retry(self, read: Callable[[Slide], np.ndarray]) -> np.ndarray:
        slide = self._slide
        try:
            return read(slide)
        except DataError:
            with self._lock:
                if self._slide is slide:  # otherwise another thread has reopened it
                    reopened = self._open_again()
                    if reopened.size != self.size:
                        reopened.close()
                        raise
                    self._adopt(reopened)
            return read(self._slide)


class Catalog:
    """Images of a viewer by id.

    Args:
        paths: files and folders. A folder contributes all its images and slides; those that cannot be opened are
            skipped. A file named directly must open.
        input_mpp: micrometers per pixel of all images, if their files do not state them.
        log: receives one sentence about each skipped file.
    Raises:
        DataError: there is no image, or a file named directly cannot be opened.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("Tissue 1.png", "tissue-1.bmp"):
        ...     Image.new("RGB", (60, 40)).save(folder / name)
        >>> [image.id for image in Catalog([folder])]
        ['tissue-1', 'tissue-1-2']
    """

    def __init__(
        self, paths: Sequence[Path], input_mpp: float | None = None, log: Callable[[str], None] = lambda text: None
    ) -> None:
        self._images: dict[str, CatalogImage] = {}
        used_ids: set[str] = set()
        try:
            for path, is_named in _list_files(paths, log):
                id = _unique_id(path.name, used_ids)
                try:
                    self._images[id] = CatalogImage(id, path, input_mpp)
                except DataError as error:
                    if is_named:
                        raise
                    log(f"skipped: {error}")
        except BaseException:
            self.close()
            raise
        if not self._images:
            raise DataError("slides or images to show", "none that can be opened", "Name files, or another folder.")

    def __iter__(self) -> Iterator[CatalogImage]:
        return iter(self._images.values())

    def __getitem__(self, id: str) -> CatalogImage:
        try:
            image = self._images[id]
        except KeyError:
            raise UnknownImage("an id of /api/images", repr(id[:100]), "Ask for one of those.") from None
        image.refresh()
        return image

    def resolve(self, id: str) -> tuple[CatalogImage, str | None]:
        """Return an image and, if the id names one of its virtual images, the method that upscales it.

        Raises:
            UnknownImage: the id names neither.
        """
        if id in self._images:
            return self[id], None
        for suffix, method in VIRTUAL_SUFFIXES.items():
            if id.endswith(suffix) and id.removesuffix(suffix) in self._images:
                return self[id.removesuffix(suffix)], method
        return self[id], None

    def share_cache(self, cache: ByteCache) -> None:
        """Keep the decoded pixels of all images in a cache that others use too."""
        for image in self._images.values():
            image.share_cache(cache)

    def close(self) -> None:
        """Close all files."""
        for image in self._images.values():
            image.close()


def _list_files(paths: Sequence[Path], log: Callable[[str], None]) -> Iterator[tuple[Path, bool]]:
    """Yield every file once, and whether it was named directly."""
    seen = set()
    for path in paths:
        if path.is_dir():
            found = [Path(item["image"]) for item in image_datalist(path, IMAGE_SUFFIXES + SLIDE_ENDINGS, log)]
        else:
            found = [path]
        for file in found:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, file is path


def _unique_id(name: str, used: set[str]) -> str:
    """Return a slug of a file name that collides with no other id, virtual images included, and reserve it."""
    stem = re.sub(r"(\.ome)?\.[^.]+$", "", name.lower().removesuffix(".gz"))
    slug = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:_MAX_SLUG_LENGTH] or "image"
    number, id = 1, slug
    while used & (ids := {id, *(id + suffix for suffix in VIRTUAL_SUFFIXES)}):
        number += 1
        id = f"{slug}-{number}"
    used |= ids
    return id
