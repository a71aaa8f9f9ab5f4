"""The bundle's workflows with networks that are told the blur: training, evaluation, inference, and refusals."""

import json

import numpy as np
import pytest
import torch
from bundle_workflows import CONFIGS, ROOT, evaluate, workflow
from monai.bundle import ckpt_export
from PIL import Image
from reference import assert_close
from slide_files import picture, write_slide_file
from told_preset import add_told_preset, save_told_weights, told_network
from trainings import prepare, run_differences
from trainings import train as train_tiny

from monai_iste.errors import ConfigError, find_error
from monai_iste.functional import upscale
from monai_iste.networks.presets import create_network, released_weights

TINY = {"preset": "told", "max_epochs": 3}
PIXELS = picture(40, 52)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    add_told_preset(monkeypatch)


@pytest.fixture
def weights(tmp_path):
    return str(save_told_weights(tmp_path / "told.safetensors"))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlays", [(), ("light_release.json", "light_scans.json")], ids=["main", "release"])
def test_a_training_that_was_killed_ends_like_one_that_was_not(overlays, tmp_path):
    train_tiny(tmp_path / "whole", *overlays, **TINY)
    train_tiny(tmp_path / "parts", *overlays, **TINY, kill_at=5)
    torch.manual_seed(5)  # a process that resumes has other generators
    flow = train_tiny(tmp_path / "parts", *overlays, **TINY)
    assert flow.trainer.state.iteration == 9
    assert run_differences(tmp_path / "parts", tmp_path / "whole") == []


def learned(folder, *overlays, **changes):
    """How far the MLP of the modulation came from its random beginning."""
    flow = prepare(folder, *overlays, **{**TINY, "max_epochs": 2, **changes})
    before = flow.network_def.encoder.modulation[0].weight.clone()
    flow.run()
    return (flow.network_def.encoder.modulation[0].weight - before).abs().amax(0)


def test_the_blur_reaches_the_network_unless_it_is_hidden(tmp_path):
    """The columns of the first layer belong to the blur and to its being known; untold they have no gradient."""
    assert (learned(tmp_path / "told") > 0).all()
    assert (learned(tmp_path / "hidden", **{"hide_blur#prob": 1.0}) == 0).all()


def test_a_degradation_of_the_users_own_need_not_know_its_blur(tmp_path):
    degrade = "$lambda data: {**data, 'label': data['image'], 'image': data['image'][:, ::4, ::4]}"
    crop = {"_target_": "RandSpatialCropd", "keys": "image", "roi_size": [64, 64], "random_size": False}
    assert (learned(tmp_path, degrade=degrade, crop=crop) == 0).all()


@pytest.mark.parametrize(
    "overlays",
    [
        (),
        ("light_release.json",),
        ("light_release.json", "light_scans.json"),
        ("light2.json",),
        ("paper.json",),
        ("paper.json", "paper_authors.json"),
    ],
    ids="-".join,
)
def test_every_recipe_tells_and_hides_the_blur(overlays, tmp_path):
    changes = {"preset": "told", "lr_size": 16, "num_workers": 0, "batch_size": 40, "val_crop": 64}
    flow = workflow("train.json", *overlays, output_dir=str(tmp_path / "out"), **changes)
    flow.initialize()
    blur = next(iter(flow.parser.get_parsed_content("train#dataloader")))["input_blur"]
    assert blur.shape == (40,)
    assert 5 < blur.isnan().sum() < 35  # a half is hidden
    told = blur[~blur.isnan()]
    assert 0 <= told.min() < told.max() < 0.56


def test_the_loss_on_grids_teaches_the_blur_too(tmp_path):
    grids = {"num_rows": 12, "warmup_steps": 2, "anneal_steps": 2}
    assert (learned(tmp_path, "light2.json", **grids) > 0).all()


def test_processes_of_one_training_tell_the_blur_too(tmp_path, alone):
    """DistributedDataParallel around the network, with one process."""
    assert (learned(tmp_path, "multi_gpu_train.json", device="$torch.device('cpu')") > 0).all()


# --- evaluation -------------------------------------------------------------------------------------------------------


def scores(folder, method="iste"):
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    return [row["psnr"] for row in rows if row["method"] == method]


def test_an_evaluation_that_tells_the_blur_scores_another_result(weights, tmp_path):
    for name, changes in {"blind": {}, "told": {"tell_blur": True}}.items():
        (tmp_path / name).mkdir()
        evaluate(tmp_path / name, tmp_path, checkpoint=weights, scales=[2, 4], **changes)
    blind, told = scores(tmp_path / "blind"), scores(tmp_path / "told")
    assert all(abs(a - b) > 0.01 for a, b in zip(blind, told, strict=True))
    assert scores(tmp_path / "blind", "bicubic") == scores(tmp_path / "told", "bicubic")
    config = json.loads((tmp_path / "told" / "metrics.json").read_text())["manifest"]["config"]
    assert config["tell_blur"] is True


def test_a_protocol_without_blur_tells_that_there_is_none(weights, tmp_path):
    sharp = {"protocol": "bicubic-rgb", "scales": [2]}
    evaluate(tmp_path, tmp_path, checkpoint=weights, tell_blur=True, **sharp)
    found = scores(tmp_path)
    evaluate(tmp_path / "other", tmp_path, checkpoint=weights, **sharp, **{"network_def#input_blur": 0.0})
    assert scores(tmp_path / "other") == pytest.approx(found, abs=1e-4)


# --- inference --------------------------------------------------------------------------------------------------------


def run(name, **changes):
    flow = workflow(name, kind="infer", **changes)
    flow.initialize()
    flow.run()


