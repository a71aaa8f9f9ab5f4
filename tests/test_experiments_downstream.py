"""Tables III and IV on synthetic tissue: what each setting is trained and run on, resuming, what the tables hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd
from PIL import Image
from torch import nn

from monai_iste.data.benchmarks import read_instances
from monai_iste.data.io import read_rgb
from monai_iste.errors import CheckpointError, ConfigError, DataError, ScaleError
from monai_iste.experiments import classification, downstream, segmentation, tumour_task
from monai_iste.experiments.classification import table4
from monai_iste.experiments.downstream import Reconstructor, claim, train
from monai_iste.experiments.gland_task import GlandTask, class_map, instances, write_instances
from monai_iste.experiments.segmentation import SETTINGS, table3
from monai_iste.experiments.setting_tables import scores_of, write_setting_tables
from monai_iste.experiments.tables import Metric
from monai_iste.experiments.tumour_task import Confusion, PatchViews, create_classifier, training_set
from monai_iste.networks import create_network, released_weights
from monai_iste.transforms import degrade


def tissue(seed: int, shape: tuple[int, int] = (50, 66)) -> np.ndarray:
    """Pink ground with some texture, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 12, (*shape, 3))
    return np.clip(np.array([200, 120, 160]) + noise, 0, 255).astype(np.uint8)


# --- reconstructions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["bicubic", "iste_light"])
@pytest.mark.parametrize("scale", [2.0, 3.7])
def test_images_are_reduced_by_the_protocol_and_magnified_again(preset, scale):
    image = tissue(0).transpose(2, 0, 1)
    high, low, again = Reconstructor(preset, scale=scale)(image)
    h, w = (int(n / scale + 1e-9) for n in image.shape[1:])
    assert np.array_equal(high, image[:, : round(h * scale), : round(w * scale)])
    assert np.array_equal(low, degrade(high, (h, w), "blur_bicubic").numpy())
    assert again.shape == high.shape
    assert again.dtype == np.uint8
    if preset == "bicubic":
        rows = np.asarray(Image.fromarray(low.transpose(1, 2, 0)).resize(high.shape[:0:-1], Image.Resampling.BICUBIC))
        assert np.abs(again.astype(int) - rows.transpose(2, 0, 1)).max() <= 1
    else:
        bicubic = Reconstructor("bicubic", scale=scale)(image)[2]
        assert 0 < np.abs(again.astype(float) - bicubic).mean() < 10


def test_networks_of_one_scale_are_built_for_it(tmp_path):
    file = tmp_path / "edsr.pt"
    torch.save(create_network("edsr_small", scale=4).state_dict(), file)
    high, low, again = Reconstructor("edsr_small", file, scale=4)(tissue(0).transpose(2, 0, 1))
    assert (high.shape, low.shape, again.shape) == ((3, 48, 64), (3, 12, 16), (3, 48, 64))
    with pytest.raises(CheckpointError):
        Reconstructor("edsr_small", file, scale=2)
    with pytest.raises(ScaleError):
        Reconstructor("edsr_small", file, scale=2.5)


def test_what_differs_has_another_name(tmp_path):
    other = tmp_path / "other.pt"
    torch.save(create_network("iste_light").state_dict(), other)
    makers = [
        Reconstructor("iste_light", scale=2),
        Reconstructor("iste_light", scale=4),
        Reconstructor("iste_light", other, scale=2),
        Reconstructor("iste_light", scale=2, bicubic_residual=False),
        Reconstructor("bicubic", scale=2),
    ]
    assert len({maker.name for maker in makers}) == len(makers)
    assert Reconstructor("iste_light", released_weights("iste_light"), scale=2).name == makers[0].name
    with pytest.raises(ConfigError, match="which has none"):
        Reconstructor("liif_light")


