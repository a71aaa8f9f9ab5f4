"""Common parts of the benchmarks: clocks, alternating timings, operation counts, environment, options, tables."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from experiments.table_text import csv_text
from monai_iste.data.sample import sample_datalists
from monai_iste.errors import ConfigError, ISTEError, OutputError
from monai_iste.io.files import check_name, open_output
from monai_iste.io.json_files import write_json
from monai_iste.metrics.manifest import manifest
from monai_iste.networks import ISTE, create_iste, load_weights, released_weights
from monai_iste.networks import tuning as limits
from monai_iste.networks.layers import Linear

__all__ = [
    "Clock",
    "Measurement",
    "Row",
    "check_results",
    "clock",
    "environment",
    "format_range",
    "load_preset",
    "peak_macs",
    "ratios",
    "report",
    "run",
    "run_isolated",
    "sample_tissue",
    "save",
    "save_csv",
    "split_numbers",
    "split_words",
    "time_alternating",
    "without_fast_paths",
]

Clock = Callable[[], float]
Row = dict[str, Any]

JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write all numbers to this file.")]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", help="Also write the scores by group and by tile to this file.")
]
TilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR...",
        help="Folders of tiles that the weights were not trained on; NAME=DIR names one. A manifest.csv in the folder, "
        "or above it, tells case, organ and source.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the figure.")]
WeightsOption = Annotated[
    str,
    typer.Option(
        "--weights",
        help="What to measure, separated by commas: released, FILE, NAME=FILE, or NAME=PRESET:FILE of another preset.",
    ),
]
CropOption = Annotated[int, typer.Option("--crop", help="Side of the scored center crops in pixels.")]
ImagesOption = Annotated[
    int | None, typer.Option("--images", min=1, help="Number of images, the first of the folder; default: all.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Processor threads.")]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Timed runs of each call, after a warm-up run.")]
PatienceOption = Annotated[float, typer.Option("--patience", help="Seconds; calls that take longer run once.")]
NaiveGbOption = Annotated[
    float,
    typer.Option(
        "--naive-gb", help="Largest similarity matrix of the literal network, in GB; it is left out beyond that."
    ),
]
BaselinesOption = Annotated[bool, typer.Option("--baselines/--no-baselines", help="Also measure LIIF and LTE.")]
PresetsOption = Annotated[str, typer.Option("--presets", help="Presets, separated by commas.")]


# --- measuring --------------------------------------------------------------------------------------------------------


class Measurement(NamedTuple):
    """Measurement of a call: seconds of every run, multiply-accumulates of one run, and the first result."""

    seconds: tuple[float, ...]
    macs: int
    result: Any

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def clock(device: str, threads: int = 1) -> Clock:
    """Choose the clock: processor time for one CPU thread, which other programs disturb least; else wall time."""
    torch.set_num_threads(threads)
    if torch.device(device).type == "cuda":

        def synchronized() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronized
    return time.process_time if threads == 1 else time.perf_counter


def time_alternating(
    calls: Mapping[str, Callable[[], Any]], now: Clock, repeats: int, patience: float = 20.0, count: bool = True
) -> dict[str, Measurement]:
    """Time calls in alternation (A B A B), so that temporary slowdowns of the machine affect all of them.

    The first round is the warm-up and counts operations. Calls that take longer than ``patience`` seconds in it are not
    repeated; that run is their measurement.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    macs, results = {}, {}
    for name, call in calls.items():
        counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) if count else nullcontext()
        with counter:
            taken, results[name] = _timed(call, now)
        macs[name] = counter.get_total_flops() // 2 if isinstance(counter, FlopCounterMode) else 0
        if taken > patience:
            seconds[name].append(taken)
    quick = {name: call for name, call in calls.items() if not seconds[name]}
    for _ in range(repeats):
        for name, call in quick.items():
            seconds[name].append(_timed(call, now)[0])
    return {name: Measurement(tuple(seconds[name]), macs[name], results[name]) for name in calls}


def _timed(call: Callable[[], Any], now: Clock) -> tuple[float, Any]:
    start = now()
    result = call()
    return now() - start, result


