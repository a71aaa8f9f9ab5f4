"""Speed and processor time of the same job alone, and beside programs that keep processors busy.

python -m benchmarks.load --threads 2 --busy 0,1,2
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, NamedTuple
from unittest import mock

import torch
import typer
from torch import nn

from benchmarks import common
from benchmarks.common import Row
from monai_iste import DEFAULT_PRESET
from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError
from monai_iste.functional import upscale
from monai_iste.inferers import tiling

__all__ = ["app", "busy_programs", "load"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

#: Uses of several threads: the library's, one thread for each window, and PyTorch's own, which divide operations.
WAYS = ("windows", "operations")


class _Job(NamedTuple):
    """One run: seconds that passed, and seconds of all processors that it used."""

    seconds: float
    cpu: float


@app.command()
def load(
    preset: Annotated[str, typer.Option("--preset", help="Preset.")] = DEFAULT_PRESET,
    side: Annotated[int, typer.Option("--side", min=1, help="Side of the image in pixels.")] = 768,
    scale: Annotated[float, typer.Option("--scale", help="Scale factor.")] = 4.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processor threads of the job.")] = 2,
    busy: Annotated[str, typer.Option("--busy", help="Numbers of busy programs; the first is compared with.")] = (
        "0,1,2"
    ),
    ways: Annotated[
        str, typer.Option("--ways", help="windows: the library's threads; operations: PyTorch's own.")
    ] = "windows,operations",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds, after a warm-up run.")] = 3,
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Measure a job beside busy programs, which are started and ended here.

    Each round measures every case once, so that other programs of the machine disturb all of them.
    """
    for way in common.split_words(ways):
        if way not in WAYS:
            raise ConfigError(f"a way: {', '.join(WAYS)}", repr(way), "Choose one of these.")
    counts = [int(number) for number in common.split_numbers(busy)]
    if not counts or min(counts) < 0:
        raise ConfigError("numbers of busy programs of at least 0", repr(busy), "Such as 0,1,2.")
    common.check_results(json_file)
    net, image = common.load_preset(preset), common.sample_tissue(side, side)
    megapixels = output_size((side, side), scale)[0] ** 2 / 1e6
    cases = [(way, count) for way in common.split_words(ways) for count in counts]
    jobs: dict[tuple[str, int], list[_Job]] = {case: [] for case in cases}
    about = {"load_average_before": os.getloadavg()[0]}
    upscale(image[:, :, :32, :32], scale, model=net)
    for _ in range(repeats):
        for way, count in cases:
            with busy_programs(count):
                jobs[way, count].append(_run(way, net, image, scale, threads))
        rows = [
            {
                "preset": preset,
                "side": side,
                "scale": scale,
                "threads": threads,
                "way": way,
                "busy": count,
                "seconds": [job.seconds for job in jobs[way, count]],
                "cpu_seconds": [job.cpu for job in jobs[way, count]],
                "megapixels_per_second": [megapixels / job.seconds for job in jobs[way, count]],
                "cpu_seconds_per_megapixel": [job.cpu / megapixels for job in jobs[way, count]],
                "speed_ratio": _ratios(jobs[way, counts[0]], jobs[way, count], lambda job: job.seconds),
                "cpu_ratio": _ratios(jobs[way, count], jobs[way, counts[0]], lambda job: job.cpu),
            }
            for way, count in cases
        ]
        common.save("Load", rows, "cpu", json_file, about)
    common.report("Load", rows, _format_row, "cpu", None)
    typer.echo(f"Programs that ran or waited on this machine before: {about['load_average_before']:.1f}\n")
    return rows


@contextmanager
def busy_programs(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run ``count`` programs that keep one processor busy each, until the context ends."""
    with ExitStack() as stack:
        programs = []
        for _ in range(count):
            program = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]))
            stack.callback(program.kill)
            programs.append(program)
        yield programs


def _run(way: str, net: nn.Module, image: torch.Tensor, scale: float, threads: int) -> _Job:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with mock.patch.object(tiling, "worker_threads", _no_workers if way == "operations" else tiling.worker_threads):
            started, used = time.perf_counter(), time.process_time()
            upscale(image, scale, model=net)
            return _Job(time.perf_counter() - started, time.process_time() - used)
    finally:
        torch.set_num_threads(before)


def _no_workers(network: nn.Module) -> int:
    return 0


def _ratios(over: list[_Job], under: list[_Job], value: Callable[[_Job], float]) -> list[float]:
    """Divide round by round."""
    return [value(a) / value(b) for a, b in zip(over, under, strict=True)]


def _format_row(row: Row) -> Row:
    shown: dict[str, Any] = {
        "preset": row["preset"],
        "LR": f"{row['side']}x{row['side']}",
        "scale": f"x{row['scale']:g}",
        "threads": row["threads"],
        "threads share": row["way"],
        "busy programs": row["busy"],
        "runs": len(row["seconds"]),
    }
    cells = {
        "megapixels/s": "megapixels_per_second",
        "CPU s/megapixel": "cpu_seconds_per_megapixel",
        "speed, of that alone": "speed_ratio",
        "CPU s, of those alone": "cpu_ratio",
    }
    return {**shown, **{title: common.format_range(row[name], "{:.2f}") for title, name in cells.items()}}


if __name__ == "__main__":
    common.run(app)
