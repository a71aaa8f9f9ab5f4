"""Whole slides: time, peak anonymous memory and disk space of jobs, each in a subprocess.

python -m benchmarks.slides small.tif large.tif --network interpolation --scale 2
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import common
from benchmarks.common import Row
from monai_iste.slides import Slide, SlideJob, plan_slide
from monai_iste.slides.compute import Interpolation

__all__ = ["app", "observe", "slides"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MIB = 2**20


@app.command()
def slides(
    files: Annotated[list[Path], typer.Argument(metavar="SLIDE...", help="Slides, such as benchmarks.mosaic makes.")],
    network: Annotated[str, typer.Option("--network", help="Preset, or interpolation.")] = "interpolation",
    scale: Annotated[float, typer.Option("--scale", help="Scale factor.")] = 2.0,
    tissue_only: Annotated[bool, typer.Option("--tissue-only", help="Interpolate the background.")] = False,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="Folder for intermediate files, with enough free space.")
    ] = None,
    threads: common.ThreadsOption = 1,
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Upscale whole slides to OME-TIFF and measure the cost; the results are deleted."""
    rows: list[Row] = []
    for file in files:
        case = {
            "path": str(file.resolve()),
            "network": network,
            "scale": scale,
            "tissue_only": tissue_only,
            "work_dir": work_dir and str(work_dir.resolve()),
            "threads": threads,
        }
        rows.append({"slide": file.name, "network": network, "scale": scale, **common.run_isolated("slides", case)})
        common.save("Slides", rows, "cpu", json_file)
    common.report("Slides", rows, _format_row, "cpu", json_file)
    return rows


def observe(path: str, network: str, scale: float, tissue_only: bool, work_dir: str | None, threads: int) -> Row:
    """Run one job in this process. Memory is anonymous (``RssAnon``, Linux), which the system cannot reclaim."""
    torch.set_num_threads(threads)
    net = Interpolation().eval() if network == "interpolation" else common.load_preset(network)
    with tempfile.TemporaryDirectory(dir=work_dir) as folder, Slide(path) as slide, _anonymous_memory() as memory:
        plan = plan_slide(slide, net, scale=scale, tissue_only=tissue_only)
        job = SlideJob(slide, Path(folder) / "out.ome.tif", plan, net, {"preset": network}, quiet=True)
        idle = memory[-1]
        report = job.run()
        written = job.target.stat().st_size
    pixels = plan.output[0] * plan.output[1]
    return {
        "size": list(plan.size),
        "windows": report["windows"],
        "tissue": report.get("tissue"),
        "output_megapixels": pixels / 1e6,
        "compute_seconds": report["compute_seconds"],
        "write_seconds": report["write_seconds"],
        "idle_mib": idle / MIB,
        "peak_mib": max(memory) / MIB,
        "work_bytes_per_pixel": report["work_bytes"] / pixels,
        "file_bytes_per_pixel": written / pixels,
    }


@contextmanager
def _anonymous_memory(interval: float = 0.02) -> Iterator[list[int]]:
    """Sample the process's anonymous memory in bytes, within the context."""

    def now() -> int:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["RssAnon"].split()[0]) * 1024

    seen, ended = [now()], threading.Event()

    def watch() -> None:
        while not ended.wait(interval):
            seen.append(now())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def _format_row(row: Row) -> Row:
    shown = {
        "slide": row["slide"],
        "LR": f"{row['size'][0]}x{row['size'][1]}",
        "network": row["network"],
        "scale": f"x{row['scale']:g}",
        "windows": f"{row['windows']:,}",
        "output megapixels": f"{row['output_megapixels']:,.4g}",
        "compute s": f"{row['compute_seconds']:,.3g}",
        "write s": f"{row['write_seconds']:,.3g}",
        "idle MiB": f"{row['idle_mib']:.0f}",
        "peak MiB, anonymous": f"{row['peak_mib']:.0f}",
        "work, bytes a pixel": f"{row['work_bytes_per_pixel']:.2f}",
        "file, bytes a pixel": f"{row['file_bytes_per_pixel']:.2f}",
    }
    return shown if row["tissue"] is None else {**shown, "tissue": f"{row['tissue']:.0%}"}


if __name__ == "__main__":
    common.run(app)
