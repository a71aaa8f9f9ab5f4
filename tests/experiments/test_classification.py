"""Table IV on synthetic patches: inputs of each setting, accuracy and F1, contents of the table."""

import json

import numpy as np
import pytest
import torch
from experiment_files import table, tissue
from torch import nn

from experiments import classification
from experiments import tumor_task as tumor_task
from experiments.classification import table4
from experiments.downstream import Reconstructor, train
from experiments.tumor_task import Confusion, PatchViews, create_classifier, training_set
from monai_iste.errors import ConfigError, DataError
from monai_iste.networks import create_network
from monai_iste.transforms import degrade


def test_accuracy_and_f1_by_hand():
    confusion = Confusion()
    confusion.add(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    confusion.add(np.array([0, 0, 0]), np.array([1, 0, 0]))  # TP 2, FP 1, FN 2, TN 3
    assert confusion.as_dict() == {"accuracy": pytest.approx(62.5), "f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 2))}
    nothing = Confusion()
    nothing.add(np.zeros(4, int), np.zeros(4, int))
    assert nothing.as_dict() == {"accuracy": 100, "f1": 0}
    with pytest.raises(DataError, match="at least one patch"):
        Confusion().as_dict()


def patches(count: int) -> list[dict]:
    """Benign patches are bright, malignant ones dark."""
    return [
        {"image": np.ascontiguousarray((tissue(i, (96, 96)) // (1 + i % 2)).transpose(2, 0, 1)), "label": i % 2}
        | {"name": f"patch-{i}"}
        for i in range(count)
    ]


def test_what_each_setting_runs_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tumor_task, "BLOCK", 2)
    items, maker = patches(3), Reconstructor("bicubic", scale=2)
    blocks = {s: list(PatchViews(s, maker, tmp_path).blocks(items)) for s in ("original", "low_resolution", "bicubic")}
    assert all([labels.tolist() for _, labels in found] == [[0, 1], [0]] for found in blocks.values())
    images = {setting: np.concatenate([block for block, _ in found]) for setting, found in blocks.items()}
    assert np.array_equal(images["original"], np.stack([item["image"] for item in items]))
    assert images["low_resolution"].shape == (3, 3, 48, 48)
    for i, item in enumerate(items):
        assert np.array_equal(images["low_resolution"][i], degrade(item["image"], (48, 48), "blur_bicubic").numpy())
        assert np.array_equal(images["bicubic"][i], maker(item["image"])[2])
    assert len(list(tmp_path.rglob("*.npy"))) == 2  # reconstructions alone are kept

    monkeypatch.setattr(maker, "_preprocessing", lambda item: pytest.fail("made again"))
    kept = PatchViews("bicubic", maker, tmp_path)
    assert np.array_equal(np.concatenate([block for block, _ in kept.blocks(items)]), images["bicubic"])


class Brightness(nn.Module):
    """A classifier that needs no training: dark patches are tumors."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.min() >= 0
        assert image.max() <= 1
        dark = 0.45 - image.mean((1, 2, 3))
        return torch.stack([-dark, dark], 1)


def use_stand_ins(monkeypatch, no_training, valid=1):
    """Few patches, a classifier that needs no training, and a function in the place of the training."""
    lists = {"train": patches(6), "valid": patches(valid), "test": patches(5)}
    monkeypatch.setattr(classification, "pcam_datalists", lambda root, crops, side: lists)
    monkeypatch.setattr(classification, "create_classifier", lambda name, seed: Brightness())
    monkeypatch.setattr(classification, "train", no_training)


def finish(folder):
    """Write empty weights, as the end of a training does, and return their path."""
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_bytes(b"")
    return folder / "weights.safetensors"


def test_table4(tmp_path, monkeypatch):
    def no_training(network, make_dataset, loss, folder, **options):
        items = make_dataset().data
        assert len(items) == 6
        assert options["validation"].score(network) == 50  # of a single patch, benign
        return finish(folder)

    use_stand_ins(monkeypatch, no_training)
    options = {"output_dir": tmp_path / "out", "network": "resnet18", "steps": 3, "device": "cpu"}
    table4(tmp_path, sr=["iste_light"], **options)
    rows = {row["setting"]: row for row in table(tmp_path / "out" / "table4.csv")}
    assert list(rows) == ["original", "low_resolution", "bicubic", "iste_light"]
    assert all((row["accuracy"], row["f1"], row["images"]) == ("100.0", "1.0", "5") for row in rows.values())
    assert (rows["iste_light"]["reported_accuracy"], rows["low_resolution"]["reported_f1"]) == ("81.15", "0.2929")
    assert (rows["iste_light"]["label"], rows["low_resolution"]["label"]) == ("ISTE", "Low resolution")
    report = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert report["settings"]["iste_light"]["weights"]["file"] == "iste_light.safetensors"
    assert (report["training"]["steps"], report["seeds"], report["dataset"]["test"]["count"]) == (3, [0], 5)
    text = (tmp_path / "out" / "table4.md").read_text()
    assert "not PCam's patches" in text
    assert "| ISTE | iste_light | 100.00 | 1.0000 | 81.15 | 0.7816 |" in text
    assert r"accuracy, \%" in (tmp_path / "out" / "table4.tex").read_text()

    file = tmp_path / "liif.pt"
    torch.save(create_network("liif_light").state_dict(), file)
    monkeypatch.setattr(classification, "classify", lambda network, blocks, device: {"accuracy": 1.0, "f1": 0.0})
    table4(tmp_path, sr=[f"liif_light={file}", "iste_light"], **options)  # only the new row is evaluated
    rows = {row["setting"]: row["accuracy"] for row in table(tmp_path / "out" / "table4.csv")}
    assert rows == dict.fromkeys(("original", "low_resolution", "bicubic", "iste_light"), "100.0") | {
        "liif_light": "1.0"
    }


def test_the_learning_curve(tmp_path, monkeypatch):
    """Trainings on fewer patches, spread evenly, scored on originals; nothing is done twice."""
    trained = []

    def no_training(network, make_dataset, loss, folder, **options):
        trained.append((folder.name, [item["name"] for item in make_dataset().data]))
        network.count = len(trained[-1][1])
        return finish(folder)

    def accuracy(network, blocks, device):
        return {"accuracy": 50.0 + network.count + len(trained), "f1": 0.5}

    use_stand_ins(monkeypatch, no_training, valid=2)
    monkeypatch.setattr(classification, "classify", accuracy)
    options = {"output_dir": tmp_path / "out", "network": "resnet10", "device": "cpu", "sr": ["iste_light"], "seeds": 2}
    table4(tmp_path, **options, curve="4,2,100")  # 100 is more than there are
    assert trained[2:] == [
        *((f"resnet10-2-patches-seed{seed}", ["patch-0", "patch-3"]) for seed in range(2)),
        *((f"resnet10-4-patches-seed{seed}", ["patch-0", "patch-1", "patch-3", "patch-4"]) for seed in range(2)),
    ]
    rows = table(tmp_path / "out" / "learning-curve.csv")
    assert [(row["training_patches"], row["seeds"], row["accuracy"]) for row in rows] == [
        ("2", "2", "55.5"),  # 50 + 2 + 3 and 50 + 2 + 4
        ("4", "2", "59.5"),
        ("6", "2", "57.5"),
    ]
    assert {row["more_frequent_class"] for row in rows} == {"60.0"}  # 3 of 5 are benign
    assert (tmp_path / "out" / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert report["learning_curve"] == {"2": [55.0, 56.0], "4": [59.0, 60.0], "6": [57.0, 58.0]}
    assert "Always naming the more frequent class has an accuracy of 60.00 %" in (
        (tmp_path / "out" / "table4.md").read_text()
    )


@pytest.mark.parametrize("curve", ["", "1", "10;20", "ten"])
def test_numbers_of_patches_that_make_no_curve(curve, tmp_path):
    with pytest.raises(ConfigError, match="--curve N,N"):
        table4(tmp_path, network="resnet10", device="cpu", curve=curve)


def test_mean_recall_is_half_for_a_network_that_names_one_class():
    confusion = Confusion()
    confusion.add(np.zeros(10, int), np.array([1] * 2 + [0] * 8))
    assert confusion.mean_recall == 50
    assert confusion.as_dict()["accuracy"] == 80
    assert tumor_task.validate(Brightness(), patches(7), "cpu") == 100


def test_patches_of_another_side(tmp_path):
    from PIL import Image

    from experiments.datasets import pcam_datalists

    for split in ("train", "val", "test"):
        Image.fromarray(tissue(0, (200, 330))).save(tmp_path / f"{split}.png")
    lines = ["file,label,split", *(f"{split}.png,benign,{split}" for split in ("train", "val", "test"))]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    lists = pcam_datalists(tmp_path, crops=16, side=160)
    assert [item["image"].shape for item in lists["train"]] == [(3, 160, 160)] * 2


def test_mistakes_are_reported_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="a network: resnet50, resnet18, resnet10, got 'resnet34'"):
        table4(tmp_path / "none", network="resnet34", device="cpu")
    with pytest.raises(ConfigError, match="every network once"):
        table4(tmp_path / "none", sr=["iste_light", "iste_light"], network="resnet18", device="cpu")
    with pytest.raises(DataError, match="none"):
        table4(tmp_path / "none", network="resnet18", device="cpu")


def test_the_classifier_learns_in_training_mode_and_takes_any_size(tmp_path):
    network = create_classifier("resnet18", seed=0)
    same = create_classifier("resnet18", seed=0)
    assert torch.equal(network.state_dict()["fc.weight"], same.state_dict()["fc.weight"])
    items = [{**item, "image": item["image"][:, :32, :32]} for item in patches(8)]
    options = {"steps": 1, "batch_size": 4, "learning_rate": 1e-3, "seed": 0}
    before = network.state_dict()["bn1.running_mean"].clone()
    train(network, lambda: training_set(items), nn.CrossEntropyLoss(), tmp_path, **options)
    assert not torch.equal(before, network.state_dict()["bn1.running_mean"])
    assert network(torch.zeros(2, 3, 48, 40)).shape == (2, 2)


def test_the_test_set_is_thinned_evenly():
    assert classification._evenly_spaced([{"i": i} for i in range(10)], 4) == [{"i": i} for i in (0, 2, 5, 7)]
    assert classification._evenly_spaced([{"i": 0}], 4) == [{"i": 0}]


def test_without_patience_the_training_takes_all_steps(tmp_path, monkeypatch):
    ends = []

    def no_training(network, make_dataset, loss, folder, **options):
        ends.append((options["validation"], options["steps"], options["precision"]))
        return finish(folder)

    use_stand_ins(monkeypatch, no_training)
    options = {"network": "resnet18", "steps": 1500, "device": "cpu", "sr": ["iste_light"]}
    table4(tmp_path, output_dir=tmp_path / "all", patience=0, precision="bf16", **options)
    table4(tmp_path, output_dir=tmp_path / "best", patience=5, **options)
    assert ends[0] == (None, 1500, "bf16")
    assert ends[1][0].patience == 5
    assert ends[1][2] == "fp32"
    texts = [(tmp_path / name / "table4.md").read_text() for name in ("all", "best")]
    assert "trained for 1,500 steps of 64 patches" in texts[0]
    assert "until its validation stops rising, at most 1,500 steps of 64 patches" in texts[1]


def test_other_precisions_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="a precision: fp32, bf16, got 'fp16'"):
        table4(tmp_path / "none", output_dir=tmp_path / "out", precision="fp16", device="cpu")
    assert not (tmp_path / "out").exists()
