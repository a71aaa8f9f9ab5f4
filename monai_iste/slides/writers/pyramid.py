"""Levels of a slide, computed tile by tile in bounded memory; shared by all writers."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np

from monai_iste.errors import ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import Read

#: Side of the tiles in which every level is written, in pixels; a level that fits into one tile is the last.
TILE = 512

Size = tuple[int, int]
Progress = Callable[[int], object]
T = TypeVar("T")
S = TypeVar("S")


class SlideMetadata(NamedTuple):
    """Metadata of a written slide. The source's description is left out, because it may name a patient.

    Args:
        mpp: micrometers per pixel of level 0, (y, x); None if unknown.
        icc: RGB color profile.
        provenance: origin of the pixels, such as software, preset, checksum of the weights, scale, and a notice.
    """

    mpp: tuple[float, float] | None
    icc: bytes | None
    provenance: dict[str, str]


class Tile(NamedTuple):
    """Tile of a level: its row and column in the grid of tiles, and its region in the level's pixels."""

    row: int
    column: int
    region: Region


def level_sizes(size: Size) -> list[Size]:
    """Compute (H, W) of every level: each half of the one before, rounded up, until it fits into one tile.

    Example:
        >>> level_sizes((1300, 2001))
        [(1300, 2001), (650, 1001), (325, 501)]
    """
    sizes = [size]
    while max(sizes[-1]) > TILE:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def halve(pixels: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels, halves rounded up; an odd last row or column counts twice.

    Shape:
        pixels: (H, W, 3) uint8; returns (ceil(H / 2), ceil(W / 2), 3) uint8.

    Example:
        >>> halve(np.array([[[0], [1], [7]], [[0], [1], [8]]], np.uint8))[..., 0].tolist()
        [[1, 8]]
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    pairs = pixels[::2].astype(np.uint16) + pixels[1::2]
    means: np.ndarray = ((pairs[:, ::2] + pairs[:, 1::2] + 2) >> 2).astype(np.uint8)
    return means


class Pyramid:
    """Iterator over the levels of a slide, one after another, each tile once, in row-major order.

    Every tile is halved and stored for the next level, so that no pixel of level 0 is read twice. Stored tiles lie,
    compressed, in unnamed temporary files in ``folder``, of at most a third of the slide's bytes; the system deletes
    them when the process ends. Memory holds some tiles per thread, never a row of them.

    Args:
        read: reads a region of level 0, (height, width, 3) uint8. It is called once per tile of :data:`TILE` pixels, in
            row-major order, by several threads.
        size: (H, W) of level 0.
        folder: an existing folder for temporary files.
        progress: called with a number of pixels of level 0 when they are finished.
    Raises:
        ShapeError: ``read`` returned another shape or type.
        OSError: the disk is full.

    Example:
        >>> pixels = np.zeros((700, 300, 3), np.uint8)
        >>> with Pyramid(lambda region: pixels[region.slices], (700, 300)) as levels:
        ...     [[pixels.shape for pixels in levels.tiles(k, lambda tile, pixels: pixels)] for k in range(2)]
        [[(512, 300, 3), (188, 300, 3)], [(350, 150, 3)]]
    """

    def __init__(
        self,
        read: Read,
        size: Size,
        folder: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.sizes = level_sizes(size)
        self._read, self._folder, self._progress = read, folder, progress
        self._stored: list[_StoredLevel | None] = [None]  # stored levels that were begun
        self._workers = min(8, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._workers)

    def __enter__(self) -> Pyramid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)  # all writing has ended
        self._close(len(self._stored))

    def _close(self, levels: int) -> None:
        for stored in self._stored[:levels]:
            if stored is not None:
                stored.close()

    def tiles(self, level: int, finish: Callable[[Tile, np.ndarray], T]) -> Iterator[T]:
        """Yield ``finish(tile, pixels)`` for each tile of a level, in row-major order; levels must follow each other.

        Args:
            finish: called by several threads with a tile and its pixels, (height, width, 3) uint8.
        """
        if level != len(self._stored) - 1:
            raise ValueError(f"level {len(self._stored) - 1} comes next, not {level}")
        self._close(level)
        source = self._stored[level]
        below = _StoredLevel(self.sizes[level + 1], self._folder) if level + 1 < len(self.sizes) else None
        self._stored.append(below)

        def work(tile: Tile) -> tuple[Tile, T]:
            pixels = self._level_0(tile) if source is None else source.read(tile)
            if below is not None:
                below.write(tile.row, tile.column, halve(pixels))
            return tile, finish(tile, pixels)

        for tile, result in self._in_order(work, _grid(self.sizes[level])):
            if level == 0 and self._progress is not None:
                self._progress(tile.region.height * tile.region.width)
            yield result

    def _level_0(self, tile: Tile) -> np.ndarray:
        region = tile.region
        pixels: np.ndarray = self._read(region)
        if pixels.shape != (region.height, region.width, 3) or pixels.dtype != np.uint8:
            raise ShapeError(
                f"({region.height}, {region.width}, 3) uint8 from read({region})",
                f"{pixels.shape} {pixels.dtype}",
                "Return that part of level 0.",
            )
        return pixels

    def _in_order(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """Map items on several threads, a few at once, and yield the results in order."""
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(self._pool.submit(work, item))
            if len(pending) > 2 * self._workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _grid(size: Size) -> Iterator[Tile]:
    height, width = size
    for row, top in enumerate(range(0, height, TILE)):
        for column, left in enumerate(range(0, width, TILE)):
            yield Tile(row, column, Region(top, left, min(TILE, height - top), min(TILE, width - left)))


class _StoredLevel:
    """Temporary storage of a level: one chunk for each tile of the level above, four of which make up a tile.

    All chunks are in one unnamed file. Files in a folder, or a Zarr array, could be removed by others, and Zarr would
    read missing chunks as black.
    """

    def __init__(self, size: Size, folder: str | os.PathLike[str] | None) -> None:
        self._side = TILE // 2
        self._size = size
        grid = [-(-n // self._side) for n in size]
        self._place = np.zeros((*grid, 2), np.int64)  # first byte, number of bytes
        self._end = 0
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile(dir=None if folder is None else Path(folder))  # noqa: SIM115

    def write(self, row: int, column: int, pixels: np.ndarray) -> None:
        import imagecodecs

        chunk = imagecodecs.zstd_encode(pixels.tobytes(), level=1)
        with self._lock:
            self._file.seek(self._end)
            self._file.write(chunk)
            self._place[row, column] = self._end, len(chunk)
            self._end += len(chunk)

    def read(self, tile: Tile) -> np.ndarray:
        grid = self._place.shape[:2]
        rows = range(2 * tile.row, min(2 * tile.row + 2, grid[0]))
        columns = range(2 * tile.column, min(2 * tile.column + 2, grid[1]))
        return np.block([[[self._chunk(row, column)] for column in columns] for row in rows])

    def _chunk(self, row: int, column: int) -> np.ndarray:
        import imagecodecs

        with self._lock:
            first, count = self._place[row, column]
            self._file.seek(first)
            chunk = self._file.read(count)
        height, width = (min(self._side, n - self._side * k) for n, k in zip(self._size, (row, column), strict=True))
        return np.frombuffer(imagecodecs.zstd_decode(chunk), np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        self._file.close()
