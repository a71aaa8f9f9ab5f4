"""Table III on synthetic glands: class maps, inputs of each U-Net, contents of the table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_files import table, tissue
from PIL import Image
from torch import nn

from experiments import segmentation
from experiments.datasets import read_instances
from experiments.downstream import Reconstructor, train
from experiments.gland_task import GlandTask, class_map, label_instances, write_instances
from experiments.segmentation import table3
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.image_reader import read_rgb


def literal_class_map(labels: np.ndarray, border: int) -> np.ndarray:
    result = np.zeros(labels.shape, int)
    for y, x in zip(*np.nonzero(labels), strict=True):
        window = labels[max(0, y - border) : y + border + 1, max(0, x - border) : x + border + 1]
        result[y, x] = 2 if (window != labels[y, x]).any() else 1
    return result


@pytest.mark.parametrize("border", [0, 1, 2])
def test_classes_are_those_of_the_loops(border):
    labels = np.zeros((20, 24), int)
    labels[2:12, 0:11], labels[2:14, 11:20], labels[15:, 5:22] = 9, 4, 2
    assert np.array_equal(class_map(labels, border), literal_class_map(labels, border))


def test_touching_glands_stay_apart_with_a_border_and_merge_without():
    labels = np.zeros((40, 60), int)
    labels[5:35, 5:30], labels[5:35, 30:55] = 1, 2
    assert label_instances(class_map(labels)).max() == 1
    apart = label_instances(class_map(labels, 3), border=3, min_area=50)
    assert apart.max() == 2
    assert np.array_equal(apart > 0, labels > 0)
    assert np.array_equal(apart[:, :30] > 0, apart[:, :30] == apart[20, 15])


def test_small_holes_and_small_regions_go():
    classes = np.zeros((40, 60), int)
    classes[2:30, 2:30] = 1
    classes[10:12, 10:12] = 0  # 4 pixels of hole
    classes[15:27, 15:27] = 0  # 144 pixels of ground
    classes[35:38, 50:54] = 1  # 12 pixels of gland
    found = label_instances(classes, min_area=20)
    assert found.max() == 1
    assert (found[10, 10], found[20, 20], found[36, 51]) == (1, 0, 0)
    assert label_instances(classes, min_area=5).max() == 2


class Oracle(nn.Module):
    """A segmentation that needs no training: dark areas are glands."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dark = 0.5 - image.mean(1, keepdim=True)
        return torch.cat([-dark, dark], 1)


