"""Folder of unfinished work: one process at a time works in it, and everything in it has a checksum.

It holds ``plan.json``, the plan; ``ledger.txt``, a line for every finished window; ``tissue.npy``, the tissue mask;
``windows.zarr``, the pixels (:mod:`monai_iste.slides.window_arrays`); and ``lock``, held by the process that works.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from monai_iste.errors import OutputError
from monai_iste.io.disk import sync_folders
from monai_iste.io.files import fcntl, open_output, remove, report_write_errors, try_lock
from monai_iste.slides.plan import SlidePlan
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_arrays import Key

REMEDY = "Free disk space or restore the folder, then run again with --resume: finished work is kept."

_OWN_NAMES = ("plan.json", "ledger.txt", "tissue.npy", "windows.zarr", "lock")
_OWN_BEGINNINGS = (".plan.json.", ".ledger.txt.", ".tissue.npy.", "layout.", "pyramid-", ".nfs")
_SUM_BYTES = 32


class WorkFolder:
    """Folder of the unfinished work on one plan.

    The constructor touches no files.

    Args:
        path: the folder.
        plan: plan of the slide.
    """

    def __init__(self, path: Path, plan: SlidePlan) -> None:
        self.path, self.plan = path, plan
        self._is_safe: bool | None = None  # None while the folder is not held

    # --- one process at a time ----------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Make the folder, and hold it against all other processes of this machine while the block runs.

        Yields False where the system or the disk has no locks.

        Raises:
            OutputError: another process works in it, it holds other files, or cannot be made.
        """
        if self._is_safe is not None:
            yield self._is_safe
            return
        descriptor, self._is_safe = self._acquire()
        try:
            yield self._is_safe
        finally:
            self._is_safe = None
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def reserve(self) -> Iterator[bool]:
        """Hold the folder as :meth:`lock` does, for a job whose work is elsewhere; what it holds is kept.

        Raises:
            OutputError: as :meth:`lock`.
        """
        with self.lock() as is_safe:
            try:
                yield is_safe
            finally:
                if self.is_reservation():
                    self.remove()

    def is_reservation(self) -> bool:
        """Check whether the folder exists, and holds nothing but a lock: no work, finished or not."""
        with suppress(OSError):  # it is absent, or cannot be looked into
            return set(os.listdir(self.path)) <= {"lock"}
        return False

    def _acquire(self) -> tuple[int | None, bool]:
        path = self.path / "lock"
        while True:
            self._check_names()
            with report_write_errors(self.path, "Choose another --work-dir, or free disk space."):
                self.path.mkdir(parents=True, exist_ok=True)
                if fcntl is None:
                    return None, False
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                except FileNotFoundError:  # another process has just finished, and removed the folder
                    continue
            is_locked = try_lock(descriptor)
            if is_locked is False:
                os.close(descriptor)
                raise OutputError(
                    "work that no other process is running",
                    f"{self.path}, which is in use",
                    "Wait for it, or stop it.",
                )
            if is_locked is None:
                return descriptor, False
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor, True
            os.close(descriptor)  # of a folder that was removed between the two calls

    def _check_names(self) -> None:
        if not self._is_ours():
            raise OutputError("a new folder for the work", f"{self.path}, which holds other files", "Name another.")

    def _is_ours(self) -> bool:
        """Check that nothing is in the folder but what belongs into a folder of work."""
        try:
            names = os.listdir(self.path)
        except OSError:  # it is absent, or what mkdir will say
            return True
        return all(name in _OWN_NAMES or name.startswith(_OWN_BEGINNINGS) for name in names)

    def is_left_over(self) -> bool:
        """Check whether the folder exists, and holds no work but that of this plan."""
        return self.path.is_dir() and self._is_ours() and self.holds_this_job() is not False

    # --- whose work it is ---------------------------------------------------------------------------------------------

    def holds_this_job(self) -> bool | None:
        """Check whether the work is that of this plan; None if nothing tells, and nothing of it is finished.

        A damaged plan does not matter where the ledger tells.
        """
        record, is_intact = self._read_plan()
        if record is not None and is_intact:
            return bool(record["digest"] == self.plan.digest)
        if self.read_ledger():
            return True
        ledger = self.path / "ledger.txt"
        return False if record is not None or (ledger.is_file() and ledger.stat().st_size) else None

    def begin(self, resume: bool, discard: bool) -> bool:
        """Continue the work in the folder, or make the folder empty for new work.

        Returns:
            whether there is work to continue.
        Raises:
            OutputError: there is work that may neither be continued nor deleted.
        """
        is_this = self.holds_this_job()
        if resume and is_this:
            return True
        if is_this is not None and not discard:
            self._refuse(resume)
        for name in ("ledger.txt", "plan.json"):  # first what tells whose work it is
            remove(self.path / name)
        for path in self.path.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return False

    def _refuse(self, resume: bool) -> None:
        if not resume:
            raise OutputError(
                "no unfinished work of an earlier run",
                str(self.path),
                "Add --resume, or --overwrite to start again.",
            )
        raise OutputError(
            f"unfinished work of this job in {self.path}",
            "that of another slide, network, blur, size or region, or of another version",
            "Give the same options again, another --work-dir, or --overwrite to start again.",
        )

    def write_plan(self) -> None:
        """Write the plan, unless it is there and undamaged; from then on there is work to continue."""
        if not self._read_plan()[1]:
            record = self.plan.record()
            self._write(
                "plan.json", json.dumps(record | {"checksum": _plan_checksum(record)}, indent=1).encode() + b"\n"
            )
            sync_folders([self.path.parent])

    def _read_plan(self) -> tuple[dict[str, Any] | None, bool]:
        """Read the plan, and check whether it is as it was written."""
        with suppress(OSError, ValueError):
            record = json.loads((self.path / "plan.json").read_bytes())
            if isinstance(record, dict):
                found = record.pop("checksum", None)
                return record, found == _plan_checksum(record)
        return None, False

    def remove(self) -> None:
        """Delete the folder; the lock goes last."""
        with suppress(OSError):
            for path in self.path.iterdir():
                if path.name != "lock":
                    remove(path)
            remove(self.path / "lock")
            self.path.rmdir()

    # --- files with checksums -----------------------------------------------------------------------------------------

    def write_mask(self, mask: TissueMask) -> None:
        """Store the tissue mask for resumed runs."""
        buffer = io.BytesIO()
        np.save(buffer, mask.to_array(), allow_pickle=False)
        self._write("tissue.npy", buffer.getvalue() + self._sum(buffer.getvalue()))

    def read_mask(self) -> TissueMask | None:
        """Read the stored tissue mask; None if there is none, or if it is damaged."""
        with suppress(OSError, ValueError, EOFError):
            stored = (self.path / "tissue.npy").read_bytes()
            data, found = stored[:-_SUM_BYTES], stored[-_SUM_BYTES:]
            if found == self._sum(data):
                return TissueMask(np.load(io.BytesIO(data), allow_pickle=False), self.plan.size)
        return None

    def _sum(self, data: bytes) -> bytes:
        return hashlib.sha256(self.plan.digest.encode() + data).digest()

    def _write(self, name: str, data: bytes) -> None:
        with report_write_errors(self.path, REMEDY), open_output(self.path / name, overwrite=True) as file:
            file.write(data)

    # --- the ledger ---------------------------------------------------------------------------------------------------

    def read_ledger(self) -> dict[Key, int]:
        """Read the checksums of the windows that are finished; lines that are damaged or cut off do not count."""
        path = self.path / "ledger.txt"
        finished = {}
        for line in path.read_bytes().split(b"\n") if path.is_file() else []:
            with suppress(ValueError):
                row, column, checksum, _ = line.split(b" ")
                key, value = (int(row), int(column)), int(checksum, 16)
                if line == self._line(key, value):
                    finished[key] = value
        return finished

    def append_ledger(self, entries: Iterable[tuple[Key, int]]) -> None:
        """Add windows to the ledger, in one write that is on the disk afterwards."""
        path = self.path / "ledger.txt"
        is_new = not path.exists()
        with open(path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                cut_off = file.read() != b"\n"
            else:
                cut_off = False
            file.write(b"\n" * cut_off + b"".join(self._line(*entry) + b"\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folders([self.path])

    def write_ledger(self, finished: dict[Key, int]) -> None:
        """Replace the ledger."""
        self._write("ledger.txt", b"".join(self._line(*entry) + b"\n" for entry in finished.items()))

    def _line(self, key: Key, checksum: int) -> bytes:
        """Format a window with its checksum, and a checksum of the line itself and of the job."""
        text = f"{key[0]} {key[1]} {checksum:08x}"
        return f"{text} {zlib.crc32(f'{self.plan.digest} {text}'.encode()):08x}".encode()


def _plan_checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
