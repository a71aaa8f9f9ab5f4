"""Runs of the bundle: their folder, their device and processes, their weights, and where they resume."""

import json
from pathlib import Path

import pytest
import torch
from bundle_workflows import CONFIGS, ROOT, evaluate, train, workflow
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_iste import bundle
from monai_iste.errors import (
    CheckpointError,
    ConfigError,
    find_error,
)
from monai_iste.handlers import LoadWeights
from monai_iste.networks import PRESETS, create_iste, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET

WITHOUT_LFI = {"_target_": "create_iste", "preset": DEFAULT_PRESET, "use_lfi": False}

# --- folder, device, processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ROOT / "train.json", CONFIGS / "train.json"])
@pytest.mark.parametrize("folder", ["repository", "bundle", "elsewhere"])
def test_results_go_to_the_bundle_wherever_the_command_is_typed(config, folder, tmp_path, monkeypatch):
    monkeypatch.chdir({"repository": ROOT.parents[1], "bundle": ROOT, "elsewhere": tmp_path}[folder])
    name = str(config) if folder == "elsewhere" else str(config.relative_to(Path.cwd()))
    flow = ConfigWorkflow(name, logging_file=False)
    flow.initialize()
    assert flow.parser.get_parsed_content("output_dir") == str(ROOT / "eval")


def test_a_device_by_name(tmp_path, capsys):
    train(tmp_path, device="cpu")
    assert "No CUDA device: training iste_light2 on cpu" in capsys.readouterr().out


def test_the_multi_gpu_overlay_alone_names_the_command_that_starts_it(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, "multi_gpu_train.json")
    assert "torch.distributed.run --standalone" in str(find_error(caught.value))


# --- weights ----------------------------------------------------------------------------------------------------------


def evaluated(folder: Path, name: str = "evaluate.json", **changes) -> tuple[str, str | None]:
    """The preset and the weights that an evaluation in ``folder`` takes."""
    flow = workflow(name, kind="infer", output_dir=str(folder), **changes)
    flow.initialize()
    handler = next(h for h in flow.parser.get_parsed_content("handlers") if isinstance(h, LoadWeights))
    own = flow.network_def.state_dict()
    assert own.keys() == create_iste(handler.preset).state_dict().keys()
    return handler.preset, handler.path


@pytest.mark.parametrize("name", ["evaluate.json", "inference.json"])
def test_released_weights_serve_where_nothing_was_trained(name, tmp_path, capsys):
    assert evaluated(tmp_path, name) == (DEFAULT_PRESET, str(ROOT / "models" / "model.pt"))  # the same, as MONAI's file
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    changes = {"scales": [2], "crop": 48} if name == "evaluate.json" else {"scale": 2}
    flow = workflow(name, kind="infer", output_dir=str(tmp_path / "out"), dataset_dir=str(tmp_path), **changes)
    flow.initialize()
    flow.run()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Network ")]
    assert line.startswith(f"Network {DEFAULT_PRESET} with the weights in ")
    assert line.endswith("model.pt")


@pytest.mark.parametrize("preset", ["iste_small", "iste_light"])
@pytest.mark.parametrize("config", [None, "name", "$'iste_' + ('light' if 1 else 'small')", "later run", "huge"])
def test_weights_that_were_trained_there_come_first(preset, config, tmp_path):
    torch.save(create_iste(preset).state_dict(), tmp_path / "model.pt")
    if config is not None:
        named = {"name": preset, "later run": "iste"}.get(config, config)
        (tmp_path / "config.json").write_text(json.dumps({"preset": named}))
    assert evaluated(tmp_path) == (preset, str(tmp_path / "model.pt"))


def test_of_two_presets_with_the_same_tensors_the_one_that_was_trained_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "iste_twin", PRESETS["iste_light"])
    torch.save(create_iste("iste_twin").state_dict(), tmp_path / "model.pt")
    assert bundle.default_preset(str(tmp_path)) == "iste_light"
    (tmp_path / "config.json").write_text(json.dumps({"preset": "iste_twin"}))
    assert bundle.default_preset(str(tmp_path)) == "iste_twin"


