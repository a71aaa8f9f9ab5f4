"""Blurs that released weights did not learn: exports, ``monai.bundle.load``, and settings of the network itself."""

import shutil

import monai.bundle
import numpy as np
import pytest
import torch
from bundle_workflows import CONFIGS, ROOT, workflow
from monai.bundle import ckpt_export
from PIL import Image
from reference import assert_teaches
from told_preset import add_told_preset, told_network

from monai_iste.bundle import default_preset, learned_blur
from monai_iste.errors import ConfigError, find_error
from monai_iste.networks import PRESETS, presets
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.networks.weights import save_state

BOUNDS = "from 0 to 0.55 pixels, as learned", "Pass 0.55 at most"


@pytest.fixture(autouse=True)
def files(monkeypatch, tmp_path):
    """Files of weights of the preset told: released ones, the same under another name, and a user's own."""
    add_told_preset(monkeypatch)
    learned = LearnedRange((1, 2), (0, 1), 2, (0, 0.55))
    monkeypatch.setitem(PRESETS, "told", PRESETS["told"]._replace(learned=learned))
    for name, seed in (("released", 0), ("same", 0), ("own", 1)):
        save_state(tmp_path / f"{name}.pt", told_network(seed).state_dict())
    released = presets.released_weights
    monkeypatch.setattr(
        presets, "released_weights", lambda name: tmp_path / "released.pt" if name == "told" else released(name)
    )
    return tmp_path


def refused(run):
    with pytest.raises((RuntimeError, ConfigError)) as caught:
        run()
    return find_error(caught.value)


# --- exports ----------------------------------------------------------------------------------------------------------


def export(folder, weights, **changes):
    words = {"filepath": str(folder / "a.ts"), "ckpt_file": str(folder / weights), **changes}
    ckpt_export(config_file=str(CONFIGS / "inference.json"), bundle_root=str(ROOT), **words)
    return torch.jit.load(folder / "a.ts")


@pytest.mark.parametrize("weights", ["released.pt", "same.pt"])
@pytest.mark.parametrize("blur", [0.5501, 7])
def test_an_export_for_a_blur_that_was_not_learned(weights, blur, files):
    error = refused(lambda: export(files, weights, input_blur=blur, preset="told"))
    assert isinstance(error, ConfigError)
    assert_teaches(error, *BOUNDS, str(blur))
    assert not (files / "a.ts").exists()


@pytest.mark.parametrize("blur", ["soft", "0.3", True, -1, float("nan"), [0.3]])
def test_an_export_for_what_is_no_blur(blur, files):
    error = refused(lambda: export(files, "released.pt", input_blur=blur, preset="told"))
    assert_teaches(error, "an input_blur of at least 0 pixels", str(blur), "0.5 is soft")
    assert not (files / "a.ts").exists()


@pytest.mark.parametrize(("weights", "blur"), [("released.pt", 0.55), ("own.pt", 0.7), ("own.pt", None)])
def test_an_export_takes_what_its_own_file_may_be_told(weights, blur, files):
    """The file that is exported counts, not the one that the workflow would find; it names its preset too."""
    image = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        found = export(files, weights, input_blur=blur)(image, scale=2.0)
        expected = told_network(int(weights == "own.pt")).with_input_blur(blur)(image, scale=2.0)
    torch.testing.assert_close(found, expected)


def test_elsewhere_nothing_is_exported(files):
    assert default_preset(str(files)) == presets.DEFAULT_PRESET
    assert learned_blur(0.7, "told", str(files / "own.pt")) == 0.7
    assert learned_blur(None, "told", str(files / "released.pt")) is None
    assert_teaches(refused(lambda: learned_blur(0.7, "told", str(files / "same.pt"))), *BOUNDS)


# --- workflows and monai.bundle.load ----------------------------------------------------------------------------------


def infer(folder, **changes):
    (folder / "in").mkdir()
    Image.fromarray(np.zeros((12, 14, 3), np.uint8)).save(folder / "in" / "a.png")
    changes = {"output_dir": str(folder / "out"), "dataset_dir": str(folder / "in"), "preset": "told", **changes}
    flow = workflow("inference.json", kind="infer", scale=2, **changes)
    flow.initialize()
    flow.run()


@pytest.mark.parametrize("key", ["input_blur", "network_def#input_blur"])
@pytest.mark.parametrize("weights", ["released.pt", "same.pt"])
def test_a_workflow_refuses_it_under_either_name(key, weights, files):
    error = refused(lambda: infer(files, checkpoint=str(files / weights), **{key: 0.7}))
    assert_teaches(error, *BOUNDS, "0.7")
    assert not list(files.glob("out/**/*.png"))


def test_a_workflow_with_weights_of_ones_own(files):
    infer(files, checkpoint=str(files / "own.pt"), input_blur=0.7)
    assert list(files.glob("out/**/*.png"))


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_a_loaded_bundle(kind, tmp_path, monkeypatch):
    folder = tmp_path / "bundles" / "iste"
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(ROOT / "models" / "model.pt", folder / "models")
    monkeypatch.chdir(tmp_path)

    def load(blur):
        words = {"workflow_type": kind, "net_override": {"input_blur": blur}}
        return monai.bundle.load("iste", bundle_dir=str(tmp_path / "bundles"), device="cpu", **words)

    assert load(0.55).input_blur == 0.55
    assert_teaches(refused(lambda: load(0.56)), *BOUNDS, "0.56")