@pytest.fixture
def glands(tmp_path) -> Path:
    """Five tiles with two dark glands each, in the layout of the stand-in."""
    folder = tmp_path / "glas"
    folder.mkdir()
    lines = ["image,mask,split"]
    for i, split in enumerate(("train", "train", "val", "test", "test")):
        labels = np.zeros((50, 66), np.uint8)
        labels[8:24, 6 + i : 26 + i], labels[28:46, 34 : 58 - i] = 1, 2
        image = np.where(labels[..., None] > 0, tissue(i) // 3, tissue(i))
        Image.fromarray(image).save(folder / f"tile_{i}.png")
        Image.fromarray(labels).save(folder / f"tile_{i}_mask.png")
        lines.append(f"tile_{i}.png,tile_{i}_mask.png,{split}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_windows_cover_the_image_and_scores_are_of_the_challenge(glands, tmp_path):
    items = [{"image": glands / "tile_0.png", "mask": glands / "tile_0_mask.png", "name": "tile_0"}]
    task = GlandTask(crop=32, min_area=20)
    assert task.score(Oracle(), items, tmp_path) == {"f1": 1, "object_dice": 1, "object_hausdorff": 0}
    found = read_instances(tmp_path / "tile_0.png")
    assert np.array_equal(found, read_instances(glands / "tile_0_mask.png"))
    # What is there is scored, whatever the network says: here one of the two glands.
    (tmp_path / "tile_0.png").unlink()
    write_instances(tmp_path / "tile_0.png", np.where(found == 1, 1, 0))
    assert task.score(Oracle(), items, tmp_path)["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("largest", "mode"), [(0, "L"), (255, "L"), (256, "I;16"), (65_535, "I;16")])
def test_label_maps_are_read_back(largest, mode, tmp_path):
    labels = np.array([[0, largest, 1], [largest, 0, 0]])
    write_instances(tmp_path / "map.png", labels)
    assert np.array_equal(read_instances(tmp_path / "map.png"), labels)
    assert Image.open(tmp_path / "map.png").mode == mode
    with pytest.raises(DataError, match=r"65,535 objects in an image, got 65,536"):
        write_instances(tmp_path / "other.png", np.array([[65_536]]))
    assert not (tmp_path / "other.png").exists()


def test_table3(glands, tmp_path, monkeypatch):
    """Which images each U-Net sees, the scores of a known segmentation, the numbers beside them, and a second run."""
    seen: dict[str, set[str]] = {}
    scored: list[tuple[str, str]] = []

    class Recording(GlandTask):
        def network(self, seed):
            return Oracle()

        def score(self, network, items, folder):
            scored.append((network.trained_on, Path(items[0]["image"]).parent.name))
            return super().score(network, items, folder)

    def no_training(network, make_dataset, loss, folder, **options):
        network.trained_on = folder.name
        seen[folder.name] = {Path(item["image"]).parent.name for item in make_dataset.args[0]}
        assert {item["name"] for item in make_dataset.args[0]} == {"tile_0", "tile_1"}
        assert {item["name"] for item in options["validation"].score.keywords["items"]} == {"tile_2"}
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(folder.name.encode())
        return folder / "weights.safetensors"

    monkeypatch.setattr(segmentation, "GlandTask", Recording)
    monkeypatch.setattr(segmentation, "train", no_training)
    options = {"output_dir": tmp_path / "out", "crop": 32, "min_area": 20, "steps": 3, "device": "cpu"}
    table3(glands, **options)
    iste, bicubic = Reconstructor(DEFAULT_PRESET, scale=4).name, Reconstructor("bicubic", scale=4).name
    assert seen == {"unet-original-seed0": {"glas"}, f"unet-{iste}-seed0": {iste}}
    assert set(scored) == {
        ("unet-original-seed0", bicubic),
        ("unet-original-seed0", iste),
        ("unet-original-seed0", "glas"),
        (f"unet-{iste}-seed0", "glas"),
    }

    rows = {row["setting"]: row for row in table(tmp_path / "out" / "table3.csv")}
    assert list(rows) == ["bicubic", "hr_unet", "sisr", "original"]
    assert {row["test_set"] for row in rows.values()} == {"testA"}  # the stand-in has no test B
    original = rows["original"]
    assert (original["trained_on"], original["run_on"], original["images"]) == ("original", "original", "2")
    # Originals are cropped to 48 x 64 as the reconstructions are, and found exactly.
    assert (float(original["f1"]), float(original["object_dice"]), float(original["object_hausdorff"])) == (1, 1, 0)
    assert (original["reported_f1"], original["reported_object_hausdorff"]) == ("0.95", "66.7")
    assert (rows["bicubic"]["reported_f1"], rows["hr_unet"]["reported_object_dice"]) == ("0.71", "0.89")
    assert float(rows["bicubic"]["object_dice"]) < 1
    text = (tmp_path / "out" / "table3.md").read_text()
    assert "testA, 2 images:" in text
    assert "not the challenge's sets" in text
    assert "| Original |  | original | original | 1.000 | 1.000 | 0.00 | 0.950 | 0.960 | 66.70 |" in text
    assert r"\label{tab:table3}" in (tmp_path / "out" / "table3.tex").read_text()
    for run_on, trained_on in (("original", "original"), (iste, "original"), ("original", iste)):
        maps = tmp_path / "out" / f"unet-{trained_on}-seed0" / run_on
        assert sorted(path.name for path in maps.iterdir()) == ["tile_3.png", "tile_4.png"]
        truth = read_instances(glands / "tile_3_mask.png")[:48, :64]
        same = np.array_equal(read_instances(maps / "tile_3.png"), truth)
        assert same == (run_on != iste)  # a reconstruction of this coarseness has other edges
    report = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (
        report["reconstructions"][DEFAULT_PRESET]["weights"]["sha256"]
        == Reconstructor(DEFAULT_PRESET).weights["sha256"]
    )
    assert report["dataset"]["testA"]["count"] == 2
    assert report["seeds"] == [0]

    scored.clear()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    assert len(made) == 2 + 5  # bicubic for the tests alone
    table3(glands, **options, seeds=2)  # the first seed's scores and all images are there already
    assert {name for name, _ in scored} == {"unet-original-seed1", f"unet-{iste}-seed1"}
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    assert {row["f1_std"] for row in table(tmp_path / "out" / "table3.csv")} == {"0.0"}
    assert "1.000 ± 0.000" in (tmp_path / "out" / "table3.md").read_text()
    with pytest.raises(ConfigError, match=r"training .*'steps': 4"):
        table3(glands, **{**options, "steps": 4})

    seen.clear()
    table3(glands, **options, weights=[DEFAULT_PRESET, "iste_light", "bicubic"])  # in the same folder
    light = Reconstructor("iste_light", scale=4).name
    assert set(seen) == {"unet-original-seed0", *(f"unet-{kind}-seed0" for kind in (iste, light, "bicubic"))}
    found = [(row["setting"], row["network"]) for row in table(tmp_path / "out" / "table3.csv")]
    assert found == [
        ("bicubic", ""),
        *((setting, name) for name in (DEFAULT_PRESET, "iste_light") for setting in ("hr_unet", "sisr")),
        ("hr_unet", "bicubic"),
        ("original", ""),
    ]
    rows = {(row["setting"], row["network"]): row for row in table(tmp_path / "out" / "table3.csv")}
    assert rows["hr_unet", "bicubic"]["reported_f1"] == ""  # the paper's is of ISTE
    assert rows["hr_unet", "iste_light"]["reported_f1"] == "0.84"
    with pytest.raises(ConfigError, match="every network once"):
        table3(glands, **options, weights=["bicubic", "bicubic", "bicubic"])


def test_without_patience_the_unet_is_trained_for_all_steps(glands, tmp_path, monkeypatch):
    def no_training(network, make_dataset, loss, folder, **options):
        assert options["validation"] is None
        network.trained_on = folder.name
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(folder.name.encode())
        return folder / "weights.safetensors"

    monkeypatch.setattr(GlandTask, "network", lambda self, seed: Oracle())
    monkeypatch.setattr(segmentation, "train", no_training)
    options = {"output_dir": tmp_path / "out", "crop": 32, "min_area": 20, "device": "cpu", "weights": ["bicubic"]}
    table3(glands, steps=1200, patience=0, **options)
    assert "trained for 1,200 steps." in (tmp_path / "out" / "table3.md").read_text()
    report = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {unet["validation"] for unet in report["unets"].values()} == {None}


def test_the_table_states_the_limits_of_its_numbers():
    for count, released in ((60, False), (60, True), (59, True)):
        text = " ".join(segmentation._limits({"train": 85, "testA": count, "testB": 20}, released))
        assert ("not the challenge's sets (train 85, testA 59, testB 20 images)" in text) == (count != 60)
        assert ("have seen tiles of these test sets" in text) == (released and count == 60)


def test_a_reconstruction_is_of_its_original(glands, tmp_path):
    items = [{"image": str(glands / f"tile_{i}.png"), "name": f"tile_{i}"} for i in range(2)]
    made = segmentation._reconstruct(items, Reconstructor("bicubic", scale=2), tmp_path / "images")
    for item, again in zip(items, made, strict=True):
        original, pixels = read_rgb(item["image"]).astype(float), read_rgb(again["image"])
        assert np.abs(original[:, : pixels.shape[1], : pixels.shape[2]] - pixels).mean() < 12


@pytest.mark.parametrize("border", [0, 2])
def test_the_unet_learns_glands(glands, tmp_path, border):
    """Dark glands are found after 20 steps on other tiles."""
    items = [
        {"image": glands / f"tile_{i}.png", "mask": glands / f"tile_{i}_mask.png", "name": f"tile_{i}"}
        for i in range(5)
    ]
    task = GlandTask(width=4, crop=32, border=border, min_area=30)
    network = task.network(seed=0)
    options = {"steps": 20, "batch_size": 4, "learning_rate": 2e-2, "seed": 0}
    before = task.score(network, items[3:], tmp_path / "before")["object_dice"]
    network.train()
    train(network, lambda: task.dataset(items[:3]), task.loss(), tmp_path, **options)
    after = task.score(network, items[3:], tmp_path / "after")["object_dice"]
    assert after > max(0.8, before)


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="a crop of a multiple of 16"):
        GlandTask(crop=100)