def test_named_weights_come_first(tmp_path):
    torch.save(create_iste("iste_small").state_dict(), tmp_path / "model.pt")
    released = str(released_weights(DEFAULT_PRESET))
    assert evaluated(tmp_path, preset="iste_small") == ("iste_small", str(tmp_path / "model.pt"))
    assert evaluated(tmp_path, preset=DEFAULT_PRESET) == (DEFAULT_PRESET, str(ROOT / "models" / "model.pt"))
    assert evaluated(tmp_path, checkpoint=released) == (DEFAULT_PRESET, released)
    assert evaluated(tmp_path / "out", checkpoint=str(tmp_path / "model.pt"))[0] == "iste_small"
    assert evaluated(tmp_path, preset="iste", checkpoint=released) == ("iste", released)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {"preset": "iste"},
            ConfigError,
            "released weights (iste_light, iste_light2), got 'iste', which has none",
        ),
        ({"checkpoint": "missing.pt"}, CheckpointError, "missing.pt, which does not exist"),
        ({"preset": "iste", "checkpoint": str(released_weights(DEFAULT_PRESET))}, CheckpointError, "tensors that"),
    ],
)
def test_weights_that_are_not_there(changes, kind, words, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, tmp_path, **{"checkpoint": None, **changes})
    error = find_error(caught.value)
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_damaged_model_is_refused_and_not_replaced_by_released_weights(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"half")
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, tmp_path, checkpoint=None)
    assert isinstance(find_error(caught.value), CheckpointError)


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_resumes_and_a_finished_one_starts_again(tmp_path, capsys):
    out = str(tmp_path / "out")
    train(tmp_path, max_epochs=2)
    first = json.loads((tmp_path / "out" / "metrics.json").read_text())
    flow = train(tmp_path, max_epochs=3)
    shown = capsys.readouterr()
    assert "Resumed" in shown.out
    assert "| 4/6 [" in shown.err  # the bar begins where the run does
    assert flow.trainer.state.iteration == 6
    assert flow.parser.get_parsed_content("lr_scheduler").last_epoch == 6
    second = json.loads((tmp_path / "out" / "metrics.json").read_text())
    kept = [[r for r in report["images"] if r["method"] == "iste, initial"] for report in (first, second)]
    assert kept[0] == kept[1]
    assert sorted(p.name for p in (tmp_path / "out").glob("checkpoint*")) == [
        "checkpoint_epoch=2.pt",
        "checkpoint_epoch=3.pt",
    ]
    assert bundle.resume_point(out, max_epochs=3) is None
    assert not list((tmp_path / "out").glob("checkpoint*"))


def test_a_checkpoint_cut_off_by_a_crash_is_passed_over(tmp_path):
    train(tmp_path, max_epochs=2)
    last = tmp_path / "out" / "checkpoint_epoch=2.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert bundle.resume_point(str(tmp_path / "out"), max_epochs=2).endswith("checkpoint_epoch=1.pt")


def test_an_unfinished_run_of_other_settings_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, max_epochs=2, network_def=WITHOUT_LFI)
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert "another network_def. Repeat its settings to resume, add --resume False" in str(error)
    assert (tmp_path / "out" / "checkpoint_epoch=1.pt").is_file()
    train(tmp_path, max_epochs=1, resume=False, batch_size=1)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    train(tmp_path)
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, max_epochs=2, network_def=WITHOUT_LFI)
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert "a checkpoint of the network that is being trained" in str(error)


@pytest.mark.parametrize("text", ["", '{"a"', "[]", None])
def test_settings_that_a_crash_damaged_do_not_stop_a_run(text, tmp_path, capsys):
    train(tmp_path)
    saved = tmp_path / "out" / "config.json"
    if text is None:
        saved.unlink()
    else:
        saved.write_text(text)
    assert bundle.default_preset(str(tmp_path / "out")) == DEFAULT_PRESET
    train(tmp_path, max_epochs=2)
    assert "Resumed" in capsys.readouterr().out
    assert json.loads(saved.read_text())["max_epochs"] == 2
