"""JPEG of the ground truth: equal to Pillow's files, at the given probability and qualities, with any block phase."""

import io

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image
from reference import assert_teaches

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError
from monai_iste.transforms import BlurDegradationd, RandJPEG, RandJPEGd

TISSUE = sample_datalists()[0][0]["image"][:, :80, :96].copy()
NOISE = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)


def test_pixels_are_those_of_a_file():
    jpeg = RandJPEG(prob=1, quality=(90, 90)).set_random_state(0)
    found = jpeg(TISSUE)
    down, right = jpeg.spec.phase
    around = np.pad(TISSUE, [(0, 0), (down, -(down + 80) % 16), (right, -(right + 96) % 16)], mode="symmetric")
    file = io.BytesIO()
    Image.fromarray(around.transpose(1, 2, 0)).save(file, "JPEG", quality=90, subsampling="4:2:0")
    decoded = np.asarray(Image.open(file)).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, decoded[:, down : down + 80, right : right + 96])


def test_color_becomes_smoother_than_brightness():
    def detail(image):
        parts = np.asarray(Image.fromarray(np.asarray(image).transpose(1, 2, 0)).convert("YCbCr"), float)
        return np.abs(np.diff(parts, axis=1)).mean((0, 1))

    before, after = detail(NOISE), detail(RandJPEG(prob=1, quality=(96, 96))(NOISE))
    assert after[0] > 0.8 * before[0]
    assert (after[1:] < 0.5 * before[1:]).all()


def test_draws_fill_the_range_at_the_given_probability():
    jpeg = RandJPEG(prob=0.4, quality=(70, 90)).set_random_state(0)
    qualities, phases = [], []
    for _ in range(1000):
        jpeg.randomize()
        qualities.append(jpeg.spec.quality)
        phases.append(jpeg.spec.phase)
    drawn = [quality for quality in qualities if quality is not None]
    assert len(drawn) / 1000 == pytest.approx(0.4, abs=0.05)
    assert (min(drawn), max(drawn)) == (70, 90)
    assert {row for row, _ in phases} == {column for _, column in phases} == set(range(16))


def test_it_stays_as_it_is_where_nothing_is_drawn():
    np.testing.assert_array_equal(RandJPEG(prob=0)(TISSUE), TISSUE)


def test_label_and_image_come_from_the_same_file():
    chain = Compose([RandJPEGd("image", prob=1), BlurDegradationd("image", preset="bicubic")]).set_random_state(1)
    data = chain({"image": TISSUE, "scale": 2.0})
    assert not np.array_equal(data["label"], TISSUE)
    again = BlurDegradationd("image", preset="bicubic")({"image": data["label"], "scale": 2.0})
    assert torch.equal(again["image"], data["image"])


def test_the_same_seed_gives_the_same_and_keys_change_alike():
    make = RandJPEG(prob=1).set_random_state
    first, other = make(2)(TISSUE), make(3)(TISSUE)
    assert not torch.equal(first, other)
    assert torch.equal(make(2)(TISSUE), first)
    before = TISSUE.copy()
    data = RandJPEGd(("a", "b"), prob=1).set_random_state(2)({"a": TISSUE, "b": torch.from_numpy(TISSUE), "n": 1})
    assert torch.equal(data["a"], first)
    assert torch.equal(data["b"], first)
    assert data["n"] == 1
    np.testing.assert_array_equal(TISSUE, before)


@pytest.mark.parametrize("options", [{"prob": 2}, {"quality": (0, 90)}, {"quality": (90, 80)}, {"quality": (90, 101)}])
def test_settings_that_cannot_be(options):
    for make in (RandJPEG, lambda **options: RandJPEGd("image", **options)):
        with pytest.raises(ConfigError) as caught:
            make(**options)
        assert_teaches(caught.value, str(next(iter(options.values()))))
