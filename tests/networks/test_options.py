"""Weights know the options of their network: written with them, and refused or rebuilt where they differ."""

import copy
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import assert_teaches
from safetensors.torch import save_file
from tiny_preset import add_tiny_preset

from monai_iste.errors import CheckpointError
from monai_iste.networks import (
    EDSR,
    ISTE,
    LIIF,
    LTE,
    BlurConditionedEncoder,
    EDSREncoder,
    LiUNetGAN,
    SWDNet,
    SwinIR,
    create_iste,
    create_network,
    load_network,
    load_weights,
    released_weights,
)
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.options import differing_options, stated_options
from monai_iste.networks.presets import create_network_like
from monai_iste.networks.weights import misfits, read_weights, safetensors_bytes, save_state

SMALL = {
    ISTE: {"encoder": lambda: BlurConditionedEncoder(8, 1), "texture_channels": 8, "hidden_channels": 8},
    LIIF: {"encoder": lambda: EDSREncoder(8, 1), "hidden_channels": 8},
    LTE: {"encoder": lambda: EDSREncoder(8, 1), "hidden_channels": 8},
    EDSR: {"out_channels": 8, "num_blocks": 1},
    SwinIR: {"dim": 12, "depths": (2,), "heads": 2, "out_channels": 8},
    LiUNetGAN: {"channels": (4, 8, 16, 32)},
    SWDNet: {"shallow_channels": 4, "channels": 4, "blocks": 1, "wavelet_channels": 4},
}
OTHER = {
    "heads": {ISTE: 2, SwinIR: 3},
    "texture_corners": "four",
    "training_keys": "lattice",
    "inference_keys": "all",
    "key_side": 5,
    "blend": "features",
    "bicubic_residual": True,
    "scale": 4,
    "input_blur": 0.25,
    "query_kernel": 3,
    "hidden_layers": 2,
    "depths": (2, 2),
    "window": 4,
    "mlp_ratio": 3.0,
    "channels": {LiUNetGAN: (4, 8, 16, 64), SWDNet: 6},
    "drop_path": 0.2,  # draws in training only
}
CASES = [(kind, name) for kind in SMALL for name in inspect.signature(kind).parameters]
VARIANTS = {
    "texture_corners": "nearest",
    "inference_keys": "all",
    "key_side": 48,
    "blend": "features",
    "bicubic_residual": False,
    "heads": 2,
}
FORMS = ["a.pt", "training.pt", "checkpoint.pt", "a.safetensors", "a.safetensors.index.json"]


def build(kind, **changes):
    return kind(**{name: value() if name == "encoder" else value for name, value in {**SMALL[kind], **changes}.items()})


def changed(kind, name):
    if name == "encoder":
        return lambda: BlurConditionedEncoder(8, 2) if kind is ISTE else EDSREncoder(8, 2)
    if name.startswith("use_"):
        return False
    other = OTHER.get(name, 10)
    return other[kind] if isinstance(other, dict) else other


def write(path: Path, network) -> Path:
    """Write weights as the bundle, its checkpoints and the release do."""
    state = network.state_dict()
    if path.suffix == ".pt":
        save_state(path, {"network": state, "trainer": {}} if path.name == "checkpoint.pt" else state)
    elif path.suffix == ".safetensors":
        path.write_bytes(safetensors_bytes(state, network.options(), preset="x"))
    else:
        names = {key: f"part{i % 2}.safetensors" for i, key in enumerate(state)}
        for part in set(names.values()):
            tensors = {key: state[key] for key in state if names[key] == part}
            path.with_name(part).write_bytes(safetensors_bytes(tensors, network.options()))
        path.write_text(json.dumps({"weight_map": names}))
    return path


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_argument_shows_in_a_tensor_or_in_the_options(kind, name):
    if name == "drop_path":
        return
    network, other = build(kind), build(kind, **{name: changed(kind, name)})
    shows = misfits(other, network.state_dict())
    assert shows or differing_options(other, stated_options(network.state_dict()))
    assert bool(shows) != (name in kind.option_names) or name == "scale"
    if name in kind.option_names:
        assert network.options()[name] == inspect.signature(kind).parameters[name].default
        assert other.options()[name] == changed(kind, name)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in CASES if name in kind.option_names])
