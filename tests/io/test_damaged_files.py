"""Damaged files by every reading function: pixels or one sentence, in little time and memory."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import FORMATS, mutants, originals

ROOT = Path(__file__).parents[2]
PER_FORMAT = 60
SECONDS = 60  # ten functions, on a busy machine
MEMORY = 1_000_000_000  # of the whole process, with its libraries


class Reader:
    """Process that reads files by every function (``read_everything.py``); started again where it ended."""

    def __init__(self, errors):
        self.errors, self.process = errors, None

    def read(self, path):
        """Read one file; returns the report, or the way in which the process ended."""
        if self.process is None:
            command = [sys.executable, str(ROOT / "tests" / "helpers" / "read_everything.py")]
            paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            )
            self.read(path)  # the first one pays for the imports
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], SECONDS)[0]:
            return self.end("hangs")
        line = self.process.stdout.readline()
        return json.loads(line) if line else self.end("ended")

    def end(self, what):
        self.process.kill()
        code, self.process = self.process.wait(), None
        return f"{what}, exit code {code}"


@pytest.fixture
def reader(tmp_path):
    with open(tmp_path / "errors.txt", "w") as errors:
        reader = Reader(errors)
        yield reader
        if reader.process is not None:
            reader.end("done")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux does")
@pytest.mark.parametrize("ending", FORMATS)
def test_whole_files_are_read_by_every_function_and_mutants_by_none_that_does_not_say_why(tmp_path, reader, ending):
    for number, content in enumerate(originals(ending)):
        path = tmp_path / f"whole{number}.{ending}"
        path.write_bytes(content)
        report = reader.read(path)
        assert isinstance(report, dict), (path, report)
        assert (
            set(report["found"].values()) == {"ok"}
            or "fluorescence" in report["found"]["read_rgb"]
            or ("mode" in report["found"]["read_rgb"])
        ), report
    wrong = []
    refused = 0
    for number, content in enumerate(mutants(ending, PER_FORMAT)):
        path = tmp_path / f"mutant{number}.{ending}"
        path.write_bytes(content)
        report = reader.read(path)
        if not isinstance(report, dict):
            wrong.append(f"{path.name}: {report}")
            continue
        refused += any(found.startswith("refused") for found in report["found"].values())
        wrong += [
            f"{path.name}, {name}: {found}"
            for name, found in report["found"].items()
            if found != "ok" and not found.startswith("refused ")
        ]
        if report["peak"] > MEMORY:
            wrong.append(f"{path.name}: {report['peak']:,} bytes")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)
    assert refused > PER_FORMAT // 3  # they are damaged indeed
    assert "Traceback" not in (tmp_path / "errors.txt").read_text()
