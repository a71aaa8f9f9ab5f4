"""Workflows of the bundle's configurations, and runs of them that take seconds."""

import tempfile
from pathlib import Path

from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).parents[2] / "bundles" / "iste"
CONFIGS = ROOT / "configs"
TOY = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "lr_size": 16, "num_points": 32, "num_workers": 0}


_OUTPUTS = tempfile.TemporaryDirectory()


def workflow(*names: str, kind: str = "train", **changes) -> ConfigWorkflow:
    """A workflow; its output folder, if none is given, is its own: tests that run at once claim no common one."""
    changes = {"output_dir": tempfile.mkdtemp(dir=_OUTPUTS.name), **changes}
    return ConfigWorkflow([str(CONFIGS / name) for name in names], workflow_type=kind, logging_file=False, **changes)


def train(tmp_path: Path, *overlays: str, **changes) -> ConfigWorkflow:
    """A training of seconds on crops of the offline sample."""
    flow = workflow("train.json", *overlays, **{"output_dir": str(tmp_path / "out"), "val_crop": 64, **TOY, **changes})
    flow.initialize()
    flow.run()
    flow.finalize()
    return flow


def evaluate(tmp_path: Path, trained: Path, **changes) -> None:
    """An evaluation of the model that a training left in ``trained``."""
    changes = {"checkpoint": str(trained / "model.pt"), "output_dir": str(tmp_path), "crop": 64, **changes}
    flow = workflow("evaluate.json", kind="infer", **changes)
    flow.initialize()
    flow.run()
    flow.finalize()
