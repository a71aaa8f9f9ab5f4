"""The blur that the degradations store for the network, and its hiding."""

import math

import numpy as np
import pytest
import torch
from monai.data.utils import list_data_collate
from monai.transforms import Compose
from reference import assert_teaches

from monai_iste import transforms
from monai_iste.errors import ConfigError
from monai_iste.transforms import DEGRADATIONS, BlurDegradationd, RandHideBlurd, RandMixedDegradationd

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
#: Sigma of the Gaussian in low-resolution pixels at each of SCALES: (m - 1) / 2 high-resolution pixels are
#: (m - 1) / (2 m) low-resolution ones; a blur of m / 2 after the reduction is one already.
BLURS = {
    "blur_bicubic": (0.0, 1 / 6, 0.25, 1 / 3, 0.375, 0.4375),
    "bicubic": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "bicubic_blur": (0.5, 0.75, 1.0, 1.5, 2.0, 4.0),
}


def crop(height=96, width=96):
    return np.full((3, height, width), 200, np.uint8)


def test_every_recipe_has_its_blur_here():
    assert set(BLURS) == set(DEGRADATIONS)


@pytest.mark.parametrize("preset", BLURS)
def test_every_recipe_stores_its_blur_at_every_scale(preset):
    for scale, blur in zip(SCALES, BLURS[preset], strict=True):
        data = BlurDegradationd(preset=preset)({"image": crop(), "scale": scale})
        assert type(data["input_blur"]) is float
        assert data["input_blur"] == pytest.approx(blur)


def test_the_blur_is_that_of_the_scale_that_came_out():
    """100 x 63 pixels at x3.7 become 27 x 17: the blur has the mean of both ratios."""
    m = (100 / 27 + 63 / 17) / 2
    for degradation in (BlurDegradationd(), RandMixedDegradationd(blur=(1, 1), blur_prob=1)):
        data = degradation({"image": crop(100, 63), "scale": 3.7})
        assert data["image"].shape == (3, 27, 17)
        assert data["input_blur"] == pytest.approx((m - 1) / (2 * m), rel=1e-12)
        assert data["input_blur"] != pytest.approx((3.7 - 1) / (2 * 3.7), rel=1e-5)


def spread(reduce, scale):
    """Variance of the line spread function of reduced edges, in low-resolution pixels squared."""
    variances, blurs = [], set()
    for column in range(114, 126):  # the edge lies everywhere within a low-resolution pixel
        edge = np.full((3, 24, 240), 60, np.uint8)
        edge[:, :, column:] = 190  # overshoot is not clipped
        data = reduce({"image": edge, "scale": scale})
        line = np.diff(data["image"][0].double().mean(0).numpy())
        distance = np.arange(1, len(line) + 1) - column / scale
        variances.append((line / line.sum() * distance**2)[abs(distance) < 3].sum())
        blurs.add(data["input_blur"])
    (blur,) = blurs
    return np.mean(variances), blur


@pytest.mark.parametrize("scale", [2.0, 3.0, 4.0])
@pytest.mark.parametrize("degrade", ["blur_bicubic", "area"])
def test_the_stored_blur_is_found_in_the_pixels(degrade, scale):
    """An edge is wider than without blur by the variance of the Gaussian."""

    def degradation(blur):
        if degrade == "blur_bicubic":
            return BlurDegradationd(preset="blur_bicubic" if blur else "bicubic")
        return RandMixedDegradationd(blur=(blur, blur), blur_prob=1, reductions={degrade: 1}, noise_prob=0, jpeg_prob=0)

    (without, none), (variance, blur) = spread(degradation(0.0), scale), spread(degradation(1.0), scale)
    assert none == 0
    assert math.sqrt(variance - without) == pytest.approx(blur, abs=0.03)


@pytest.mark.parametrize("scale", SCALES)
def test_a_mixed_degradation_stores_the_blur_that_it_drew(scale):
    degradation, blurs = RandMixedDegradationd().set_random_state(0), []
    for _ in range(40):
        data = degradation({"image": crop(), "scale": scale})
        spec = degradation.degradation.spec
        assert data["input_blur"] == pytest.approx(spec.blur * (scale - 1) / (2 * scale))
        blurs.append(spec.blur)
    assert len(set(blurs)) > 20
    assert min(blurs) == 0 < 1 < max(blurs)


