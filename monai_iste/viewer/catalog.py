"""The slides and images that a viewer shows: named by short ids, opened once each, and no other file."""

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
from monai_iste.io.image_reader import IMAGE_SUFFIXES
from monai_iste.slides.backends import SLIDE_ENDINGS
from monai_iste.slides.plan import slide_digest
from monai_iste.slides.reader import Slide
from monai_iste.slides.resampling import Size

#: What the ids of magnified images end in, and by which method they are magnified.
VIRTUAL = {"-sr": "sr", "-bicubic": "bicubic"}

_LONGEST = 60


class UnknownImage(ISTEError, LookupError):
    """An id that is not in the catalog."""


class ViewedImage:
    """A slide or a plain image under its id; several threads may read it.

    After OpenSlide has failed once it refuses everything, so the file is then opened again, and read again once.

    Args:
        id: its name in addresses.
        path: the file.
        input_mpp: micrometers per pixel by the user's word.
    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, id: str, path: Path, input_mpp: float | None = None) -> None:
        self.id, self.path, self._input_mpp = id, path, input_mpp
        self._slide, self._lock = Slide(path, input_mpp), Lock()
        self.size: Size = self._slide.size
        self.mpp, self.icc = self._slide.mpp, self._slide.icc

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A region of level 0, (3, height, width) uint8."""
        return self._retried(lambda slide: slide.read(top, left, height, width))

    def read_at(self, size: Size, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A region of the slide resampled to ``size``, (3, height, width) uint8."""
        return self._retried(lambda slide: slide.read_at(size, top, left, height, width))

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the file, by which a browser tells that a picture is still the same."""
        return slide_digest(self._slide)

    @cached_property
    def objective(self) -> float | None:
        """The objective's magnification, if the file states it."""
        try:
            with openslide.OpenSlide(self.path) as slide:
                return float(slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER])
        except (openslide.OpenSlideError, KeyError, ValueError):
            return None

    def record(self) -> dict[str, Any]:
        """What a client is told: sizes are (width, height), ``mpp`` is (y, x). The path is not."""
        return {
            "id": self.id,
            "name": self.path.name,
            "width": self.size[1],
            "height": self.size[0],
            "mpp": self.mpp,
            "mpp_source": self._slide.mpp_source,
            "objective": self.objective,
            "levels": [level[::-1] for level in self._slide.levels],
        }

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()

    def _retried(self, read: Callable[[Slide], np.ndarray]) -> np.ndarray:
        slide = self._slide
        try:
            return read(slide)
        except DataError:
            with self._lock:
                if self._slide is slide:  # else another thread has opened it again
                    again = Slide(self.path, self._input_mpp)
                    if again.size != self.size:
                        again.close()
                        raise
                    self._slide = again
            return read(self._slide)


class Catalog:
    """The images of a viewer by their ids.

    Args:
        paths: files, and folders whose images and slides are all taken. A file of a folder that cannot be opened is
            left out, one that was named is an error.
        input_mpp: micrometers per pixel of all of them, by the user's word.
        tell: receives a sentence about each that is left out.
    Raises:
        DataError: there is none, or one that was named cannot be opened.

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
        self, paths: Sequence[Path], input_mpp: float | None = None, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self._images: dict[str, ViewedImage] = {}
        taken: set[str] = set()
        try:
            for path, named in _files(paths):
                id = _free_id(path.name, taken)
                try:
                    self._images[id] = ViewedImage(id, path, input_mpp)
                except DataError as error:
                    if named:
                        raise
                    tell(f"left out: {error}")
        except BaseException:
            self.close()
            raise
        if not self._images:
            raise DataError("slides or images to show", "none that can be opened", "Name files, or another folder.")

    def __iter__(self) -> Iterator[ViewedImage]:
        return iter(self._images.values())

    def __getitem__(self, id: str) -> ViewedImage:
        try:
            return self._images[id]
        except KeyError:
            raise UnknownImage("an id of /api/images", repr(id[:100]), "Ask for one of those.") from None

    def resolve(self, id: str) -> tuple[ViewedImage, str | None]:
        """The image of an address, and the method by which it is magnified beforehand; None for the image itself.

        Raises:
            UnknownImage: it is neither.
        """
        if id in self._images:
            return self._images[id], None
        for ending, method in VIRTUAL.items():
            if id.endswith(ending) and id.removesuffix(ending) in self._images:
                return self._images[id.removesuffix(ending)], method
        return self[id], None

    def close(self) -> None:
        """Let go of all files."""
        for image in self._images.values():
            image.close()


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file, and whether it was named itself; none twice."""
    seen = set()
    for path in paths:
        if path.is_dir():
            found = [Path(item["image"]) for item in image_datalist(path, IMAGE_SUFFIXES + SLIDE_ENDINGS)]
        else:
            found = [path]
        for file in found:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, file is path


def _free_id(name: str, taken: set[str]) -> str:
    """A slug of a file's name that neither it nor its magnified images share with others."""
    stem = re.sub(r"(\.ome)?\.[^.]+$", "", name.lower().removesuffix(".gz"))
    slug = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:_LONGEST] or "image"
    number, id = 1, slug
    while taken & (names := {id, *(id + ending for ending in VIRTUAL)}):
        number += 1
        id = f"{slug}-{number}"
    taken |= names
    return id
