"""Bundle workflows in subprocesses: each run can be resumed, and a failed run does not stop the others."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from monai_iste.bundle import bundle_command, config_file
from monai_iste.errors import ConfigError, DataError, TrainingError
from monai_iste.io.json_files import read_json, write_json

_DONE = "run.json"

_RESULT = "metrics.json"  # what the bundle's workflows write last

_COST = {"cpu_seconds": float, "seconds": float, "finished": bool}

_SETTINGS = {"workflow": str, "configs": [str], "options": {str: str}}

_NOTED_EVERY = 10.0  # seconds between two notes of the cost of a running command

_PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends

_OVERLAYS = Path(__file__).parent / "configs"

# Working directory of the runs, so that ``python -m monai.bundle`` finds this package, which overlays refer to.
_CLONE = Path(__file__).parents[1]


def find_config(name: str) -> Path:
    """Find a configuration by its name: an overlay in ``experiments/configs``, else one of the bundle's.

    Args:
        name: name of the file, without ``.json``.
    Raises:
        ConfigError: no configuration has this name.

    Example:
        >>> find_config("train").parts[-4:], find_config("swd_net").parts[-3:]
        (('bundles', 'iste', 'configs', 'train.json'), ('experiments', 'configs', 'swd_net.json'))
    """
    overlay = _OVERLAYS / f"{name}.json"
    return overlay if overlay.is_file() else config_file(name)


def run_bundle(workflow: str, configs: Sequence[str], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run a workflow into ``folder`` unless it is finished; an interrupted training resumes.

    The command's output is appended to ``<workflow>.log``. ``run.json`` holds the settings and the cost, summed over
    all parts of an interrupted run: ``cpu_seconds`` (processor time of the command and its data loaders) and
    ``seconds`` (wall time). On Linux both are noted every ten seconds, so that they count of a part that was killed
    too, and the command ends when this process is killed.

    Args:
        workflow: "training" or "evaluating".
        configs: names of configurations, see :func:`find_config`; later ones are overlays.
        options: settings that differ from theirs.
        folder: output folder.
    Returns:
        the contents of ``run.json``.
    Raises:
        ConfigError: the folder holds a run with other settings.
        DataError: ``run.json`` is damaged.
        TrainingError: the command failed; its last output line is quoted.
    """
    asked = {"workflow": workflow, "configs": list(configs), "options": {k: str(v) for k, v in options.items()}}
    record = _read_record(folder, {**_SETTINGS, **_COST})
    if record and {key: record[key] for key in asked} != asked:
        raise ConfigError(
            "the settings of the earlier run in its folder",
            f"others in {os.path.relpath(folder)} ({_difference(record, asked)})",
            "Choose another --output-dir, or remove that one.",
        )
    if is_finished(folder):
        return record
    if record and (folder / _RESULT).is_file():  # killed between the end of the workflow and the note of it
        record["finished"] = True
        write_json(folder / _DONE, record)
        return record
    folder.mkdir(parents=True, exist_ok=True)
    record = {**asked, "cpu_seconds": 0.0, "seconds": 0.0, **record, "finished": False}
    write_json(folder / _DONE, record)
    command = bundle_command(workflow, [find_config(name) for name in configs], {**options, "output_dir": folder})
    log = folder / f"{workflow}.log"
    with log.open("a") as file:
        code = _run_noting_cost(command, file, folder / _DONE, record)
    if code:
        raise TrainingError(f"{workflow} in {os.path.relpath(folder)} to succeed", _last_line(log), f"See {log}.")
    record["finished"] = True
    write_json(folder / _DONE, record)
    return record


def is_finished(folder: Path) -> bool:
    """Return True if the folder holds a finished run."""
    return bool(_read_record(folder).get("finished"))


def seconds_of(folder: Path) -> float | None:
    """Return the wall time of the finished run in a folder; None if there is none."""
    record = _read_record(folder)
    return float(record["seconds"]) if record.get("finished") else None


def read_result(folder: Path, shape: Any) -> Any:
    """Read ``metrics.json`` of a finished run.

    Args:
        shape: what it must hold, see :mod:`monai_iste.io.json_files`.
    Raises:
        DataError: it is missing or damaged.
    """
    remedy = f"Restore it, or remove {os.path.relpath(folder)}: the run is then repeated."
    found = read_json(folder / _RESULT, shape, remedy)
    if found is None:
        raise DataError(f"the results of a finished run in {os.path.relpath(folder)}", f"no {_RESULT}", remedy)
    return found


def _read_record(folder: Path, shape: Mapping[str, Any] = MappingProxyType(_COST)) -> dict[str, Any]:
    """Read ``run.json``; empty if there is none."""
    remedy = f"Restore it, or remove {os.path.relpath(folder)}: the run is then repeated."
    record: dict[str, Any] = read_json(folder / _DONE, shape, remedy) or {}
    cost = [record.get(key, 0) for key in ("cpu_seconds", "seconds")]
    if not all(0 <= seconds < math.inf for seconds in cost):
        raise DataError(f"seconds of at least 0 in {folder / _DONE}", f"{cost[0]} and {cost[1]}", remedy)
    return record


def _run_noting_cost(command: Sequence[str], log: IO[str], file: Path, record: dict[str, Any]) -> int:
    """Run a command and return its exit status; its cost is added to the record and written to the file."""
    start, before, earlier = time.monotonic(), _cpu_of_children(), dict(record)

    def note(cpu_seconds: float) -> None:
        record["cpu_seconds"] = round(earlier["cpu_seconds"] + cpu_seconds, 3)
        record["seconds"] = round(earlier["seconds"] + time.monotonic() - start, 3)
        write_json(file, record)

    linux = sys.platform == "linux"
    process = subprocess.Popen(
        command, cwd=_CLONE, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent if linux else None
    )
    try:
        while True:
            try:
                return process.wait(timeout=_NOTED_EVERY if linux else None)
            except subprocess.TimeoutExpired:
                note(_cpu_of_process(process.pid))
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:  # an interrupted part counts too
        note(_cpu_of_children() - before)


def _difference(record: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    before, now = (
        {**run["options"], "configs": run["configs"], "workflow": run["workflow"]} for run in (record, asked)
    )
    key = next(key for key in (*before, *now) if before.get(key) != now.get(key))
    return f"{key} {before.get(key)} there, {now.get(key)} now"


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_of_process(pid: int) -> float:
    """Return the processor time of a running process and its children, in seconds (Linux)."""
    ticks = 0
    with suppress(OSError, ValueError):  # it may end meanwhile
        ticks += sum(int(n) for n in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    seconds = ticks / os.sysconf("SC_CLK_TCK")
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            seconds += sum(_cpu_of_process(int(child)) for child in (task / "children").read_text().split())
    return seconds


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends: a training that nobody waits for would block the next."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
