"""Resumable on-disk store of computed windows.

Each window has two Zarr chunks: the interior as final uint8 pixels, and the blended border as weighted float32
contributions. The contributions are summed up in the order of the windows, so that the pixels equal those of
:class:`~monai_iste.inferers.Tiler` in one run, for any order of the windows.

A window is done when the ledger has a line for it. The line is written after the chunks are on the disk.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_iste.errors import DataError, ISTEError, require_extra
from monai_iste.functional import to_range
from monai_iste.inferers.tiling import AxisWindow, Region
from monai_iste.io.disk import sync, sync_folders
from monai_iste.io.files import report_write_errors
from monai_iste.slides.plan import SlidePlan, Window
from monai_iste.slides.source import Source
from monai_iste.slides.window_arrays import Key, WindowArrays
from monai_iste.slides.windows import overlap, parts
from monai_iste.slides.work_folder import REMEDY, WorkFolder

_CACHED_BYTES = 64 * 2**20
_READERS = 4  # threads that check stored windows

# Windows are committed together, so seldom that the waiting for the disk takes at most this share of the time.
_COMMIT_SHARE = 0.01
_COMMIT_SECONDS = 30.0  # longest time between two commits


class _Stored(NamedTuple):
    """Stored window: the interior (h, w, 3) uint8, and the four sides of the border (h, w, 3) float32."""

    interior: np.ndarray
    sides: list[np.ndarray]


class DamagedWindow(DataError):
    """A stored window is missing, or is not as it was written."""


class SourceRewritten(Exception):
    """The slide's files were written again, with the same content: the latest windows were not committed."""


