"""Trainings as users start them. Slow: several processes, minutes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from trainings import run_differences

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRAIN = "bundles/iste/configs/train.json"
SMALL = ["--batch_size", "2", "--lr_size", "16", "--num_points", "64", "--val_crop", "64", "--steps_per_epoch", "4"]


def command(*arguments: str, overlay: str | None = None, processes: int = 0) -> list[str]:
    config = f"['{TRAIN}','bundles/iste/configs/{overlay}']" if overlay else TRAIN
    launcher = f"-m torch.distributed.run --standalone --nproc_per_node={processes}".split() if processes else []
    bundle = ["-m", "monai.bundle", "run", "training", "--config_file", config]
    return [sys.executable, *launcher, *bundle, *arguments]


def run(line: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=900)


def methods(out: Path) -> list[str]:
    return sorted({row["method"] for row in json.loads((out / "metrics.json").read_text())["rows"]})


def test_two_processes_train_one_network(tmp_path):
    done = run(
        command("--output_dir", str(tmp_path), *SMALL, "--max_epochs", "2", overlay="multi_gpu_train.json", processes=2)
    )
    assert done.returncode == 0, done.stderr
    assert methods(tmp_path) == ["bicubic", "iste", "iste, initial"]
    assert done.stdout.count("protocol iste-rgb") == 1
    images = json.loads((tmp_path / "metrics.json").read_text())["images"]
    assert len(images) == len({(i["image"], i["scale"], i["method"]) for i in images}) == 9


def test_a_killed_run_resumes(tmp_path):
    line = command("--output_dir", str(tmp_path), *SMALL, "--max_epochs", "60")
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "checkpoint_epoch=3.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "model.pt").exists()
    done = run(line)
    assert done.returncode == 0, done.stderr
    assert "Resumed" in done.stdout + done.stderr
    assert methods(tmp_path) == ["bicubic", "iste", "iste, initial"]


KILLED = """
import os, signal, sys
from ignite.engine import Events
from trainings import RELEASE, prepare

folder, step, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
flow = prepare(folder, *RELEASE, num_workers=workers)
if step:
    flow.trainer.add_event_handler(Events.ITERATION_STARTED(once=step), lambda: os.kill(os.getpid(), signal.SIGKILL))
flow.run()
"""


def test_a_run_killed_at_random_steps_ends_like_one_that_was_not(tmp_path):
    """By SIGKILL, in processes of their own, with a loading process that survives for a while."""

    def process(folder, step):
        paths = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
        line = [sys.executable, "-c", KILLED, str(folder), str(step), "1"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900)

    assert process(tmp_path / "whole", 0).returncode == 0
    for step in sorted(random.Random(20).sample(range(4, 13), 5)):
        assert process(tmp_path / "parts", step).returncode == -signal.SIGKILL
    done = process(tmp_path / "parts", 0)
    assert done.returncode == 0, done.stderr
    assert "Resumed" in done.stdout + done.stderr
    assert run_differences(tmp_path / "parts", tmp_path / "whole") == []


def test_the_papers_recipe_learns(tmp_path):
    """The full-size network on its real crops, a few steps of it: the loss falls."""
    recipe = [
        "--steps_per_epoch",
        "4",
        "--max_epochs",
        "3",
        "--batch_size",
        "2",
        "--val_crop",
        "48",
        "--val_interval",
        "9",
    ]
    done = run(command("--output_dir", str(tmp_path), *recipe, overlay="paper.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    psnr = {(row["scale"], row["method"]): row["psnr"] for row in rows}
    assert all(psnr[s, "iste"] > psnr[s, "iste, initial"] for s in (2, 3, 4))


def test_mlflow_tracks_the_loss(tmp_path):
    pytest.importorskip("mlflow")
    out = tmp_path / "out"
    done = run(command("--output_dir", str(out), *SMALL, "--max_epochs", "1", "--tracking", "mlflow"))
    assert done.returncode == 0, done.stderr
    assert (out / "mlruns.db").stat().st_size > 0


def test_the_main_job_beats_bicubic(tmp_path):
    """The command of the README's first screen, whole; the figures it promises."""
    done = run(command("--output_dir", str(tmp_path)))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    psnr = {(row["scale"], row["method"]): row["psnr"] for row in rows}
    assert psnr[2, "iste"] - psnr[2, "bicubic"] >= 2
    assert psnr[4, "iste"] - psnr[4, "bicubic"] >= 1.5
    assert all(psnr[s, "iste"] > psnr[s, "iste, initial"] for s in (2, 3, 4))
    torch.load(tmp_path / "model.pt", weights_only=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--learnign_rate", "1e-3"], 2, "Did you mean 'learning_rate'?"),
        (["--preset", "iste_huge"], 2, "got 'iste_huge'. Choose one of these."),
        (["--dataset_dir", "nowhere"], 3, "nowhere, which does not exist"),
        (["--output_dir", "setup.py/out"], 4, "Name another --output_dir"),
    ],
)
def test_mistakes_are_one_sentence_and_a_code(arguments, code, words, tmp_path):
    done = run(command("--output_dir", str(tmp_path), *SMALL, "--max_epochs", "1", *arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
