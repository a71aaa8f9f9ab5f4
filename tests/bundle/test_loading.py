"""monai.bundle.load changes nothing, and the workflows take the bundle's own model."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from bundle_workflows import ROOT
from monai.bundle import ConfigWorkflow
from PIL import Image
from reference import assert_teaches

from monai_iste import DEFAULT_PRESET
from monai_iste.errors import CheckpointError, find_error
from monai_iste.functional import upscale
from monai_iste.handlers import LoadWeights
from monai_iste.networks import create_iste, load_network, load_weights, released_weights
from monai_iste.networks.weights import save_state


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """A bundle as from a zip, in a folder of its own."""
    folder = tmp_path / "bundles" / "iste"
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(ROOT / "models" / "model.pt", folder / "models")
    monkeypatch.chdir(tmp_path)
    return folder


def state_of_the_program() -> dict:
    return {
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "excepthook": sys.excepthook,
        "files": sorted(str(path) for path in Path.cwd().rglob("*")),
        "monai": monai.utils.misc.get_seed(),
    }


def load(folder: Path, **options):
    return monai.bundle.load(folder.name, bundle_dir=str(folder.parent), device="cpu", **options)


@pytest.mark.parametrize("kind", ["train", "inference", "evaluate"])
def test_load_changes_nothing(kind, unpacked, capsys):
    torch.manual_seed(5)
    torch.set_num_threads(2)
    before = state_of_the_program()
    net = load(unpacked, workflow_type=kind).eval() if kind != "evaluate" else load_evaluate(unpacked)
    assert state_of_the_program() == before
    shown = capsys.readouterr()
    assert "training" not in shown.out + shown.err
    image = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        assert torch.equal(net(image, scale=3), load_network()(image, scale=3))


def load_evaluate(folder):
    """MONAI names only the workflows "train" and "infer"; the file of the latter is called as the bundle likes."""
    shutil.copy(folder / "configs" / "evaluate.json", folder / "configs" / "infer.json")
    before = sorted(str(path) for path in Path.cwd().rglob("*"))
    net = load(folder, workflow_type="infer").eval()
    assert sorted(str(path) for path in Path.cwd().rglob("*")) == before
    (folder / "configs" / "infer.json").unlink()
    return net


def test_a_training_after_a_load_is_prepared_as_ever(unpacked, capsys):
    load(unpacked)
    flow = ConfigWorkflow(str(unpacked / "configs" / "train.json"), logging_file=False, num_workers=0, seed=3)
    flow.initialize()
    assert torch.initial_seed() == 3
    assert (unpacked / "eval").is_dir()
    assert "training iste_light" in capsys.readouterr().out
    flow.finalize()
    monai.utils.set_determinism(None)


def test_what_load_would_skip_is_refused(unpacked):
    save_state(unpacked / "models" / "model.pt", create_iste("iste_small").state_dict())
    with pytest.raises(RuntimeError) as caught:
        load(unpacked)
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert_teaches(error, "tensors that differ", "model.pt", "net_override")
    net = load(unpacked, net_override={"preset": "iste_small"})
    fits = load_weights(create_iste("iste_small"), unpacked / "models" / "model.pt")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), fits.parameters(), strict=True))
    assert len(list(load(unpacked, workflow_type="inference").parameters())) == len(list(fits.parameters()))


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_load_refuses_a_variant_or_gets_it_right(kind, unpacked):
    save_state(unpacked / "models" / "model.pt", create_iste(DEFAULT_PRESET, texture_corners="nearest").state_dict())
    with pytest.raises(RuntimeError) as caught:
        load(unpacked, workflow_type=kind)
    assert_teaches(find_error(caught.value), "texture_corners='nearest'", "model.pt")
    net = load(unpacked, workflow_type=kind, net_override={"texture_corners": "nearest"})
    assert net.texture_corners == "nearest"


def own_model(folder: Path, factor: float = 0.5):
    """A model of the bundle that is not the released one."""
    network = load_weights(create_iste(DEFAULT_PRESET), released_weights(DEFAULT_PRESET)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(factor)
    save_state(folder / "models" / "model.pt", network.state_dict())
    return network


@pytest.mark.parametrize("name", ["evaluate.json", "inference.json", "inference_wsi.json"])
def test_workflows_take_the_bundles_model_and_say_so(name, unpacked, capsys):
    network, pixels = own_model(unpacked), np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    Path("in").mkdir()
    Image.fromarray(pixels).save("in/a.png")
    changes = {
        "evaluate.json": {"scales": [2], "crop": 32, "dataset_dir": "in"},
        "inference.json": {"dataset_dir": "in"},
        "inference_wsi.json": {"slide": "in/a.png", "output": "b.png", "scale": 4},
    }[name]
    flow = ConfigWorkflow(
        str(unpacked / "configs" / name), workflow_type="infer", logging_file=False, device="cpu", **changes
    )
    flow.initialize()
    flow.run()
    shown = capsys.readouterr().out
    assert f"with the weights in {os.path.join('bundles', 'iste', 'models', 'model.pt')}" in shown
    expected = upscale(pixels, 4, model=network)
    if name == "inference.json":
        assert np.array_equal(np.asarray(Image.open(unpacked / "eval" / "a_x4.png")), expected)
    elif name == "inference_wsi.json":
        assert np.array_equal(np.asarray(Image.open("b.png")), expected)
    else:
        manifest = json.loads((unpacked / "eval" / "metrics.json").read_text())["manifest"]
        assert "model.pt" in json.dumps(manifest)


def chosen(folder: Path, **changes) -> tuple[str, str]:
    flow = ConfigWorkflow(
        str(folder / "configs" / "evaluate.json"), workflow_type="infer", logging_file=False, device="cpu", **changes
    )
    flow.initialize()
    handler = next(h for h in flow.parser.get_parsed_content("handlers") if isinstance(h, LoadWeights))
    return handler.preset, str(handler.path)


def test_order_of_weights(unpacked, tmp_path):
    model = unpacked / "models" / "model.pt"
    released = str(released_weights(DEFAULT_PRESET))
    assert chosen(unpacked) == (DEFAULT_PRESET, str(model))
    assert chosen(unpacked, checkpoint=released) == (DEFAULT_PRESET, released)
    save_state(tmp_path / "model.pt", create_iste(DEFAULT_PRESET).state_dict())
    assert chosen(unpacked, output_dir=str(tmp_path)) == (DEFAULT_PRESET, str(tmp_path / "model.pt"))
    save_state(model, create_iste("iste_small").state_dict())
    assert chosen(unpacked) == ("iste_small", str(model))
    assert chosen(unpacked, preset=DEFAULT_PRESET) == (DEFAULT_PRESET, released)
    model.unlink()
    assert chosen(unpacked) == (DEFAULT_PRESET, released)


def test_a_variant_is_refused_in_evaluation_with_advice_that_works(unpacked, tmp_path):
    save_state(tmp_path / "v.pt", create_iste(DEFAULT_PRESET, texture_corners="nearest").state_dict())
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file"]
    command += [str(unpacked / "configs" / "inference.json"), "--checkpoint", "v.pt", "--dataset_dir", "."]
    command += ["--output_dir", "out", "--scale", "2", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == CheckpointError.exit_code
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    advice = sentence.rpartition("in a bundle: ")[2].rstrip(".").split(" ")
    done = subprocess.run([*command, *advice], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a_x2.png").is_file()


@pytest.mark.parametrize("scale", [None, 3])
def test_the_exported_network_upscales_as_the_workflow(scale, tmp_path):
    """``net(image)`` of a TorchScript program had the factor of the network's class, not that of the workflow."""
    changes = {} if scale is None else {"scale": scale}
    parser = monai.bundle.ConfigParser()
    parser.read_config(str(ROOT / "configs" / "inference.json"))
    parser.update({"preset": DEFAULT_PRESET, **changes})
    network = torch.jit.script(parser.get_parsed_content("network_def").eval())
    with torch.no_grad():
        assert network(torch.rand(1, 3, 5, 6)).shape[2:] == (5 * (scale or 4), 6 * (scale or 4))
