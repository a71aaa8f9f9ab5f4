"""Trainings that are killed and resumed, and comparisons of what they leave."""

import json
from pathlib import Path

import torch
from bundle_workflows import workflow
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

RELEASE = ("light_release.json", "light_scans.json")  # averaged weights, random scans
TINY = {
    **{"max_epochs": 4, "steps_per_epoch": 3, "batch_size": 2, "lr_size": 16, "num_points": 32, "num_workers": 0},
    **{"preset": "iste_light", "val_crop": 48, "val_interval": 1, "scales": [2], "device": "cpu"},
}


class Killed(BaseException):
    """Stands for SIGKILL inside one process: no handler of the training catches it."""


def prepare(folder, *overlays, **changes) -> ConfigWorkflow:
    """A workflow that is ready to run."""
    flow = workflow("train.json", *overlays, **{"output_dir": str(folder), **TINY, **changes})
    flow.initialize()
    return flow


def train(folder, *overlays, kill_at=None, **changes) -> ConfigWorkflow:
    """Run a training; with ``kill_at`` it ends abruptly at the start of that step."""
    flow = prepare(folder, *overlays, **changes)
    if kill_at is not None:

        @flow.trainer.on(Events.ITERATION_STARTED)
        def _kill(engine):
            if engine.state.iteration == kill_at:
                raise Killed

    try:
        flow.run()
    except Killed:
        return flow
    flow.finalize()
    return flow


def read(path):
    return torch.load(path, weights_only=True)


def differences(content, other, name="") -> list[str]:
    """Name everything that two nested states do not have in common, bit for bit."""
    if isinstance(content, torch.Tensor) and isinstance(other, torch.Tensor):
        same = content.dtype == other.dtype and torch.equal(content, other)
        return [] if same else [name]
    if isinstance(content, dict) and isinstance(other, dict) and content.keys() == other.keys():
        return [line for key in content for line in differences(content[key], other[key], f"{name}.{key}")]
    if isinstance(content, (list, tuple)) and isinstance(other, (list, tuple)) and len(content) == len(other):
        pairs = enumerate(zip(content, other, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{name}.{i}")]
    return [] if type(content) is type(other) and content == other else [name]


def run_differences(folder: Path, other: Path) -> list[str]:
    """Name what differs between the results of two runs: weights, averages, optimizer, schedule, scores."""
    last = max(folder.glob("checkpoint_epoch=*.pt"), key=lambda path: int(path.stem.rpartition("=")[2])).name
    found = [
        line
        for file in ("model.pt", "model_best.pt", last)
        for line in differences(read(folder / file), read(other / file), file)
    ]
    rows = [json.loads((place / "metrics.json").read_text()) for place in (folder, other)]
    return found + differences(rows[0]["images"], rows[1]["images"], "metrics.json")
