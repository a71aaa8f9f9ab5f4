"""Estimate of time, disk and memory of a job, extrapolated from a few windows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Estimate:
    """Cost of the rest of a job.

    Attributes:
        windows: number of windows that are left.
        seconds: time to compute them in one process, without writing the result.
        disk: bytes of disk until the job is done, the result included.
        memory: bytes of memory of one process.

    Example:
        >>> print(Estimate(1200, 9000.0, 5_200_000_000, 700_000_000))
        1,200 windows are left: about 2.5 h in one process, 5.2 GB of disk until it is done, 0.7 GB of memory a process
    """

    windows: int
    seconds: float
    disk: int
    memory: int

    def __str__(self) -> str:
        return (
            f"{self.windows:,} windows are left: about {_duration(self.seconds)} in one process, "
            f"{_gigabytes(self.disk)} of disk until it is done, {_gigabytes(self.memory)} of memory a process"
        )


def folder_bytes(folder: Path) -> int:
    """Sum up the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_memory() -> int:
    """Measure the largest resident memory of this process so far, in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _gigabytes(nbytes: int) -> str:
    """Format bytes in gigabytes.

    Example:
        >>> _gigabytes(2_100_000), _gigabytes(123_400_000_000)
        ('0.0021 GB', '123 GB')
    """
    return f"{nbytes / 1e9:.2g} GB" if nbytes < 99e9 else f"{nbytes / 1e9:,.0f} GB"


def _duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours.

    Example:
        >>> _duration(12), _duration(754), _duration(9000)
        ('12 s', '13 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
