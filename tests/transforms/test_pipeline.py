"""The whole training chain over MONAI's CacheDataset and DataLoader: batches collate, and nothing is flipped."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandRotate90d, ScaleIntensityRanged
from PIL import Image

from monai_iste.data import sample_datalists
from monai_iste.networks.grid_sampling import bicubic_at
from monai_iste.transforms import (
    ArbitraryScaleCropd,
    BlurDegradationd,
    LoadRGB,
    LoadRGBd,
    RandArbitraryScaleCropd,
    RandSampleCoordinatesd,
)

TISSUE = sample_datalists()[0][0]["image"]


def flips():
    return [
        RandFlipd("image", prob=0.5, spatial_axis=0),
        RandFlipd("image", prob=0.5, spatial_axis=1),
        RandRotate90d("image", prob=0.5, max_k=1),
    ]


def chain(points=2304, lr_size=48):
    return Compose(
        [
            LoadRGBd("image"),
            RandArbitraryScaleCropd("image", lr_size=lr_size),
            *flips(),
            BlurDegradationd(),
            RandSampleCoordinatesd(num_points=points),
            ScaleIntensityRanged(("image", "label"), 0, 255, 0, 1),
            EnsureTyped(("image", "label"), track_meta=False),
        ]
    )


@pytest.fixture
def files(tmp_path):
    Image.fromarray(TISSUE[:, :, :260].transpose(1, 2, 0)).save(tmp_path / "a.png")
    return [{"image": str(tmp_path / "a.png"), "name": "a"}, {"image": TISSUE, "name": "b"}]


def loader(items, seed, workers=0, **options):
    """MONAI's DataLoader seeds the transforms from its generator, with or without workers."""
    dataset = CacheDataset(items * 4, chain(**options), progress=False, copy_cache=False)
    generator = torch.Generator().manual_seed(seed)
    batch_size = 1 if options.get("points", 1) is None else 4
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers, generator=generator)


def test_batches_collate_over_different_scales(files):
    batches = list(loader(files, 0))
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].shape == (4, 3, 48, 48)
        assert batch["label"].shape == (4, 2304, 3)
        assert batch["coord"].shape == (4, 2304, 2)
        assert batch["cell"].shape == (4, 2)
        assert all(type(batch[k]) is torch.Tensor for k in ("image", "label", "coord", "cell"))
        assert all(batch[k].dtype == torch.float32 for k in ("image", "label", "coord", "cell"))
        assert 0 <= batch["image"].min() < batch["image"].max() <= 1
        assert 0 <= batch["label"].min() < batch["label"].max() <= 1
        assert len(batch["scale"].unique()) == 4
        torch.testing.assert_close(batch["cell"], (2 / batch["scale"]).float()[:, None].expand(4, 2))


def test_colors_agree_with_the_low_resolution_image_at_their_coordinates(files):
    """A flip or transpose between image, label and coordinates would leave no correlation to speak of."""
    for batch in loader(files, 1):
        upsampled = bicubic_at(batch["image"], batch["coord"])
        for sample in range(4):
            pair = torch.stack([upsampled[sample].flatten(), batch["label"][sample].flatten()])
            assert torch.corrcoef(pair)[0, 1] > 0.85
            wrong = bicubic_at(batch["image"][sample : sample + 1], batch["coord"][sample : sample + 1].flip(-1))
            pair = torch.stack([wrong.flatten(), batch["label"][sample].flatten()])
            assert torch.corrcoef(pair)[0, 1] < 0.8


def test_the_pixel_at_a_coordinate_is_the_color():
    """After every flip: the full-resolution label, indexed by hand, is what is sampled from it."""
    before = Compose([LoadRGBd("image"), RandArbitraryScaleCropd("image"), *flips(), BlurDegradationd()])
    sample = RandSampleCoordinatesd(num_points=500)
    for seed in range(8):
        whole = before.set_random_state(seed)({"image": TISSUE})
        drawn = sample.set_random_state(seed)(whole)
        rows, columns = ((drawn["coord"] + 1) * whole["label"].shape[-1] / 2 - 0.5).round().long().T
        assert torch.equal(drawn["label"], whole["label"][:, rows, columns].T)
        grid = drawn["coord"].flip(-1)[None, None]
        nearest = F.grid_sample(whole["label"][None].float(), grid, mode="nearest", align_corners=False)
        assert torch.equal(drawn["label"].float(), nearest[0, :, 0].T)


def test_flips_and_one_quarter_turn_reach_all_eight_orientations():
    transform = Compose(flips()).set_random_state(0)
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    seen = {np.asarray(transform({"image": image})["image"]).tobytes() for _ in range(200)}
    turns = [np.rot90(image, k, (1, 2)) for k in range(4)]
    assert seen == {a.tobytes() for turn in turns for a in (turn, turn[:, ::-1])}


@pytest.mark.parametrize(("points", "workers"), [(256, 0), (None, 0), (256, 2)])
def test_the_same_seed_gives_the_same_batches(files, points, workers):
    first, again, other = (list(loader(files, seed, workers, points=points, lr_size=16)) for seed in (5, 5, 6))
    for a, b, c in zip(first, again, other, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("image", "label", "coord", "cell", "scale"))
        assert not torch.equal(a["image"], c["image"])


def test_worker_processes_draw_different_crops(files):
    batches = loader([files[1]], 0, workers=2, points=64, lr_size=16)
    assert len(torch.cat([batch["scale"] for batch in batches]).unique()) > 2


def test_the_cache_is_not_written_to(files):
    dataset = CacheDataset([files[1]], chain(), progress=False, copy_cache=False)
    for _ in range(5):
        dataset[0]
    np.testing.assert_array_equal(dataset._cache[0]["image"], TISSUE)


def test_the_evaluation_chain_keeps_whole_images():
    transform = Compose([LoadRGBd("image"), ArbitraryScaleCropd("image", max_size=150), BlurDegradationd()])
    for scale in (1.0, 2.0, 3.7, 7.3):
        data = transform({"image": TISSUE, "scale": scale})
        h, w = data["image"].shape[1:]
        assert data["label"].shape == (3, round(h * scale), round(w * scale))
        assert 150 - scale < data["label"].shape[1] <= 150
    assert np.shares_memory(LoadRGB()(TISSUE), TISSUE)
