"""Random crops that depend on seed, epoch and number only; decoded images in bounded memory."""

import os
import random
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, OneOf, RandFlipd, RandGaussianNoised, Randomizable
from PIL import Image
from reference import assert_teaches

from monai_iste.data.seeded import SeededDataset, SeededIndex, SeededSampler, random_state, seed_generators
from monai_iste.errors import ConfigError, DataError, find_error
from monai_iste.transforms import LoadRGBd, RandArbitraryScaleCropd, RandMixedDegradationd


def draw_globally(image):
    """A user's function with three generators that nobody seeds."""
    return image + random.randrange(7) + np.random.randint(7) + int(torch.randint(7, (1,)))  # noqa: NPY002


def crops():
    """A chain with nested random transforms, and random numbers that are not MONAI's."""
    return Compose(
        [
            LoadRGBd("image"),
            RandArbitraryScaleCropd("image", lr_size=8, scale_range=(1.0, 3.0)),
            OneOf([RandFlipd("image", 0.5, 0), Compose([RandFlipd("image", 0.9, 1)])], weights=[2, 1]),
            RandMixedDegradationd("image"),
            Lambdad("image", draw_globally),
            RandGaussianNoised("image", prob=0.5),
        ]
    )


def images(folder, count=5, size=40):
    for i in range(count):
        pixels = np.random.RandomState(i).randint(0, 255, (size, size + 3, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [{"image": str(folder / f"{i}.png"), "name": str(i)} for i in range(count)]


def epoch_of_crops(folder, workers, epoch, batch_size=4, cache_bytes=1 << 20):
    data = SeededDataset(images(folder), crops(), cache_bytes)
    sampler = SeededSampler(data, num_samples=12, seed=3)
    sampler.set_epoch(epoch)
    loader = DataLoader(data, batch_size=batch_size, sampler=sampler, num_workers=workers)
    loader.collate_fn = list
    return [np.asarray(item["image"]) for batch in loader for item in batch]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_loading_processes_gives_the_same_crops(workers, tmp_path):
    alone, parallel = epoch_of_crops(tmp_path, 0, 5), epoch_of_crops(tmp_path, workers, 5, batch_size=3)
    for one, other in zip(alone, parallel, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(alone, epoch_of_crops(tmp_path, 0, 6), strict=True))


def test_a_crop_depends_neither_on_those_before_it_nor_on_the_cache(tmp_path):
    data, keys = images(tmp_path), [SeededIndex(i, (0, 2, n)) for n, i in enumerate((4, 0, 3, 0))]
    forward = [np.asarray(SeededDataset(data, crops())[key]["image"]) for key in keys]
    backward = SeededDataset(data, crops(), cache_bytes=0)
    for key, expected in reversed(list(zip(keys, forward, strict=True))):
        np.testing.assert_array_equal(np.asarray(backward[key]["image"]), expected)
    assert forward[1].shape != forward[3].shape or (forward[1] != forward[3]).any()  # one image, two draws


def test_the_generators_of_the_training_are_left_as_they_were(tmp_path):
    data = SeededDataset(images(tmp_path), crops())
    seed_generators(1, 2)
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    seed_generators(1, 2)
    data[SeededIndex(0, (0, 0, 0))]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002
    seed_generators(1, 3)
    assert (random.random(), np.random.rand(), torch.rand(1)) != expected  # noqa: NPY002


def test_a_plain_index_gives_the_same_item_each_time(tmp_path):
    data = SeededDataset(images(tmp_path), crops())
    np.testing.assert_array_equal(np.asarray(data[2]["image"]), np.asarray(data[2]["image"]))


def test_neighboring_numbers_give_unrelated_streams():
    drawn = {tuple(random_state(*numbers).randint(2**31, size=4)) for numbers in np.ndindex(9, 9, 9)}
    assert len(drawn) == 9**3
    assert random_state(-1).randint(9**9) == random_state(-1).randint(9**9)


@pytest.mark.parametrize("weights", [None, [1, 1, 2]])
def test_several_processes_take_turns_in_one_sequence(weights):
    def drawn(world, rank):
        sampler = SeededSampler(range(3), 60 // world, seed=1, weights=weights)
        sampler.num_replicas, sampler.rank, sampler.total_size = world, rank, 60
        return [(int(index), index.draw) for index in sampler]

    whole = drawn(1, 0)
    assert drawn(2, 0) == whole[::2]
    assert drawn(2, 1) == whole[1::2]
    assert len({draw for _, draw in whole}) == 60


def test_weights_and_their_absence():
    sampler = SeededSampler(range(4), 8000, weights=[0, 1, 2, 1])
    np.testing.assert_allclose(np.bincount(list(sampler), minlength=4) / 8000, [0, 0.25, 0.5, 0.25], atol=0.02)
    np.testing.assert_allclose(np.bincount(list(SeededSampler(range(4), 8000))) / 8000, 0.25, atol=0.02)


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [0, 0, 0], [1, np.nan, 1], []])
def test_weights_that_cannot_be(weights):
    with pytest.raises(ConfigError) as caught:
        SeededSampler(range(3), 3, weights=weights)
    assert_teaches(caught.value, "3 weights", str(len(weights)))


def test_an_index_reaches_another_process_with_its_seed():
    index = ForkingPickler.loads(bytes(ForkingPickler.dumps(SeededIndex(7, (1, 2, 3)))))
    assert (index, index.draw) == (7, (1, 2, 3))


def test_the_cache_has_a_limit_and_saves_decoding(tmp_path):
    decoded = []

    class Counting(LoadRGBd):
        def __call__(self, data):
            decoded.append(data["name"])
            return super().__call__(data)

    nbytes = 3 * 40 * 43
    data = SeededDataset(images(tmp_path), [Counting("image"), RandFlipd("image", 0.5, 0)], cache_bytes=2 * nbytes)
    for index in (0, 1, 0, 1, 2, 1, 0):
        data[index]
    assert decoded == ["0", "1", "2", "0"]
    assert data.cache.nbytes == 2 * nbytes


def test_a_transform_that_writes_into_its_input_changes_neither_the_cache_nor_what_was_given():
    pixels = np.zeros((3, 9, 9), np.uint8)
    data = SeededDataset([{"image": pixels}], [LoadRGBd("image"), Lambdad("image", spoil)])
    data.first_random = 1
    assert [data[0]["image"].max() for _ in range(3)] == [1, 1, 1]
    assert pixels.max() == 0


def spoil(image):
    image += 1
    return image


@pytest.mark.parametrize("how", ["other pixels", "another time", "missing"])
def test_an_image_that_is_replaced_during_a_training_is_noticed(how, tmp_path):
    data = SeededDataset(images(tmp_path), crops(), cache_bytes=0)
    data[0]
    path = tmp_path / "0.png"
    if how == "other pixels":
        Image.new("RGB", (40, 43)).save(path)
    elif how == "another time":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(DataError) as caught:
        data[0]
    assert_teaches(caught.value, "0.png", "--resume False")
    data[1]


def test_a_damaged_image_is_found_before_the_training(tmp_path):
    data = images(tmp_path)
    file = tmp_path / "3.png"
    file.write_bytes(file.read_bytes()[:200])
    SeededDataset(data, crops())
    with pytest.raises(RuntimeError) as caught:  # MONAI's, around ours
        SeededDataset(data, crops(), load_all=True)
    error = find_error(caught.value)
    assert isinstance(error, DataError)
    assert "3.png" in str(error)


def test_every_random_transform_draws_from_the_one_generator_also_in_a_loading_process(tmp_path):
    """Where processes are spawned they get the data set as bytes; MONAI's loaders seed what they find."""
    data = SeededDataset(images(tmp_path), crops())
    DataLoader(data, num_workers=0)
    received = ForkingPickler.loads(bytes(ForkingPickler.dumps(data)))
    for dataset in (data, received):
        found = list(random_parts(dataset.transform))
        assert len(found) > 8
        assert all(part.R is dataset.state for part in found)
    key = SeededIndex(2, (1, 1, 1))
    np.testing.assert_array_equal(np.asarray(received[key]["image"]), np.asarray(data[key]["image"]))


def random_parts(transform):
    if isinstance(transform, Randomizable):
        yield transform
    for name in ("transforms", "transform", "degradation", "flipper", "rand_gaussian_noise"):
        inner = getattr(transform, name, ())
        for part in inner if isinstance(inner, (list, tuple)) else [inner]:
            yield from random_parts(part)