def _forward(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _linear(x: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(2 * math.prod(x) * weight[0])


#: Operations that PyTorch does not count: attention on CPUs, and oneDNN's linear layers.
_UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    torch.ops.mkldnn._linear_pointwise: _linear,
}


def ratios(slow: Measurement, fast: Measurement) -> list[float]:
    """Compute ratios of seconds run by run; a call that ran once is compared with every run of the other."""
    runs = max(len(slow.seconds), len(fast.seconds))
    a, b = (m.seconds if len(m.seconds) == runs else m.seconds[:1] * runs for m in (slow, fast))
    return [x / y for x, y in zip(a, b, strict=True)]


def peak_macs(device: str, now: Clock, precision: str = "fp32", side: int = 1024) -> float:
    """Measure the peak of multiply-accumulates per second, for a product of two square matrices; median of five runs.

    The fastest of these counts: PyTorch's product, this library's linear layer and, with bf16, the product in bfloat16.
    Some processors emulate bfloat16, which is slower.
    """
    layer = Linear(side, side, bias=False).to(device)
    matrix, half = (torch.ones(side, side, dtype=t, device=device) for t in (torch.float32, torch.bfloat16))
    products = {"PyTorch": lambda: matrix @ matrix, "layer": lambda: layer(matrix)}
    if precision != "fp32":
        products["half"] = lambda: half @ half
    with torch.no_grad():
        measured = time_alternating(products, now, 5, count=False)
    return side**3 / min(measurement.median for measurement in measured.values())


# --- networks and images ----------------------------------------------------------------------------------------------


def load_preset(preset: str, device: str = "cpu", **changes: Any) -> ISTE:
    """Create a preset with its released weights, or random ones if none are released; time does not depend on them."""
    torch.manual_seed(0)
    net = create_iste(preset, **changes)
    path = released_weights(preset)
    if path is not None:
        load_weights(net, path, may_differ=changes)
    return net.to(device).eval()


def without_fast_paths(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module without the library's fast paths, which the other programs do not have either."""
    with mock.patch.object(limits, "FAST_PATHS", False):
        result: Tensor = module(x)
    return result


def sample_tissue(height: int, width: int) -> Tensor:
    """Return a crop of the offline sample, mirrored beyond its border: uint8, (1, 3, height, width)."""
    image = sample_datalists()[0][0]["image"]
    beyond = [(0, 0), (0, max(0, height - image.shape[1])), (0, max(0, width - image.shape[2]))]
    return torch.from_numpy(np.pad(image, beyond, mode="symmetric")[None, :, :height, :width].copy())


# --- options and tables -----------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Split at commas.

    Example:
        >>> split_words("iste, iste_light")
        ['iste', 'iste_light']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def split_numbers(text: str) -> list[float]:
    """Split at commas and convert to numbers.

    Example:
        >>> split_numbers("2,3.7")
        [2.0, 3.7]
    """
    try:
        return [float(word) for word in split_words(text)]
    except ValueError as error:
        raise ConfigError("numbers separated by commas, such as 2,3.7", repr(text), "Correct the option.") from error


def format_range(values: Iterable[float], form: str = "{:.3g}") -> str:
    """Format the median, with the smallest and largest value if there are several.

    Example:
        >>> format_range([3, 1, 2]), format_range([2.5])
        ('2 (1-3)', '2.5')
    """
    values = sorted(values)
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(values[0])}-{form.format(values[-1])})"


def environment(device: str) -> Row:
    """Return versions, hardware and date of the manifest."""
    found = manifest("iste-rgb", device=device)
    return {key: found[key] for key in ("versions", "hardware", "date")}


def run_isolated(module: str, case: Row) -> Row:
    """Run ``benchmarks.<module>.observe(**case)`` in a subprocess with ``case["threads"]`` threads."""
    call = "print(json.dumps(observe(**json.loads(sys.argv[1]))))"
    program = f"import json, sys; from benchmarks.{module} import observe; {call}"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(case)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(case["threads"])},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:  # the subprocess has printed the error
        raise typer.Exit(done.returncode)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def run(app: typer.Typer) -> None:
    """Run a command; errors of the library become one sentence and an exit code."""
    try:
        app()
    except ISTEError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def check_results(*files: Path | None) -> None:
    """Check that files of results can be written, before the measurement.

    Raises:
        OutputError: the folder of a file does not exist, or a file is a folder.
    """
    for file in files:
        if file is not None:
            check_name(file, overwrite=True)
            if not file.resolve().parent.is_dir():
                raise OutputError("an existing folder for the results", str(file.parent), "Make it first.")


def save_csv(rows: Sequence[Row], file: Path | None) -> None:
    """Write rows as CSV if a file is given; absent values are empty."""
    if file is not None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with open_output(file, overwrite=True) as out:
            out.write(csv_text(columns, rows).encode())


def report(
    title: str,
    rows: Sequence[Row],
    format_row: Callable[[Row], Row],
    device: str,
    json_file: Path | None,
    about: Row | None = None,
) -> None:
    """Print the rows as a Markdown table with the environment; with a file, :func:`save` them too."""
    made_on = environment(device)
    hardware, versions = made_on["hardware"], made_on["versions"]
    where = hardware["cuda"] or f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['threads']} thread(s)"
    software = ", ".join(f"{name} {number}" for name, number in versions.items() if name in ("monai_iste", "torch"))
    typer.echo(f"{title}\n{where}; {software}; {made_on['date']}\n\n{_markdown([format_row(row) for row in rows])}\n")
    save(title, rows, device, json_file, about)


def save(title: str, rows: Sequence[Row], device: str, json_file: Path | None, about: Row | None = None) -> None:
    """Write all numbers as JSON if a file is given; called after each case, so that a killed run loses only one.

    Args:
        about: what was measured: weights, tiles, protocols, settings.
    """
    if json_file is not None:
        content = {"title": title, "environment": environment(device), **({"measured": about} if about else {})}
        write_json(json_file, {**content, "rows": rows})


def _markdown(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
