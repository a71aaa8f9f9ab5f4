"""The curriculum of reduction factors: its schedule, its images, and how processes see its progress."""

import math
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import reference
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from PIL import Image, ImageFilter
from reference import assert_close, assert_teaches

from experiments.curriculum import AdvanceCurriculum, Curriculum, CurriculumDegradation, CurriculumDegradationd
from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks.baselines.li_unet_gan import LiUNetGAN
from monai_iste.transforms import degrade

TINY = (2, 3, 4, 5)
TISSUE = sample_datalists()[0][0]["image"]


def at(progress, **settings):
    curriculum = Curriculum(**settings)
    curriculum.progress = progress
    return curriculum


# --- factors and images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [2, 3, 4.5])
def test_factors_grow_over_the_first_half(target):
    """2^factor goes in a straight line from 4 to 2^target."""
    for tenths in range(11):
        height = 4 + min(tenths / 5, 1) * (2**target - 4)
        assert at(tenths / 10, target=target).factor == pytest.approx(math.log(height) / math.log(2))
    assert at(0, target=4).factor == 2
    assert at(0.5, target=4).factor == at(1, target=4).factor == 4


def test_start_and_fraction_can_be_chosen():
    assert at(0, target=4, start=1).factor == 1
    assert at(0.1, target=3, start=1, fraction=0.2).factor == pytest.approx(math.log2(2 + 0.5 * 6))


@pytest.mark.parametrize("settings", [{"target": 1.9}, {"target": 3, "start": 0.5}, {"target": math.inf}])
@pytest.mark.parametrize("fraction", [0.5, 0, 1.1])
def test_curricula_that_cannot_be(settings, fraction):
    with pytest.raises(ConfigError) as error:
        Curriculum(**settings, fraction=fraction)
    assert_teaches(error.value, f"fraction {fraction}")


@pytest.mark.parametrize(("progress", "mean"), [(0, 2.0), (0.25, math.log2(10)), (0.8, 4.0)])
def test_factors_of_images_are_normal_around_the_mean(progress, mean):
    degradation = CurriculumDegradation(at(progress, target=4)).set_random_state(1)
    drawn = []
    for _ in range(4000):
        degradation.randomize()
        drawn.append(degradation.factor)
    drawn = np.array(drawn)
    assert abs(np.median(drawn) - mean) < 0.03
    for sigmas, share in ((-1, 0.1587), (0.5, 0.6915), (1.5, 0.9332)):
        assert abs((drawn < mean + 0.5 * sigmas).mean() - share) < 0.02
    if progress == 0:
        assert 0.015 < (drawn == 1).mean() < 0.031  # beyond two sigmas: 2.3 %
    assert 1 <= drawn.min() <= drawn.max() <= 5.5


def test_factors_stay_within_three_sigmas_of_the_target():
    class Far:
        def normal(self, mean, sigma):
            return 9.0

    degradation = CurriculumDegradation(at(1, target=4))
    degradation.R = Far()
    degradation.randomize()
    assert degradation.factor == 5.5


@pytest.mark.parametrize(("progress", "side", "sigma"), [(0, 48, 0.5), (1, 24, 1.5)])
def test_images_equal_pillow_and_bicubic_written_out(progress, side, sigma):
    crop = TISSUE[:, 40:136, 60:156]
    picture = Image.fromarray(np.ascontiguousarray(crop.transpose(1, 2, 0)))
    low = np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma)).resize((side, side), Image.BICUBIC))
    result = CurriculumDegradation(at(progress, target=4), jitter=0)(crop)
    assert result.dtype == torch.float32
    queries = reference.grid((96, 96))[:: 96 * 5 + 7]
    for query, color in zip(queries, result.flatten(1).T[:: 96 * 5 + 7], strict=True):
        assert_close(color, reference.bicubic(low.transpose(2, 0, 1).astype(float), query), 1e-3)


