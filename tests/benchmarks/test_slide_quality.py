"""A slide against itself, reduced and upscaled by the command: scores over tissue, nuclei, and what is refused."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.metrics.regression import SSIMMetric
from PIL import Image
from reference import assert_teaches
from slide_files import picture, write_slide_file

from benchmarks import slide_quality as module
from benchmarks.slide_blocks import blocks_of, score_block, summary
from benchmarks.slide_quality import reduced, slide_quality
from experiments.nucleus_task import agreement, centroids, find_nuclei
from monai_iste.errors import CheckpointError, ConfigError, DataError, ShapeError
from monai_iste.inferers import Region
from monai_iste.io.files import checksum
from monai_iste.networks import Bicubic
from monai_iste.slides import Slide
from monai_iste.slides.tissue import TissueMask


def test_reduction_is_an_area_mean():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    found = reduced(lambda region: pixels[region.slices], 4, Region(1, 2, 3, 5))
    for y in range(3):
        for x in range(5):
            part = pixels[4 * (1 + y) : 4 * (2 + y), 4 * (2 + x) : 4 * (3 + x)]
            expected = [math.floor(float(part[..., c].sum()) / 16 + 0.5) for c in range(3)]
            assert found[y, x].tolist() == expected


def test_scores_of_a_block_are_those_of_the_protocols():
    truth = picture(90, 84)
    image = (truth // 8 * 8).astype(np.uint8)
    part = Region(5, 5, 80, 74)
    row = score_block(image, truth, part, np.ones((80, 74), bool), 0.5)
    inner = [one[part.slices].astype(float) for one in (image, truth)]
    assert row["pixels"] == 80 * 74
    assert row["squared_error"] == pytest.approx(float(((inner[0] - inner[1]) ** 2).mean(2).sum()))
    tensors = [torch.from_numpy(one.transpose(2, 0, 1)[None] / 255.0) for one in (image, truth)]
    assert row["ssim"] / row["pixels"] == pytest.approx(float(SSIMMetric(spatial_dims=2)(*tensors)), abs=1e-5)
    nuclei = [centroids(find_nuclei(one[part.slices].transpose(2, 0, 1), 0.5), 0.5) for one in (truth, image)]
    assert row["there"] == len(nuclei[0]) > 5
    assert (row["there"], row["found"], row["matched"]) == tuple(agreement(*nuclei, 3.0))


def test_only_tissue_counts():
    truth = picture(80, 80)
    image = truth.copy()
    image[:, 40:] = 0
    tissue = np.zeros((80, 80), bool)
    tissue[:, :30] = True
    row = score_block(image, truth, Region(0, 0, 80, 80), tissue, 0.5)
    assert (row["pixels"], row["squared_error"], row["ssim"]) == (2400, 0, pytest.approx(2400))
    assert "there" not in row  # less than half a block


def test_blocks_without_tissue_and_the_border_are_left_out():
    samples = np.zeros((8, 8), np.uint8)
    samples[:, :2] = 255
    found = blocks_of(Region(0, 0, 256, 256), 64, TissueMask(samples, (64, 64)), 4)
    assert [block.region[:2] for block in found] == [(0, 0), (64, 0), (128, 0), (192, 0)]
    assert not found[0].tissue[:8].any()
    assert not found[0].tissue[:, :8].any()
    assert found[1].tissue[:, 8:40].all()  # full weight up to the center of the last sample
    assert not found[1].tissue[:, 50:].any()
    with pytest.raises(DataError) as caught:
        blocks_of(Region(0, 0, 64, 64), 64, TissueMask(samples * 0, (16, 16)), 4)
    assert_teaches(caught.value, "background")


def test_summaries():
    rows = [
        {"pixels": 100, "squared_error": 400.0, "ssim": 90.0, "there": 10, "found": 8, "matched": 8},
        {"pixels": 300, "squared_error": 0.0, "ssim": 290.0, "there": 20, "found": 22, "matched": 19},
        {"pixels": 10, "squared_error": 10.0, "ssim": 5.0},
        {"pixels": 10, "squared_error": 10.0, "ssim": 5.0, "there": 0, "found": 3, "matched": 0},
    ]
    found = summary(rows)
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / 1.0))
    assert found["ssim"] == pytest.approx(390 / 420)
    assert (found["there"], found["found"], found["blocks"], found["blocks_counted"]) == (30, 30, 4, 2)
    assert found["count_error"] == pytest.approx((20 + 10) / 2)
    assert found["bias"] == 0
    assert found["f1"] == pytest.approx(2 * 27 / 60)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def slide(tmp_path):
    pixels = picture(203, 230)
    return write_slide_file(tmp_path / "slide.tif", pixels, mpp=0.25, levels=1)


def test_a_slide_is_reduced_upscaled_and_compared(slide, tmp_path, monkeypatch, capsys):
    folder, liif = tmp_path / "out", tmp_path / "liif.pth"
    liif.write_text("weights")
    monkeypatch.setattr("benchmarks.contenders.published_liif", lambda path, device: Bicubic().eval())
    options = {"output_dir": folder, "scale": 2, "region": "3,5,200,220", "block": 128}
    rows = slide_quality(slide, **options, liif=liif, liif_blocks=1)
    with Slide(folder / "low.ome.tif") as low, Slide(folder / "high.ome.tif") as high, Slide(slide) as source:
        assert low.size == (100, 110)
        assert high.size == (200, 220)
        assert (low.mpp, high.mpp) == (pytest.approx((0.5, 0.5)), pytest.approx((0.25, 0.25)))
        whole = Region(0, 0, 200, 220)
        truth, image = source.read(Region(3, 5, 200, 220)), high.read(whole)
        small = torch.from_numpy(low.read(Region(0, 0, 100, 110))).permute(2, 0, 1)[None].float()
    interpolated = Bicubic()(small, 2.0)[0].clamp(0, 255).round().permute(1, 2, 0).numpy()
    inner = (slice(8, -8), slice(8, -8))
    for name, pixels in (("monai-iste", image), ("bicubic", interpolated)):
        own = [row for row in rows if row["method"] == name]
        assert [(row["top"], row["left"]) for row in own] == [(0, 0), (0, 128), (128, 0), (128, 128)]
        assert sum(row["pixels"] for row in own) == 184 * 204
        error = np.square(pixels[inner].astype(float) - truth[inner]).mean()
        tolerance = 1e-9 if name == "monai-iste" else 1e-3  # windows round differently
        assert summary(own)["psnr"] == pytest.approx(10 * math.log10(255**2 / error), rel=tolerance)
    gains = [summary([row for row in rows if row["method"] == name])["psnr"] for name in ("monai-iste", "bicubic")]
    assert gains[0] > gains[1]
    peer = [row for row in rows if row["method"] == "LIIF"]
    assert len(peer) == 1  # the block with most tissue
    (twin,) = (
        row
        for row in rows
        if row["method"] == "bicubic" and (row["top"], row["left"]) == (peer[0]["top"], peer[0]["left"])
    )
    assert peer[0]["squared_error"] == twin["squared_error"]
    content = json.loads((folder / "scores.json").read_text())
    assert content["rows"] == rows
    assert content["measured"]["sha256"] == checksum(slide)
    assert str(tmp_path) not in json.dumps(content)
    with (folder / "scores.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [(row["area"], row["method"]) for row in table[:5]] == [
        ("all tissue", "bicubic"),
        ("all tissue", "monai-iste"),
        ("LIIF's blocks", "bicubic"),
        ("LIIF's blocks", "monai-iste"),
        ("LIIF's blocks", "LIIF"),
    ]
    assert "| all tissue | monai-iste | 4 |" in capsys.readouterr().out
    with Image.open(folder / "comparison.png") as drawn:
        assert drawn.width > 5 * 2 * 128

    monkeypatch.setattr(module, "score_block", None)  # scores are kept
    monkeypatch.setattr(module, "_reduce", None)
    assert slide_quality(slide, **options, liif=liif, liif_blocks=1) == rows
    with pytest.raises(ConfigError) as caught:
        slide_quality(slide, **{**options, "block": 64})
    assert_teaches(caught.value, "block 64", "--output-dir")


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"region": "0,0,300,100"}, ShapeError, "300"),
        ({"region": "a"}, ConfigError, "'a'"),
        ({"block": 1024}, ConfigError, "--block"),
        ({"weights": "none.pt"}, CheckpointError, "none.pt"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(slide, tmp_path, options, error, word):
    with pytest.raises(error) as caught:
        slide_quality(slide, output_dir=tmp_path / "out", **options)
    assert_teaches(caught.value, word)
    assert not (tmp_path / "out").exists()


def test_a_slide_without_a_pixel_size_is_refused(tmp_path):
    file = write_slide_file(tmp_path / "slide.tif", picture(100, 100), mpp=None, levels=1)
    with pytest.raises(DataError) as caught:
        slide_quality(file, output_dir=tmp_path / "out", block=64)
    assert_teaches(caught.value, "slide.tif")
