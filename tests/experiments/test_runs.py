"""Runs of the bundle: their commands, no repetition of finished work, failures that resume."""

import json
import sys

import pytest

from experiments import runs
from experiments.runs import find_config, is_finished, run_bundle
from monai_iste.bundle import bundle_command
from monai_iste.errors import ConfigError, TrainingError


@pytest.fixture
def script(monkeypatch):
    """Replace the bundle's command by a Python program; returns its path."""
    programs = {"text": "print('fine')"}
    command = lambda workflow, configs, options: [  # noqa: E731
        sys.executable,
        "-c",
        programs["text"],
        workflow,
        str(options["output_dir"]),
    ]
    monkeypatch.setattr(runs, "bundle_command", command)
    return programs


def test_command_names_workflow_files_and_options():
    overlay = find_config("without_lfi")
    command = bundle_command("training", ["train", overlay], {"seed": 3, "network_def#scale": 2})
    assert command[1:5] == ["-m", "monai.bundle", "run", "training"]
    assert command[6].endswith("configs/without_lfi.json']")
    assert command[7:] == ["--seed", "3", "--network_def#scale", "2"]


def test_command_of_no_configuration_is_refused():
    with pytest.raises(ConfigError, match=r"evaluate, .*train, .*'nothing'"):
        bundle_command("training", ["nothing"], {})


def test_a_run_is_done_once(script, tmp_path):
    script["text"] = "import sys; open(sys.argv[2] + '/times', 'a').write('x')"
    for _ in range(2):
        record = run_bundle("training", ["train"], {"seed": 0}, tmp_path / "run")
    assert (tmp_path / "run" / "times").read_text() == "x"
    assert record["finished"]
    assert is_finished(tmp_path / "run")
    assert not is_finished(tmp_path / "other")
    assert record["seconds"] > 0
    assert record["cpu_seconds"] > 0


def test_a_run_whose_end_was_not_noted_is_not_repeated(script, tmp_path):
    """The bundle would start a finished training again."""
    script["text"] = (
        "import os, pathlib, signal, sys, time\n"
        "pathlib.Path(sys.argv[2], 'metrics.json').write_text('{}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(TrainingError):
        run_bundle("training", ["train"], {"seed": 0}, tmp_path / "run")
    assert not is_finished(tmp_path / "run")
    script["text"] = "raise SystemExit('started again')"
    record = run_bundle("training", ["train"], {"seed": 0}, tmp_path / "run")
    assert record["finished"]
    assert is_finished(tmp_path / "run")
    with pytest.raises(ConfigError, match="seed 0 there, 1 now"):
        run_bundle("training", ["train"], {"seed": 1}, tmp_path / "run")


def test_other_settings_in_the_same_folder_are_refused(script, tmp_path):
    run_bundle("training", ["train"], {"seed": 0, "lr_size": 8}, tmp_path / "run")
    with pytest.raises(ConfigError, match="seed 0 there, 1 now"):
        run_bundle("training", ["train"], {"seed": 1, "lr_size": 8}, tmp_path / "run")


def test_a_failed_run_quotes_its_last_line_and_resumes_later(script, tmp_path):
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    script["text"] = busy + "raise SystemExit('no space left')"
    with pytest.raises(TrainingError, match="no space left"):
        run_bundle("training", ["train"], {}, tmp_path / "run")
    first = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not first["finished"]
    script["text"] = "print('fine')"
    record = run_bundle("training", ["train"], {}, tmp_path / "run")
    assert record["finished"]
    assert record["cpu_seconds"] >= first["cpu_seconds"] > 0.2  # both parts count
