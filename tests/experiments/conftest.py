"""Fixtures of the tables' tests: a data set of small tiles, and a substitute for trainings and evaluations."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import study
from experiments.runs import is_finished
from monai_iste.errors import TrainingError
from monai_iste.io.json_files import read_json, write_json


@pytest.fixture
def root(tmp_path):
    """Two tiles for each part."""
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for i in range(2):
            pixels = random.integers(0, 255, (8, 8, 3), np.uint8)
            image = Image.fromarray(pixels).resize((160, 160), Image.Resampling.BICUBIC)
            image.save(tmp_path / "data" / part / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def bundle(monkeypatch):
    """Substitute for trainings and evaluations: PSNR by method, with a list of the requests."""
    asked, gains = [], {"edsr": 1.0, "liif": 2.0, "lte": 2.5, "iste": 3.0}

    def run(workflow, configs, options, folder):
        if is_finished(folder):
            return read_json(folder / "run.json")
        asked.append((workflow, configs, options, folder))
        family = options["preset"].split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        if options["preset"] == "lte_light" and "fail" in asked[0]:
            raise TrainingError("training to end well", "no space left", "See the log.")
        if workflow == "training":
            torch.save({"w": torch.zeros(options["seed"] + 5)}, folder / "model.pt")
            cost = {"cpu_seconds": {"liif": 50.0, "lte": 200.0}.get(family, 100.0), "seconds": 1.0}
            write_json(folder / "run.json", {**cost, "finished": True})
            return cost
        seed = int(folder.parent.name[-1])
        images = [
            {
                "image": str(i),
                "scale": scale,
                "method": method,
                "psnr": 30.0 - scale + i + gain + seed / 10,
                "ssim": 0.9,
            }
            for method, gain in (("bicubic", 0.0), ("iste", gains.get(family, 0.0)))
            for i in range(3)
            for scale in options["scales"]
        ]
        (folder / "metrics.json").write_text(json.dumps({"images": images, "rows": []}))
        return {}

    monkeypatch.setattr(study, "run_bundle", run)
    return asked