def test_at_the_target_the_network_sees_what_it_makes_of_the_reduced_image():
    torch.manual_seed(0)
    net, crop = LiUNetGAN(3, TINY).eval(), TISSUE[:, :96, :63]
    seen = CurriculumDegradation(at(1, target=3), jitter=0)(crop) / 255
    assert_close(net(seen[None], scale=1), net(degrade(crop, (32, 21))[None] / 255).detach().numpy())


def test_every_size_is_kept_and_seeds_repeat():
    one, two = (CurriculumDegradation(at(0.3, target=4)).set_random_state(3) for _ in range(2))
    for size in ((5, 3), (64, 64), (1, 9)):
        crop = TISSUE[:, : size[0], : size[1]]
        result = one(crop)
        assert result.shape == (3, *size)
        assert torch.equal(result, two(crop))
        assert torch.equal(result, one(crop, randomize=False))


def test_dictionaries():
    crop = TISSUE[:, :48, :64].copy()
    degradation = CurriculumDegradationd(("a", "b"), at(0.3, target=4), label_key=("c", "d")).set_random_state(2)
    result = degradation({"a": crop, "b": torch.from_numpy(crop), "name": "x"})
    assert torch.equal(result["a"], result["b"])  # one factor for both
    assert torch.equal(result["a"], degradation.degradation(crop, randomize=False))
    for key in ("c", "d"):
        np.testing.assert_array_equal(result[key], crop)
        assert result[key].dtype == torch.uint8
    assert result["name"] == "x"
    assert not torch.equal(degradation({"a": crop, "b": crop})["a"], result["a"])


def test_degradations_that_cannot_be():
    with pytest.raises(ConfigError) as error:
        CurriculumDegradation(Curriculum(3), jitter=-1)
    assert_teaches(error.value, "-1")
    with pytest.raises(ConfigError) as error:
        CurriculumDegradationd("image", Curriculum(3), label_key=("a", "b"))
    assert_teaches(error.value, "one label_key per key")
    with pytest.raises(ShapeError):
        CurriculumDegradation(Curriculum(3))(np.zeros((3, 8, 8), np.float32))


# --- the trainer's progress -------------------------------------------------------------------------------------------


class _Factor:
    """A transform that returns the mean factor that its process sees."""

    def __init__(self, curriculum):
        self.curriculum = curriculum

    def __call__(self, item):
        return self.curriculum.factor


@pytest.mark.parametrize("persistent", [True, False])
def test_loading_processes_see_the_progress(persistent):
    curriculum = Curriculum(target=4)
    loader = DataLoader(Dataset([0] * 4, _Factor(curriculum)), num_workers=2, persistent_workers=persistent)
    for progress, factor in ((0, 2), (0.25, math.log2(10)), (1, 4)):
        curriculum.progress = progress
        assert torch.cat(list(loader)).tolist() == pytest.approx([factor] * 4)


def test_progress_is_shared_with_processes_that_are_not_forked():
    curriculum = Curriculum(target=4)
    received = ForkingPickler.loads(bytes(ForkingPickler.dumps(curriculum)))
    curriculum.progress = 0.75
    assert received.progress == 0.75
    assert received.factor == 4


@pytest.mark.parametrize(
    ("epoch_level", "seen"), [(True, [0, 0, 0, 0.5, 0.5, 0.5]), (False, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])]
)
@pytest.mark.parametrize("done", [0, 1])  # epochs before the run was interrupted
def test_progress_follows_the_trainer(done, epoch_level, seen):
    curriculum, noted = Curriculum(target=4), []
    engine = Engine(lambda engine, batch: noted.append(curriculum.progress))
    AdvanceCurriculum(curriculum, epoch_level).attach(engine)
    if done:
        engine.load_state_dict({"epoch_length": 3, "iteration": 3 * done, "max_epochs": 2})
    engine.run(range(3), max_epochs=2)
    assert noted == pytest.approx(seen[3 * done :])