def test_inference_is_told_the_blur(weights, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in" / "a.png")
    results = {}
    for blur in (None, 0.0, 0.4):
        out = tmp_path / f"out {blur}"
        options = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(out), "checkpoint": weights}
        run("inference.json", scale=2.5, input_blur=blur, **options)
        results[blur] = np.asarray(Image.open(out / "a_x2.5.png"))
        expected = upscale(PIXELS, 2.5, model=told_network(), input_blur=blur)
        assert np.abs(results[blur].astype(int) - expected).max() <= 1
    assert np.abs(results[None].astype(int) - results[0.0]).mean() > 1
    assert np.abs(results[0.4].astype(int) - results[0.0]).mean() > 1


def test_inference_of_a_slide_is_told_the_blur(weights, tmp_path):
    pytest.importorskip("zarr")
    slide = str(write_slide_file(tmp_path / "a.tif", PIXELS))
    options = {"slide": slide, "output_dir": str(tmp_path), "scale": 2, "checkpoint": weights}
    for name, changes in {"blind.png": {}, "told.png": {"input_blur": 0.4}}.items():
        run("inference_wsi.json", output=str(tmp_path / name), **options, **changes)
        expected = upscale(PIXELS, 2, model=told_network(), **changes)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), expected)


def test_a_slide_states_its_blur(weights, tmp_path):
    pytest.importorskip("imagecodecs", reason="needs the extra slides")
    import tifffile

    options = {"slide": str(write_slide_file(tmp_path / "a.tif", PIXELS)), "output": str(tmp_path / "b.ome.tiff")}
    run("inference_wsi.json", output_dir=str(tmp_path), scale=2, checkpoint=weights, input_blur=0.4, **options)
    with tifffile.TiffFile(options["output"]) as tiff:
        assert '<M K="input_blur">0.4</M>' in tiff.ome_metadata


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusal(name, tmp_path, **changes):
    (tmp_path / "in").mkdir(exist_ok=True)
    Image.fromarray(PIXELS).save(tmp_path / "in" / "a.png")
    options = {"output_dir": str(tmp_path / "out"), "scale": 2, **changes}
    if name == "inference_wsi.json":
        options |= {"slide": str(tmp_path / "in" / "a.png"), "output": str(tmp_path / "b.png")}
    else:
        options |= {"dataset_dir": str(tmp_path / "in")}
    with pytest.raises((RuntimeError, ConfigError)) as caught:
        run(name, **options)
    error = find_error(caught.value)
    assert isinstance(error, ConfigError), caught.value
    assert not (tmp_path / "b.png").exists()
    assert not list(tmp_path.glob("out/*"))
    return str(error)


@pytest.mark.parametrize("name", ["inference.json", "inference_wsi.json"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_blur": "soft"}, "input_blur to be a finite number of at least 0, got 'soft'"),
        ({"input_blur": "0.3"}, "input_blur to be a finite number of at least 0, got '0.3'"),
        ({"input_blur": True}, "input_blur to be a finite number of at least 0, got True"),
        ({"input_blur": -0.1}, "input_blur to be a finite number of at least 0, got -0.1"),
        ({"input_blur": float("nan")}, "input_blur to be a finite number of at least 0, got nan"),
        ({"input_blur": float("inf")}, "input_blur to be a finite number of at least 0, got inf"),
        ({"input_blur": 0.8, "preset": "iste_light2"}, "an input_blur from 0 to 0.55 pixels, as learned, got 0.8"),
        ({"input_blur": 0.3, "preset": "iste_light"}, "can be told the blur of its input, got an input_blur of 0.3"),
    ],
)
def test_a_blur_that_cannot_be(name, changes, words, tmp_path):
    assert words in refusal(name, tmp_path, **changes)


@pytest.mark.parametrize("name", ["inference.json", "inference_wsi.json"])
def test_a_baseline_cannot_be_told(name, tmp_path):
    from monai_iste.networks import create_network

    torch.save(create_network("liif_light").state_dict(), tmp_path / "liif.pt")
    words = refusal(name, tmp_path, input_blur=0.3, preset="liif_light", checkpoint=str(tmp_path / "liif.pt"))
    assert "a network that can be told the blur of its input" in words


@pytest.mark.parametrize("value", ["yes", 1, 0.25])
def test_to_tell_or_not_to_tell(value, weights, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, tmp_path, checkpoint=weights, tell_blur=value)
    assert "tell_blur to be True or False" in str(find_error(caught.value))


def test_an_evaluation_does_not_tell_a_network_that_takes_none(tmp_path):
    with pytest.raises((RuntimeError, ConfigError)) as caught:
        evaluate(tmp_path / "out", tmp_path, checkpoint=str(released_weights("iste_light")), tell_blur=True)
    assert "a network that can be told the blur" in str(find_error(caught.value))
    assert not list(tmp_path.glob("out/*"))


# --- export -----------------------------------------------------------------------------------------------------------


def test_the_exported_program_is_told(tmp_path):
    image, network = torch.rand(1, 3, 9, 8), told_network()
    torch.save(network.state_dict(), tmp_path / "told.pt")
    for blur in (None, 0.4):
        words = {"filepath": str(tmp_path / "told.ts"), "ckpt_file": str(tmp_path / "told.pt"), "preset": "told"}
        ckpt_export(config_file=str(CONFIGS / "inference.json"), bundle_root=str(ROOT), input_blur=blur, **words)
        with torch.no_grad():
            found = torch.jit.load(tmp_path / "told.ts")(image, scale=2.0)
            expected = network.with_input_blur(blur)(image, scale=2.0)
        assert_close(found, expected.double().numpy())


def test_a_network_that_cannot_be_told_is_not_built_with_a_blur():
    assert create_network("edsr_small", input_blur=None, scale=2).scale == 2
    with pytest.raises(ConfigError, match="told the blur"):
        create_network("edsr_small", input_blur=0.3, scale=2)
