"""Lower magnification: Pillow's reduction of the whole image, at the given probability and factors, above a size."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from reference import assert_teaches

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError
from monai_iste.transforms import RandArbitraryScaleCropd, RandLowerMagnification, RandLowerMagnificationd

TISSUE = sample_datalists()[0][0]["image"]


def by(factor, **options):
    return RandLowerMagnification(prob=1, factor_range=(factor, factor), **{"min_size": 1, **options})


@pytest.mark.parametrize(("factor", "size"), [(1.5, (213, 341)), (2, (160, 256)), (1.37, (234, 374))])
def test_pixels_are_those_of_pillow(factor, size):
    picture = Image.fromarray(TISSUE.transpose(1, 2, 0)).resize(size[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(by(factor)(TISSUE), np.asarray(picture).transpose(2, 0, 1))


def test_nothing_is_displaced_and_one_color_stays():
    flipped = by(1.7)(np.ascontiguousarray(TISSUE[:, ::-1, ::-1]))
    assert int((by(1.7)(TISSUE).flip(1, 2).int() - flipped.int()).abs().max()) <= 1
    assert by(1.7)(np.full((3, 50, 40), 213, np.uint8)).unique().tolist() == [213]


def test_draws_fill_the_range_at_the_given_probability():
    lower = RandLowerMagnification(prob=0.4, factor_range=(1.2, 1.8)).set_random_state(0)
    drawn = []
    for _ in range(1000):
        lower.randomize()
        drawn.append(lower.factor)
    reduced = [factor for factor in drawn if factor != 1]
    assert len(reduced) / len(drawn) == pytest.approx(0.4, abs=0.05)
    assert (min(reduced), max(reduced)) == pytest.approx((1.2, 1.8), abs=0.01)
    assert np.mean(reduced) == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize(("size", "found"), [((300, 400), (150, 200)), ((180, 400), (128, 284)), ((100, 400), None)])
def test_the_shorter_side_keeps_what_the_crop_needs(size, found):
    image = TISSUE[:, : size[0], : size[1]]
    assert by(2, min_size=128)(image).shape[1:] == (found or size)


def test_the_scale_of_the_crop_after_it_is_the_one_that_was_asked_for():
    chain = Compose([RandLowerMagnificationd("image", prob=1), RandArbitraryScaleCropd("image", 32, (3, 3))])
    data = chain.set_random_state(0)({"image": TISSUE})
    assert data["scale"] == 3
    assert data["image"].shape == (3, 96, 96)


def test_the_same_seed_gives_the_same_and_keys_change_alike():
    make = RandLowerMagnification(prob=1).set_random_state
    first, other = make(2)(TISSUE), make(3)(TISSUE)
    assert first.shape != other.shape
    assert torch.equal(make(2)(TISSUE), first)
    before = TISSUE.copy()
    lower = RandLowerMagnificationd(("a", "b"), prob=1).set_random_state(2)
    data = lower({"a": TISSUE, "b": torch.from_numpy(TISSUE), "n": 1})
    assert torch.equal(data["a"], first)
    assert torch.equal(data["b"], first)
    assert data["n"] == 1
    np.testing.assert_array_equal(TISSUE, before)


@pytest.mark.parametrize("factor", [1, 1.5])
@pytest.mark.parametrize("wrap", [torch.from_numpy, lambda a: MetaTensor(torch.from_numpy(a)), lambda a: a])
def test_8_bits_and_plain_tensors_come_out(wrap, factor):
    result = by(factor)(wrap(TISSUE[:, :12, :9].copy()))
    assert type(result) is torch.Tensor
    assert result.dtype == torch.uint8
    assert result.shape == (3, round(12 / factor), round(9 / factor))


@pytest.mark.parametrize(
    "options", [{"prob": -1}, {"factor_range": (0.5, 2)}, {"factor_range": (2, 1)}, {"min_size": 0}]
)
def test_settings_that_cannot_be(options):
    for make in (RandLowerMagnification, lambda **options: RandLowerMagnificationd("image", **options)):
        with pytest.raises(ConfigError) as caught:
            make(**options)
        assert_teaches(caught.value, str(next(iter(options.values()))))
