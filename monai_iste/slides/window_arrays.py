"""Pixels of windows on the disk: two Zarr arrays, with a chunk of each for every window."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from monai_iste.errors import DataError, require_extra
from monai_iste.io.disk import sync, sync_folders
from monai_iste.io.files import remove
from monai_iste.slides.plan import SlidePlan
from monai_iste.slides.windows import unblended

Key = tuple[int, int]


class WindowArrays:
    """Arrays ``interior`` (uint8) and ``border`` (float32), whose rows are the rows of windows.

    The constructor touches no files.

    Args:
        path: folder of the Zarr group.
        plan: plan of the slide.
    """

    names = ("interior", "border")

    def __init__(self, path: Path, plan: SlidePlan) -> None:
        self.path, self.plan = path, plan

    def write_layout(self) -> None:
        """Write Zarr's metadata, which follow from the plan; of interrupted work they may be damaged."""
        layout, store = self.path.with_name("layout.part"), self.path
        remove(layout)
        self._make_arrays(layout)
        for source in layout.rglob("zarr.json"):
            target = store / source.relative_to(layout)
            if not target.is_file() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                sync([source])
                os.replace(source, target)
        shutil.rmtree(layout)
        sync_folders([store / "interior", store / "border", store, store.parent])

    def _make_arrays(self, path: Path) -> None:
        """Make two arrays with a row of chunks for each row of windows; the length of a chunk is that of a window."""
        zarr = require_extra("zarr", "slides")
        codecs = require_extra("zarr.codecs", "slides")
        group = zarr.create_group(path)
        for (name, length), kind in zip(self._lengths.items(), ("uint8", "float32"), strict=True):
            shuffle = "noshuffle" if kind == "uint8" else "shuffle"
            group.create_array(
                name,
                shape=(len(self.plan.rows), len(self.plan.columns) * length),
                chunks=(1, length),
                dtype=kind,
                # The checksum comes last, so that a damaged chunk is found before it is decompressed.
                compressors=[codecs.BloscCodec(cname="zstd", clevel=1, shuffle=shuffle), codecs.Crc32cCodec()],
                config={"write_empty_chunks": True},
            )

    @cached_property
    def _lengths(self) -> dict[str, int]:
        rows, columns = self.plan.rows, self.plan.columns
        heights, widths = (
            {(length, stop - start) for start, stop, length in map(unblended, axis)} for axis in (rows, columns)
        )
        interior = max(inner for _, inner in heights) * max(inner for _, inner in widths)
        border = max(h * w - inner_h * inner_w for h, inner_h in heights for w, inner_w in widths)
        # Windows may have no interior, and a single one has no border. Zarr 3.4 and later refuse an empty chunk.
        return dict(zip(self.names, (3 * max(1, interior), 3 * max(1, border)), strict=True))

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        zarr = require_extra("zarr", "slides")
        try:
            group = zarr.open_group(self.path, mode="r+")
            # Without it a chunk of zeros, a black window, would not be stored.
            with zarr.config.set({"array.write_empty_chunks": True}):
                return {name: group[name] for name in self.names}
        except Exception as error:  # any error of Zarr on damaged or missing metadata
            raise DataError(
                f"the store of windows in {self.path.parent} as it was made",
                f"a damaged one ({type(error).__name__})",
                "Restore the folder, or remove it to start again.",
            ) from error

    def write(self, key: Key, *values: np.ndarray) -> None:
        """Write the values of a window, one array for each of :attr:`names`.

        Whole chunks are written, so that Zarr does not read existing ones, which may be damaged.
        """
        for name, array in zip(self.names, values, strict=True):
            length = self._lengths[name]
            self._arrays[name][self._place(name, key, length)] = np.pad(array.reshape(-1), (0, length - array.size))

    def read(self, key: Key, *counts: int) -> list[np.ndarray]:
        """Read the first values of a window, a number of them for each of :attr:`names`."""
        arrays = self._arrays
        pairs = zip(self.names, counts, strict=True)
        return [np.asarray(arrays[name][self._place(name, key, count)]) for name, count in pairs]

    def files(self, key: Key) -> list[Path]:
        """Name the files of a window."""
        row, column = self._index(key)
        return [self.path / name / "c" / str(row) / str(column) for name in self.names]

    def _place(self, name: str, key: Key, count: int) -> tuple[int, slice]:
        """Return the place of the first ``count`` values of a window in an array."""
        row, column = self._index(key)
        first = column * self._lengths[name]
        return row, slice(first, first + count)

    def _index(self, key: Key) -> Key:
        return key[0] - self.plan.rows[0].number, key[1] - self.plan.columns[0].number