# --- trainings ----------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def small_training(folder: Path, stop_at: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Twelve steps of a network with dropout on items that are flipped at random; optionally stopped at a step."""
    random = np.random.default_rng(0)
    items = [{"image": random.normal(size=(1, 4, 4)).astype(np.float32), "label": i % 2} for i in range(10)]
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))
    calls = 0

    def loss(pred: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Interrupted
        return nn.functional.cross_entropy(pred, label)

    train(
        network,
        lambda: Dataset(items, Compose([RandFlipd("image", prob=0.5, spatial_axis=1)])),
        loss,
        folder,
        steps=12,
        batch_size=4,
        learning_rate=1e-2,
        seed=seed,
    )
    return network.state_dict()


@pytest.fixture
def short_epochs(monkeypatch):
    monkeypatch.setattr(downstream, "_STEPS_PER_EPOCH", 5)


@pytest.mark.usefixtures("short_epochs")
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path):
    whole = small_training(tmp_path / "whole")
    with pytest.raises(Interrupted):
        small_training(tmp_path / "parts", stop_at=7)
    assert [path.name for path in (tmp_path / "parts").glob("*.pt")] == ["checkpoint_epoch=1.pt"]
    resumed = small_training(tmp_path / "parts", stop_at=11)  # 5 steps are done, so 10 remain and it ends
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    again = small_training(tmp_path / "parts", stop_at=1)  # done: nothing is trained, the weights are loaded
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not list((tmp_path / "parts").glob("*.pt"))
    other = small_training(tmp_path / "other", seed=1)
    assert not torch.equal(whole["1.weight"], other["1.weight"])


@pytest.mark.usefixtures("short_epochs")
def test_a_training_killed_before_its_weights_were_written_ends_when_repeated(tmp_path, monkeypatch):
    def fail(state):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(downstream, "save", fail)
        with pytest.raises(Interrupted):
            small_training(tmp_path)
    state = small_training(tmp_path, stop_at=1)
    assert (tmp_path / "weights.safetensors").is_file()
    assert state["1.weight"].isfinite().all()


def test_a_folder_belongs_to_one_experiment(tmp_path):
    claim(tmp_path / "a", {"steps": 10, "sizes": (1, 2)})
    claim(tmp_path / "a", {"steps": 10, "sizes": (1, 2)})
    with pytest.raises(ConfigError, match=r"steps 20, which is 10 there\. Choose another --output-dir"):
        claim(tmp_path / "a", {"steps": 20, "sizes": (1, 2)})


# --- glands -------------------------------------------------------------------------------------------------------


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
    assert instances(class_map(labels)).max() == 1
    apart = instances(class_map(labels, 3), border=3, min_area=50)
    assert apart.max() == 2
    assert np.array_equal(apart > 0, labels > 0)
    assert np.array_equal(apart[:, :30] > 0, apart[:, :30] == apart[20, 15])


def test_small_holes_and_small_regions_go():
    classes = np.zeros((40, 60), int)
    classes[2:30, 2:30] = 1
    classes[10:12, 10:12] = 0  # 4 pixels of hole
    classes[15:27, 15:27] = 0  # 144 pixels of ground
    classes[35:38, 50:54] = 1  # 12 pixels of gland
    found = instances(classes, min_area=20)
    assert found.max() == 1
    assert (found[10, 10], found[20, 20], found[36, 51]) == (1, 0, 0)
    assert instances(classes, min_area=5).max() == 2


class Oracle(nn.Module):
    """A segmentation that needs no training: glands are what is dark."""

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


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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
        assert {item["name"] for item in make_dataset.args[0]} == {"tile_0", "tile_1", "tile_2"}
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(folder.name.encode())
        return folder / "weights.safetensors"

    monkeypatch.setattr(segmentation, "GlandTask", Recording)
    monkeypatch.setattr(segmentation, "train", no_training)
    options = {"output_dir": tmp_path / "out", "crop": 32, "min_area": 20, "steps": 3, "device": "cpu"}
    table3(glands, **options)
    iste, bicubic = Reconstructor("iste_light", scale=4).name, Reconstructor("bicubic", scale=4).name
    assert seen == {"unet-original-seed0": {"glas"}, "unet-reconstructed-seed0": {iste}}
    assert set(scored) == {
        ("unet-original-seed0", bicubic),
        ("unet-original-seed0", iste),
        ("unet-original-seed0", "glas"),
        ("unet-reconstructed-seed0", "glas"),
    }

    rows = {row["setting"]: row for row in table(tmp_path / "out" / "table3.csv")}
    assert list(rows) == list(SETTINGS)
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
    assert "| Original | original | original | 1.000 | 1.000 | 0.00 | 0.950 | 0.960 | 66.70 |" in text
    assert r"\label{tab:table3}" in (tmp_path / "out" / "table3.tex").read_text()
    for setting, trained_on in (("original", "original"), ("sisr", "original"), ("hr_unet", "reconstructed")):
        maps = tmp_path / "out" / f"unet-{trained_on}-seed0" / setting
        assert sorted(path.name for path in maps.iterdir()) == ["tile_3.png", "tile_4.png"]
        truth = read_instances(glands / "tile_3_mask.png")[:48, :64]
        same = np.array_equal(read_instances(maps / "tile_3.png"), truth)
        assert same == (setting != "sisr")  # a reconstruction of this coarseness has other edges
    report = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert report["reconstruction"]["weights"]["sha256"] == Reconstructor("iste_light").weights["sha256"]
    assert report["dataset"]["testA"]["count"] == 2
    assert report["seeds"] == [0]

    scored.clear()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    assert len(made) == 2 + 5  # bicubic for the tests alone
    table3(glands, **options, seeds=2)  # the first seed's scores and all images are there already
    assert {name for name, _ in scored} == {"unet-original-seed1", "unet-reconstructed-seed1"}
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    assert {row["f1_std"] for row in table(tmp_path / "out" / "table3.csv")} == {"0.0"}
    assert "1.000 ± 0.000" in (tmp_path / "out" / "table3.md").read_text()
    with pytest.raises(ConfigError, match=r"training .*'steps': 4"):
        table3(glands, **{**options, "steps": 4})