def test_several_images_have_one_blur():
    keys = {"keys": ("image", "other"), "label_key": ("label", "other_label")}
    for degradation in (BlurDegradationd(**keys), RandMixedDegradationd(**keys).set_random_state(1)):
        data = degradation({"image": crop(), "other": crop(), "scale": 2.0})
        alone = type(degradation)()
        if isinstance(alone, RandMixedDegradationd):
            alone.set_random_state(1)
        assert data["input_blur"] == alone({"image": crop(), "scale": 2.0})["input_blur"] > 0


# --- hiding -----------------------------------------------------------------------------------------------------------


def hidden(transform, count=400):
    return [math.isnan(transform({"input_blur": 0.3})["input_blur"]) for _ in range(count)]


def test_a_seed_hides_the_same_images_again():
    first = hidden(RandHideBlurd(prob=0.3).set_random_state(5))
    assert first == hidden(RandHideBlurd(prob=0.3).set_random_state(5))
    assert first != hidden(RandHideBlurd(prob=0.3).set_random_state(6))
    assert 80 < sum(first) < 160
    assert not any(hidden(RandHideBlurd(prob=0)))
    assert all(hidden(RandHideBlurd(prob=1)))


def test_it_draws_once_for_all_keys_and_leaves_the_rest():
    transform = RandHideBlurd(("input_blur", "other_blur"), prob=0.5).set_random_state(0)
    seen = set()
    for _ in range(50):
        data = {"input_blur": 0.3, "other_blur": 0.1, "scale": 2.0}
        result = transform(data)
        assert data == {"input_blur": 0.3, "other_blur": 0.1, "scale": 2.0}
        assert result["scale"] == 2.0
        assert math.isnan(result["input_blur"]) == math.isnan(result["other_blur"])
        seen.add(math.isnan(result["input_blur"]))
    assert seen == {True, False}


def test_what_shows_a_key_that_is_missing():
    assert RandHideBlurd(prob=1, allow_missing_keys=True)({"scale": 2.0}) == {"scale": 2.0}
    with pytest.raises(KeyError, match="input_blur"):
        RandHideBlurd(prob=1)({"scale": 2.0})


@pytest.mark.parametrize("prob", [-0.1, 1.5, math.nan])
def test_a_probability_that_is_none(prob):
    with pytest.raises(ConfigError) as caught:
        RandHideBlurd(prob=prob)
    assert_teaches(caught.value, "a probability in [0, 1]", f"{prob:g}")


def test_it_has_the_names_that_monai_uses():
    assert transforms.RandHideBlurD is transforms.RandHideBlurDict is RandHideBlurd


def test_a_batch_has_the_blur_of_every_image():
    """Whether a chain hides or tells: numbers of one kind, which collate."""
    chain = Compose([BlurDegradationd(), RandHideBlurd(prob=0.5)]).set_random_state(3)
    batch = list_data_collate([chain({"image": crop(), "scale": 2.0}) for _ in range(12)])
    assert batch["input_blur"].shape == (12,)
    told = batch["input_blur"][~batch["input_blur"].isnan()]
    assert 0 < len(told) < 12
    assert torch.equal(told, torch.full_like(told, 0.25))


@pytest.mark.parametrize(
    "blur",
    [0.3, 1, torch.tensor(0.3), np.float32(0.3), np.array(0.3), np.array([0.3, 0.1]), torch.tensor([0.3])],
    ids=repr,
)
def test_a_batch_of_hidden_and_shown_blurs_of_any_kind(blur):
    hidden, shown = (RandHideBlurd(prob=prob)({"input_blur": blur}) for prob in (1.0, 0.0))
    batch = list_data_collate([shown, hidden])["input_blur"]
    assert batch[1].isnan().all()
    np.testing.assert_array_equal(batch[0], blur)