class WindowStore:
    """Store of one slide's windows, in a folder.

    The constructor touches no files. :meth:`begin` makes the folder's content, in the process that owns the work. Other
    processes may :meth:`write` windows.

    Args:
        path: folder of the store.
        plan: plan of the slide.
        source: the slide's files; if given, no window is committed that may have been read from changed ones.
    Attributes:
        folder: the folder's lock, plan, ledger and mask.
        arrays: the pixels.
        done: checksums of the windows that are done.
    """

    def __init__(self, path: str | os.PathLike[str], plan: SlidePlan, source: Source | None = None) -> None:
        self.path, self.plan, self.source = Path(path), plan, source
        self.folder = WorkFolder(self.path, plan)
        self.arrays = WindowArrays(self.path / "windows.zarr", plan)
        self._cached = lru_cache(maxsize=max(4, _CACHED_BYTES // self._window_bytes))(self._read)
        self._pending: dict[Key, int] = {}
        self._committed, self._commit_cost = 0.0, 0.0
        self._is_distrusted = False
        self._mutex = RLock()

    # --- the folder ---------------------------------------------------------------------------------------------------

    def begin(self, resume: bool = False, discard: bool = False) -> bool:
        """Make the folder's content, or continue the work in it.

        Args:
            resume: continue unfinished work of the same plan. Otherwise the folder may not hold unfinished work.
            discard: delete unfinished work that is not continued.
        Returns:
            whether there is work to continue.
        Raises:
            OutputError: another process works in the folder; it holds work of another plan, work that may neither be
                continued nor deleted, or other files; or it cannot be written.
            ConfigError: Zarr is not installed.
        """
        require_extra("zarr", "slides")  # before there is a folder
        with self.folder.lock(), report_write_errors(self.path, REMEDY):
            is_continued = self.folder.begin(resume, discard)
            self.arrays.write_layout()
            self.folder.write_plan()
            return is_continued

    @property
    def _window_bytes(self) -> int:
        height, width = (max(s.stop - s.start for s in windows) for windows in (self.plan.rows, self.plan.columns))
        return 4 * height * width

    # --- the ledger ---------------------------------------------------------------------------------------------------

    @cached_property
    def done(self) -> dict[Key, int]:
        """Checksums of the windows that are done."""
        return self.folder.read_ledger()

    def enter(self, key: Key, checksum: int) -> None:
        """Note a window as done; only the process that owns the work may do this, inside :meth:`committing`."""
        with self._mutex:
            if self._is_distrusted:
                return
            self.done[key] = self._pending[key] = checksum
            waited = time.monotonic() - self._committed
            if waited >= min(self._commit_cost / _COMMIT_SHARE, _COMMIT_SECONDS):
                self.commit()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit the windows that are entered in the block: from time to time, and the rest when it ends.

        Raises:
            SourceRewritten, DataError, OutputError: as :meth:`commit`.
        """
        self._is_distrusted = False
        try:
            yield
        except BaseException:  # such as Ctrl-C
            with suppress(ISTEError, SourceRewritten):
                self.commit()
            raise
        self.commit()

    def commit(self) -> None:
        """Write the entered windows to the disk, then their lines into the ledger.

        Raises:
            SourceRewritten: the slide's files were written anew, with the same content. These windows do not count.
            DataError: the slide's content has changed. These windows do not count.
            OutputError: they cannot be written.
        """
        with self._mutex:
            if not self._pending:
                return
            pending, self._pending, started = self._pending, {}, time.monotonic()
            try:
                if self.source is not None and not self.source.check():
                    self._is_distrusted = True  # what was read before is still on its way
                    raise SourceRewritten
                with report_write_errors(self.path, REMEDY):
                    files = [file for key in pending for file in self.arrays.files(key)]
                    sync(files)
                    rows = {file.parent for file in files}
                    sync_folders(rows | {row.parent for row in rows})
                    self.folder.append_ledger(pending.items())
            except BaseException:
                for key in pending:
                    self.done.pop(key, None)
                raise
            self._committed = time.monotonic()
            self._commit_cost = self._committed - started

    def _forget(self, keys: list[Key]) -> None:
        """Remove damaged windows from the ledger, so that they are computed again."""
        with self._mutex:
            if [key for key in keys if self.done.pop(key, None) is not None]:
                self.folder.write_ledger({key: self.done[key] for key in self.done if key not in self._pending})

    # --- windows ------------------------------------------------------------------------------------------------------

    def write(self, window: Window, output: Tensor) -> int:
        """Store the contribution of a window; any process may do this.

        Shape:
            output: (3, H, W), as returned by :meth:`~monai_iste.inferers.Tiler.window_output`.
        Returns:
            the checksum for :meth:`enter`.
        """
        interior, sides = parts(window)
        pixels = output.permute(1, 2, 0)
        inner = to_range(pixels[interior.slices], torch.uint8).numpy()
        border = np.concatenate([pixels[side.slices].reshape(-1, 3).numpy() for side in sides])
        with report_write_errors(self.path, REMEDY):
            self.arrays.write(window.key, inner, border)
        return _checksum(inner, border)

    def verify(self) -> list[Key]:
        """Read all windows that are done, and forget those that are damaged.

        Returns:
            the damaged ones, which must be computed again.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            keys = list(self.done)
            damaged = [
                key for key, is_damaged in zip(keys, pool.map(self._is_damaged, keys), strict=True) if is_damaged
            ]
        self._forget(damaged)
        return damaged

    def _is_damaged(self, key: Key) -> bool:
        try:
            self._load(key)
        except DamagedWindow:
            return True
        return False

    def _read(self, key: Key) -> _Stored:
        try:
            return self._load(key)
        except DamagedWindow:
            self._forget([key])
            raise

    def _load(self, key: Key) -> _Stored:
        interior, sides = parts(self.plan.window(key))
        counts = [side.height * side.width for side in sides]
        try:
            inner, border = self.arrays.read(key, 3 * interior.height * interior.width, 3 * sum(counts))
        except DataError:
            raise
        except Exception as error:  # any error of Zarr and its codecs on a damaged or missing file
            raise self._damaged(key) from error
        if _checksum(inner, border) != self.done.get(key):
            raise self._damaged(key)
        flat = np.split(border.reshape(-1, 3), np.cumsum(counts)[:-1])
        return _Stored(
            inner.reshape(interior.height, interior.width, 3),
            [part.reshape(s.height, s.width, 3) for part, s in zip(flat, sides, strict=True)],
        )

    def _damaged(self, key: Key) -> DamagedWindow:
        return DamagedWindow(
            f"the stored window {key} in {self.path} as it was written",
            "a damaged or missing one",
            "Run again with --resume: it alone is computed again.",
        )

    # --- the result ---------------------------------------------------------------------------------------------------

    def assemble(self, region: Region) -> np.ndarray:
        """Read finished pixels of a region of the output, whose windows must be done.

        Args:
            region: in pixels of the whole output.
        Shape:
            returns (height, width, 3), uint8.
        """
        top, left, height, width = region

        def touched(windows: list[AxisWindow], begin: int, end: int) -> list[AxisWindow]:
            return [window for window in windows if window.start < end and window.stop > begin]

        result = np.empty((height, width, 3), np.uint8)
        sums = np.zeros((height, width, 3), np.float32)
        blended = np.zeros((height, width), bool)
        for row in touched(self.plan.rows, top, top + height):
            for column in touched(self.plan.columns, left, left + width):
                window = Window(row, column)
                stored, (interior, sides) = self._cached(window.key), parts(window)
                corner = row.start - top, column.start - left
                here, there = overlap(interior, corner, (height, width))
                result[here] = stored.interior[there]
                for side, values in zip(sides, stored.sides, strict=True):
                    here, there = overlap(side, corner, (height, width))
                    sums[here] += values[there]
                    blended[here] = True
        if blended.any():
            result[blended] = to_range(torch.from_numpy(sums[blended]), torch.uint8).numpy()
        return result


def _checksum(interior: np.ndarray, border: np.ndarray) -> int:
    return zlib.crc32(border.tobytes(), zlib.crc32(interior.tobytes()))
