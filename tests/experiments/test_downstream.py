"""Common parts of Tables III and IV: reconstructions, resumable trainings, and a table of settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_files import table, tissue
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd
from PIL import Image
from torch import nn

from experiments import downstream
from experiments.downstream import Reconstructor, claim_folder, train
from experiments.setting_tables import scores_of, write_setting_tables
from experiments.tables import Metric
from monai_iste.errors import CheckpointError, ConfigError, ScaleError
from monai_iste.networks import create_network, released_weights
from monai_iste.transforms import degrade

# --- reconstructions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["bicubic", "iste_light"])
@pytest.mark.parametrize("scale", [2.0, 3.7])
def test_images_are_reduced_by_the_protocol_and_upscaled_again(preset, scale):
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


# --- trainings --------------------------------------------------------------------------------------------------------


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


class Recorder(nn.Linear):
    """Linear layer that notes the type of what it computes while it is trained."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = super().forward(x)
        if self.training:
            self.seen = result.dtype
        return result


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_of_forward_passes(tmp_path, precision, expected):
    items = [{"image": np.full((1, 4, 4), i, np.float32), "label": i % 2} for i in range(4)]
    network, losses = nn.Sequential(nn.Flatten(), Recorder(16, 2)), []

    def loss(pred: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        losses.append(pred.dtype)
        return nn.functional.cross_entropy(pred, label)

    options = {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "seed": 0, "precision": precision}
    train(network, lambda: Dataset(items, Compose([])), loss, tmp_path, **options)
    assert network[1].seen == expected
    assert set(losses) == {torch.float32}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_other_precisions_are_refused(tmp_path):
    options = {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "seed": 0, "precision": "fp16"}
    with pytest.raises(ConfigError, match="a precision: fp32, bf16, got 'fp16'"):
        train(nn.Linear(1, 1), lambda: Dataset([]), nn.L1Loss(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_belongs_to_one_experiment(tmp_path):
    claim_folder(tmp_path / "a", {"steps": 10, "sizes": (1, 2)})
    claim_folder(tmp_path / "a", {"steps": 10, "sizes": (1, 2)})
    with pytest.raises(ConfigError, match=r"steps 20, which is 10 there\. Choose another --output-dir"):
        claim_folder(tmp_path / "a", {"steps": 20, "sizes": (1, 2)})


# --- tables -----------------------------------------------------------------------------------------------------------


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
