"""Peak memory above the idle process, and its growth with the image area; every case runs in a subprocess.

python -m benchmarks.memory --presets iste_light --sizes 256,512 --scale 4
"""

from __future__ import annotations

import resource
import statistics
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import common
from benchmarks.common import Row
from monai_iste import DEFAULT_PRESET
from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError
from monai_iste.functional import upscale

__all__ = ["app", "memory", "observe"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MODES = ("whole", "windowed")
MIB = 2**20


@app.command()
def memory(
    presets: common.PresetsOption = f"iste,iste_small,{DEFAULT_PRESET}",
    sizes: Annotated[str, typer.Option("--sizes", help="Image heights; each runs as a square and twice as wide.")] = (
        "128,256"
    ),
    scale: Annotated[float, typer.Option("--scale", help="Scale factor.")] = 4.0,
    modes: Annotated[
        str, typer.Option("--modes", help="whole: one call of the network; windowed: monai_iste.upscale.")
    ] = "whole,windowed",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs, after a warm-up run.")] = 3,
    patience: common.PatienceOption = 20.0,
    threads: common.ThreadsOption = 1,
    device: common.DeviceOption = "cpu",
    json_file: common.JsonOption = None,
) -> list[Row]:
    """Measure memory and time at areas A and 2 A, with their ratios."""
    torch.set_num_threads(threads)
    for mode in common.split_words(modes):
        if mode not in MODES:
            raise ConfigError(f"a mode: {', '.join(MODES)}", repr(mode), "Choose one of these.")
    rows = []
    for preset in common.split_words(presets):
        for mode in common.split_words(modes):
            for side in common.split_numbers(sizes):
                pair = []
                for width in (int(side), 2 * int(side)):
                    case = {"preset": preset, "mode": mode, "height": int(side), "width": width, "scale": scale}
                    options = {"repeats": repeats, "patience": patience, "threads": threads, "device": device}
                    pair.append({**case, **common.run_isolated("memory", {**case, **options})})
                rows += [pair[0], {**pair[1], **_doubling(*pair)}]
                common.save("Memory", rows, device, json_file)
    common.report("Memory", rows, _format_row, device, json_file)
    return rows


def observe(
    preset: str,
    mode: str,
    height: int,
    width: int,
    scale: float,
    repeats: int = 1,
    patience: float = 20.0,
    threads: int = 1,
    device: str = "cpu",
) -> Row:
    """Measure memory and seconds of one case in this process. "Idle" is the state after a tiny image.

    The peak is the operating system's high-water mark of resident memory, reset before the run; on a GPU, of allocated
    device memory. ``maxrss`` is that of ``getrusage`` for the whole process.
    """
    now = common.clock(device, threads)
    net, image = common.load_preset(preset, device), common.sample_tissue(height, width)

    @torch.no_grad()
    def run(pixels: torch.Tensor) -> Any:
        return upscale(pixels, scale, model=net) if mode == "windowed" else net(pixels.to(device) / 255, scale=scale)

    run(image[:, :, :16, :16])
    _reset_peak(device)
    idle = _resident(device)
    seconds = common.time_alternating({"run": lambda: run(image)}, now, repeats, patience, count=False)["run"].seconds
    peak = _peak(device)
    output = output_size((height, width), scale)
    return {
        "seconds": seconds,
        "idle_mib": idle / MIB,
        "peak_mib": peak / MIB,
        "above_idle_mib": (peak - idle) / MIB,
        "maxrss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "output_megapixels": output[0] * output[1] / 1e6,
    }


def _reset_peak(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _resident(device: str) -> int:
    return torch.cuda.memory_allocated(device) if torch.device(device).type == "cuda" else _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    """Read an entry of /proc/self/status (Linux), in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def _doubling(once: Row, twice: Row) -> Row:
    """Compute the ratios of time and memory at twice the area."""
    return {
        "time_ratio": statistics.median(twice["seconds"]) / statistics.median(once["seconds"]),
        "memory_ratio": twice["above_idle_mib"] / once["above_idle_mib"],
    }


def _format_row(row: Row) -> Row:
    shown = {
        "preset": row["preset"],
        "run": row["mode"],
        "LR": f"{row['height']}x{row['width']}",
        "scale": f"x{row['scale']:g}",
        "output megapixels": f"{row['output_megapixels']:.3g}",
        "seconds": common.format_range(row["seconds"]),
        "runs": len(row["seconds"]),
        "idle MiB": f"{row['idle_mib']:.0f}",
        "peak above idle MiB": f"{row['above_idle_mib']:.0f}",
        "maxrss MiB": f"{row['maxrss_mib']:.0f}",
    }
    if "time_ratio" in row:
        shown |= {
            "time at 2 A / A": f"{row['time_ratio']:.2f}",
            "memory at 2 A / A": f"{row['memory_ratio']:.2f}",
        }
    return shown


if __name__ == "__main__":
    common.run(app)
