"""Resumable on-disk store of computed windows.

Each window has two Zarr chunks: the interior as final uint8 pixels, and the blended border as weighted float32
contributions. The contributions are summed up in the order of the windows, so that the pixels equal those of
:class:`~monai_iste.inferers.Tiler` in one run, for any order of the windows.

A window is done when the ledger has a line for it. The line is written after the chunks.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_iste.errors import DataError, ISTEError, OutputError, require_extra
from monai_iste.functional import to_range
from monai_iste.inferers.tiling import AxisWindow, Region
from monai_iste.io.files import lock_file, report_write_errors
from monai_iste.slides.plan import SlidePlan, Window
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.windows import overlap, parts, unblended

_CACHED_BYTES = 64 * 2**20

_OWN_FILES = {
    "plan.json",
    "plan.json.part",
    "ledger.txt",
    "ledger.txt.part",
    "windows.zarr",
    "tissue.npy",
    "tissue.npy.part",
    "pyramid",
}

_REMEDY = "Free disk space or restore the folder, then run again with --resume: finished work is kept."

Key = tuple[int, int]


class _Stored(NamedTuple):
    """Stored window: the interior (h, w, 3) uint8, and the four sides of the border (h, w, 3) float32."""

    interior: np.ndarray
    sides: list[np.ndarray]


class WindowStore:
    """Store of one slide's windows, in a folder.

    The constructor touches no files. :meth:`begin` creates the folder, once, in the process that owns the work. Other
    processes may :meth:`write` windows.

    Args:
        folder: folder of the store.
        plan: plan of the slide.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: SlidePlan) -> None:
        self.folder, self.plan = Path(folder), plan
        self._cached = lru_cache(maxsize=max(4, _CACHED_BYTES // self._window_bytes))(self._read)

    # --- the folder ---------------------------------------------------------------------------------------------------

    def begin(self, resume: bool = False, discard: bool = False) -> bool:
        """Create the folder, or continue the work in it.

        Args:
            resume: continue unfinished work of the same plan. Otherwise the folder may not hold unfinished work.
            discard: delete unfinished work that is not continued.
        Returns:
            whether there is work to continue.
        Raises:
            OutputError: the folder holds work of another plan, work that may neither be continued nor deleted, or other
                files; or it cannot be written.
            ConfigError: Zarr is not installed.
        """
        require_extra("zarr", "slides")  # before there is a folder
        record = self.folder / "plan.json"
        with report_write_errors(self.folder, _REMEDY):
            found = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
            if found and not found <= _OWN_FILES:
                raise OutputError(
                    "a new folder for the work", f"{self.folder}, which holds other files", "Name another."
                )
            if record.exists():
                if resume and self._is_same(record):
                    return True
                with self.lock():  # work of a running process is not deleted
                    self._check_discarded(resume, discard)
                    shutil.rmtree(self.folder)
            elif found:  # killed while the folder was being made
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_arrays()
            part = self.folder / "plan.json.part"
            part.write_text(json.dumps(self.plan.record(), indent=1) + "\n")
            os.replace(part, record)
            return False

    def _is_same(self, record: Path) -> bool:
        """Check whether the work belongs to this plan."""
        with suppress(ValueError, KeyError, TypeError):
            return bool(json.loads(record.read_text())["digest"] == self.plan.digest)
        return False

    def _check_discarded(self, resume: bool, discard: bool) -> None:
        """Raise OutputError where there is work that may not be deleted."""
        if discard:
            return
        if not resume:
            raise OutputError(
                "no unfinished work of an earlier run", str(self.folder), "Add --resume, or --overwrite to start again."
            )
        raise OutputError(
            f"unfinished work of this job in {self.folder}",
            "that of another slide, network, size or region",
            "Give the same options again, another --work-dir, or --overwrite to start again.",
        )

    def _make_arrays(self) -> None:
        zarr = require_extra("zarr", "slides")
        rows, columns = self.plan.rows, self.plan.columns
        grid = (len(rows), len(columns))
        heights, widths = (
            {(length, stop - start) for start, stop, length in map(unblended, s)} for s in (rows, columns)
        )
        height, width = (max(inner for _, inner in lengths) for lengths in (heights, widths))
        border = max(h * w - inner_h * inner_w for h, inner_h in heights for w, inner_w in widths)
        # Windows may have no interior, and a single one has no border. Zarr 3.4 and later refuse an empty chunk.
        height, width, border = max(1, height), max(1, width), max(1, border)
        group = zarr.create_group(self.folder / "windows.zarr")
        for name, shape, kind in (("interior", (height, width, 3), "uint8"), ("border", (border, 3), "float32")):
            group.create_array(
                name,
                shape=(*grid, *shape),
                chunks=(1, 1, *shape),
                dtype=kind,
                compressors=zarr.codecs.BloscCodec(
                    cname="zstd", clevel=1, shuffle="noshuffle" if kind == "uint8" else "shuffle"
                ),
                config={"write_empty_chunks": True},
            )

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        zarr = require_extra("zarr", "slides")
        try:
            group = zarr.open_group(self.folder / "windows.zarr", mode="r+")
            # Without it a chunk of zeros, a black window, would not be stored.
            with zarr.config.set({"array.write_empty_chunks": True}):
                return {name: group[name] for name in ("interior", "border")}
        except Exception as error:  # any error of Zarr on damaged or missing metadata
            raise DataError(
                f"the store of windows in {self.folder} as it was made",
                f"a damaged one ({type(error).__name__})",
                "Restore the folder, or remove it to start again.",
            ) from error

    @property
    def _window_bytes(self) -> int:
        height, width = (max(s.stop - s.start for s in windows) for windows in (self.plan.rows, self.plan.columns))
        return 4 * height * width

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the store against other processes of this machine while the block runs."""
        with lock_file(self.folder / "plan.json") as locked:
            if not locked:
                raise OutputError(
                    "work that no other process is running",
                    f"{self.folder}, which is in use",
                    "Wait for it, or stop it.",
                )
            yield

    # --- the mask -----------------------------------------------------------------------------------------------------

    def keep_mask(self, mask: TissueMask) -> None:
        """Store the tissue mask for resumed runs."""
        with report_write_errors(self.folder, _REMEDY):
            part = self.folder / "tissue.npy.part"
            with open(part, "wb") as file:
                np.save(file, mask.to_array(), allow_pickle=False)
            os.replace(part, self.folder / "tissue.npy")

    def mask(self) -> TissueMask | None:
        """Read the stored tissue mask; None if there is none, or if it is damaged."""
        path = self.folder / "tissue.npy"
        with suppress(FileNotFoundError, ValueError, EOFError):
            return TissueMask(np.load(path, allow_pickle=False), self.plan.size)
        return None

    # --- the ledger ---------------------------------------------------------------------------------------------------

    @cached_property
    def done(self) -> dict[Key, int]:
        """Checksums of the windows that are done. A line that a crash has truncated does not count."""
        done = {}
        path = self.folder / "ledger.txt"
        for line in path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []:
            with suppress(ValueError):
                row, column, checksum, end = line.split(" ")
                if end == "done\n":
                    done[int(row), int(column)] = int(checksum, 16)
        return done

    def enter(self, key: Key, checksum: int) -> None:
        """Enter a window into the ledger as done, in one write; only the process that owns the work may do this."""
        with report_write_errors(self.folder, _REMEDY), open(self.folder / "ledger.txt", "ab") as file:
            if file.tell() and not self._ends_with_a_line():
                file.write(b"\n")
            file.write(f"{key[0]} {key[1]} {checksum:08x} done\n".encode())
        self.done[key] = checksum

    def _ends_with_a_line(self) -> bool:
        with open(self.folder / "ledger.txt", "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

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
        place = self._place(window.key)
        with report_write_errors(self.folder, _REMEDY):
            for name, values in (("interior", inner), ("border", border)):
                array = self._arrays[name]
                # Whole chunks, so that Zarr does not read existing ones, which may be damaged.
                array[place] = np.pad(values, [(0, n - m) for n, m in zip(array.shape[2:], values.shape, strict=True)])
        return _checksum(inner, border)

    def _read(self, key: Key) -> _Stored:
        interior, sides = parts(self.plan.window(key))
        place, arrays = self._place(key), self._arrays
        try:
            height, width = interior.height, interior.width
            inner = np.asarray(arrays["interior"][(*place, slice(height), slice(width))])
            border = np.asarray(arrays["border"][(*place, slice(sum(side.height * side.width for side in sides)))])
        except Exception as error:  # any error of Zarr and its codecs on a damaged or missing file
            raise self._damaged(key) from error
        if _checksum(inner, border) != self.done[key]:
            raise self._damaged(key)
        cuts = np.cumsum([side.height * side.width for side in sides])[:-1]
        flat = np.split(border, cuts)
        return _Stored(
            inner,
            [part.reshape(s.height, s.width, 3) for part, s in zip(flat, sides, strict=True)],
        )

    def _damaged(self, key: Key) -> ISTEError:
        """Remove a damaged window from the ledger, so that the next run computes it again."""
        self.done.pop(key, None)
        with report_write_errors(self.folder, _REMEDY):
            part = self.folder / "ledger.txt.part"
            part.write_text("".join(f"{r} {c} {checksum:08x} done\n" for (r, c), checksum in self.done.items()))
            os.replace(part, self.folder / "ledger.txt")
        return DataError(
            f"the stored window {key} in {self.folder} as it was written",
            "a damaged or missing one",
            "Run again with --resume: it alone is computed again.",
        )

    def _place(self, key: Key) -> Key:
        return key[0] - self.plan.rows[0].number, key[1] - self.plan.columns[0].number

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