def test_loading_in_python_is_refused(kind, name, tmp_path):
    network, other = build(kind), build(kind, **{name: changed(kind, name)})
    torch.save(network.state_dict(), tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    if misfits(other, state):
        return  # PyTorch refuses it
    before = copy.deepcopy(dict(other.state_dict()))
    if name in kind.free_options:
        other.load_state_dict(state)
        load_weights(other, tmp_path / "a.pt")
        return
    for load in (lambda: other.load_state_dict(state), lambda: load_weights(other, tmp_path / "a.pt")):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert_teaches(caught.value, f"{name}={other.options()[name]!r}", f"{name}={network.options()[name]!r}")
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    network.load_state_dict(state)
    load_weights(build(kind), tmp_path / "a.pt")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_by_name_the_network_is_rebuilt(name, form, tmp_path):
    variant = create_iste("iste_light", **{name: VARIANTS[name]}).eval()
    path = write(tmp_path / form, variant)
    with pytest.raises(CheckpointError, match=rf"{name}.*--network_def#{name} {VARIANTS[name]}"):
        load_weights(create_iste("iste_light"), path)
    again, image = load_network("iste_light", path), torch.rand(1, 3, 9, 11)
    assert again.options() == variant.options()
    with torch.no_grad():
        assert torch.equal(again(image, scale=1.7), variant(image, scale=1.7))


def test_options_survive_copies_and_wrappers():
    network = build(ISTE, texture_corners="four")
    assert stated_options(copy.deepcopy(network).state_dict())["texture_corners"] == "four"
    wrapped = torch.nn.Sequential(network)
    with pytest.raises(CheckpointError, match="texture_corners"):
        torch.nn.Sequential(build(ISTE)).load_state_dict(wrapped.state_dict())


@pytest.mark.parametrize("form", ["a.pt", "a.safetensors"])
def test_files_that_state_nothing_are_loaded_as_before(form, tmp_path):
    network = create_iste("iste_light", texture_corners="nearest")
    plain = dict(network.state_dict())
    torch.save(plain, tmp_path / form) if form == "a.pt" else save_file(plain, tmp_path / form)
    assert load_network("iste_light", tmp_path / form).texture_corners == "four"
    load_weights(create_iste("iste_light"), tmp_path / form)
    assert stated_options(read_weights(released_weights("iste_light"))) is None
    load_weights(create_iste("iste_light", key_side=8), released_weights("iste_light"))


def test_differences_on_purpose(tmp_path):
    path = write(tmp_path / "a.safetensors", create_iste("iste_light"))
    load_weights(create_iste("iste_light", key_side=8), path, may_differ={"key_side"})
    with pytest.raises(CheckpointError, match="blend"):
        load_weights(create_iste("iste_light", key_side=8, blend="features"), path, may_differ={"key_side"})


def test_options_of_other_versions(tmp_path):
    network = create_iste("iste_light")
    options = network.options()
    (tmp_path / "new.safetensors").write_bytes(safetensors_bytes(network.state_dict(), {**options, "sharpen": 2}))
    for load in (load_network, lambda preset, path: load_weights(create_iste(preset), path)):
        with pytest.raises(CheckpointError) as caught:
            load("iste_light", tmp_path / "new.safetensors")
        assert_teaches(caught.value, "new.safetensors", "sharpen=2", "Update monai_iste")
    del options["key_side"]  # from before there was a choice: 48
    (tmp_path / "old.safetensors").write_bytes(safetensors_bytes(network.state_dict(), options))
    assert load_network("iste_light", tmp_path / "old.safetensors").key_side == 48


@pytest.mark.parametrize("about", ["no json", "[]", '{"options": 3}', "{}"])
def test_damaged_options_are_refused(about, tmp_path):
    save_file(dict(create_iste("iste_light").state_dict()), tmp_path / "a.safetensors", {"monai_iste": about})
    with pytest.raises(CheckpointError, match=r"damaged or foreign|options"):
        load_network("iste_light", tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", ["eight", None, [1], {"a": 1}, 3.5, -1])
def test_values_that_no_network_has_are_refused(value, tmp_path):
    options = {**create_iste("iste_light").options(), "texture_corners": value}
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(create_iste("iste_light").state_dict(), options))
    with pytest.raises(CheckpointError) as caught:
        load_network("iste_light", path)
    assert_teaches(caught.value, "texture_corners", repr(value))


def test_changes_of_the_caller_have_precedence():
    state = create_network("edsr_small", scale=2).state_dict()
    assert create_network_like("edsr_small", state, scale=3).scale == 3
    assert create_network_like("edsr_small", state).scale == 2


def test_the_command_runs_a_variant_as_it_was_trained(tmp_path, monkeypatch):
    from PIL import Image
    from typer.testing import CliRunner

    from monai_iste import upscale
    from monai_iste.cli.main import app

    add_tiny_preset(monkeypatch)
    torch.manual_seed(0)
    variant = create_iste("tiny", texture_corners="four").eval()
    path = write(tmp_path / "v.pt", variant)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    names = [str(tmp_path / name) for name in ("a.png", "b.png")]
    words = ["upscale", *names, "--scale", "2.5", "--preset", "tiny", "--weights", str(path), "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = np.asarray(Image.open(names[1]))
    assert np.array_equal(found, upscale(pixels, 2.5, model=variant))
    nearest = create_iste("tiny").eval()
    nearest.load_state_dict(dict(variant.state_dict()))
    assert not np.array_equal(found, upscale(pixels, 2.5, model=nearest))


def test_every_network_states_options():
    for name in ("iste_light", "liif_light", "lte_light", "edsr_small", "swd_net_small", "li_unet_gan_small"):
        network = create_network(name)
        assert isinstance(network, UpscalingNetwork)
        assert stated_options(network.state_dict()) == network.options()


def test_monais_export_refuses_a_variant(tmp_path):
    torch.save(create_iste("iste_light", texture_corners="nearest").state_dict(), tmp_path / "a.pt")
    config = Path(__file__).parents[2] / "bundles/iste/configs/inference.json"
    words = ["ckpt_export", "--bundle_root", str(tmp_path), "--config_file", str(config), "--preset", "iste_light"]
    words += ["--ckpt_file", str(tmp_path / "a.pt"), "--filepath", str(tmp_path / "model.ts")]
    done = subprocess.run([sys.executable, "-m", "monai.bundle", *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert "texture_corners='nearest'" in done.stderr
    assert not (tmp_path / "model.ts").exists()