def test_the_table_says_what_its_numbers_cannot_be_used_for():
    for count, released in ((60, False), (60, True), (59, True)):
        text = " ".join(segmentation._limits({"train": 85, "testA": count, "testB": 20}, released))
        assert ("not the challenge's sets (train 85, testA 59, testB 20 images)" in text) == (count != 60)
        assert ("have seen tiles of these test sets" in text) == (released and count == 60)


def test_measured_and_reported_stand_in_groups_of_their_own(tmp_path):
    metrics = {"f1": Metric("F1", "", 2, True), "distance": Metric("distance", "%", 1, False)}
    seeds = [{"f1": 0.5, "distance": 10.0}, {"f1": 0.75, "distance": 13.0}]
    row = {"label": "SISR", **scores_of(seeds, metrics, {"f1": 0.9})}
    assert row["distance_std"] == pytest.approx(4.5**0.5)  # deviations of 1.5 from the mean, over n - 1 = 1
    other = {"label": "HR", **scores_of(seeds[:1] * 2, metrics, None)}
    paths = write_setting_tables(
        [("A", [row]), ("B", [other])], {"label": "Setting"}, metrics, tmp_path, "t", "C.", ["N_1."]
    )
    assert [path.name for path in paths] == ["t.csv", "t.md", "t.tex"]
    text, latex = paths[1].read_text(), paths[2].read_text()
    assert "| Setting | F1 | distance, % | reported F1 | reported distance, % |" in text
    assert "| SISR | 0.62 ± 0.18 | 11.5 ± 2.1 | 0.90 | - |" in text
    assert "| HR | 0.50 ± 0.00 | 10.0 ± 0.0 | - | - |" in text
    assert "Higher is better, but for distance. N_1." in text
    assert r"\multicolumn{2}{c}{measured} & \multicolumn{2}{c}{reported} \\" in latex
    assert r"Setting & F1 & distance, \% & F1 & distance, \% \\" in latex
    assert [row["reported_f1"] for row in table(paths[0])] == ["0.9", ""]
    assert [float(row["f1"]) for row in table(paths[0])] == [0.625, 0.5]
    unprinted = write_setting_tables([("B", [other])], {"label": "Setting"}, metrics, tmp_path, "t", "C.", [])
    assert "eported" not in unprinted[1].read_text()


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


# --- tumours ------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(tumour_task, "BLOCK", 2)
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
    """A classifier that needs no training: tumours are what is dark."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.min() >= 0
        assert image.max() <= 1
        dark = 0.45 - image.mean((1, 2, 3))
        return torch.stack([-dark, dark], 1)


def test_table4(tmp_path, monkeypatch):
    def no_training(network, make_dataset, loss, folder, **options):
        items = make_dataset().data
        assert len(items) == 6
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(b"")
        return folder / "weights.safetensors"

    lists = {"train": patches(6), "valid": patches(1), "test": patches(5)}
    monkeypatch.setattr(classification, "pcam_datalists", lambda root, crops: lists)
    monkeypatch.setattr(classification, "create_classifier", lambda name, seed: Brightness())
    monkeypatch.setattr(classification, "train", no_training)
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


def test_mistakes_are_told_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="a network: resnet50, resnet18, got 'resnet34'"):
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
    assert classification._spread([{"i": i} for i in range(10)], 4) == [{"i": i} for i in (0, 2, 5, 7)]
    assert classification._spread([{"i": 0}], 4) == [{"i": 0}]
