"""Data lists of folders: order, splits, sizes, and errors for unusable folders."""

import numpy as np
import pytest
from PIL import Image
from reference import assert_teaches
from skimage.data import immunohistochemistry

from monai_iste.data import (
    evaluation_datalist,
    image_datalist,
    pixel_counts,
    sample_datalists,
    training_datalists,
)
from monai_iste.data.datasets import split_datalist
from monai_iste.errors import ConfigError, DataError, ScaleError


def save(folder, *names, size=(40, 30)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)


def names(datalist):
    return [item["name"] for item in datalist]


def test_images_of_a_folder_and_its_subfolders_in_order(tmp_path):
    save(tmp_path, "b.png", "a/z.TIF", "a/c.jpg", "c.bmp", ".hidden.png", ".cache/d.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "volume.nii.gz").touch()
    (tmp_path / "folder.png").mkdir()
    datalist = image_datalist(tmp_path)
    assert names(datalist) == ["a/c", "a/z", "b", "c", "volume"]
    assert datalist[0]["image"] == str(tmp_path / "a" / "c.jpg")


@pytest.mark.parametrize(
    ("make", "received", "remedy"),
    [
        (lambda path: None, "does not exist", "Check the path"),
        (lambda path: path.touch(), "the file", "Name the folder"),
        (lambda path: path.mkdir(), "got none", "Name a folder that holds some"),
    ],
)
@pytest.mark.parametrize("use", [image_datalist, lambda path: training_datalists(path, 1)])
def test_unusable_folders_are_named(make, received, remedy, use, tmp_path):
    path = tmp_path / "tiles"
    make(path)
    with pytest.raises(DataError) as caught:
        use(path)
    assert_teaches(caught.value, str(path), received, remedy)


TEN = [{"name": f"tile{i}"} for i in range(10)]


def test_the_split_is_the_same_everywhere():
    """Written out once: it may depend on names and seed only, not on machine, folder, order or Python's hash."""
    train, val = split_datalist(TEN, 0.3)
    assert names(val) == ["tile0", "tile6", "tile7"]
    assert names(train) == ["tile1", "tile2", "tile3", "tile4", "tile5", "tile8", "tile9"]
    assert names(split_datalist(TEN[::-1], 0.3)[1]) == ["tile7", "tile6", "tile0"]


@pytest.mark.parametrize(("count", "fraction", "val"), [(2, 0.1, 1), (2, 0.9, 1), (10, 0.01, 1), (10, 0.25, 2)])
def test_both_sides_of_a_split_hold_images(count, fraction, val):
    parts = split_datalist(TEN[:count], fraction)
    assert len(parts[1]) == val
    assert sorted(names(parts[0]) + names(parts[1])) == sorted(names(TEN[:count]))


def test_another_seed_splits_otherwise():
    assert len({tuple(names(split_datalist(TEN, 0.3, seed)[1])) for seed in range(5)}) > 1


def test_one_image_cannot_be_split():
    with pytest.raises(DataError, match=r"at least two images .* got 1 \(tile0\)\. Add images"):
        split_datalist(TEN[:1])


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_a_split_needs_a_share(fraction):
    with pytest.raises(ConfigError, match="val_fraction between 0 and 1"):
        split_datalist(TEN, fraction)


def test_train_and_val_folders_are_used_as_they_are(tmp_path):
    save(tmp_path, "train/a.png", "train/b.png", "val/c.png", "other.png")
    train, val = training_datalists(tmp_path, 30)
    assert (names(train), names(val)) == (["a", "b"], ["c"])


def test_other_folders_are_split_by_file(tmp_path):
    save(tmp_path, "a.png", "b.png", "c/d.png")
    train, val = training_datalists(str(tmp_path), 30)
    assert (len(train), len(val)) == (2, 1)


@pytest.mark.parametrize("side", ["train", "val"])
def test_the_first_image_that_is_too_small_is_named(side, tmp_path):
    save(tmp_path, "train/a.png", "val/a.png", size=(64, 64))
    save(tmp_path, f"{side}/small.png", size=(200, 47))
    save(tmp_path, f"{side}/smaller.png", size=(20, 20))
    with pytest.raises(DataError) as caught:
        training_datalists(tmp_path, 48)
    offender = f"{tmp_path / side / 'small.png'} of 200 x 47"
    assert_teaches(caught.value, "at least 48 x 48", offender, "--max_scale or --lr_size")


def test_an_unreadable_image_is_named_before_training(tmp_path):
    save(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").write_text("no image")
    with pytest.raises(DataError, match=r"c\.png"):
        training_datalists(tmp_path, 1)


@pytest.mark.parametrize("dataset_dir", [None, ""])
def test_without_a_folder_the_sample_is_used(dataset_dir):
    train, val = training_datalists(dataset_dir, 192)
    whole = np.concatenate([train[0]["image"], val[0]["image"]], axis=1)
    np.testing.assert_array_equal(whole, immunohistochemistry().transpose(2, 0, 1))
    for item in (*train, *val):
        assert item["image"].dtype == np.uint8
        assert item["image"].flags.c_contiguous
    assert names(sample_datalists()[1]) == ["immunohistochemistry-validation"]


def test_the_sample_too_can_be_too_small():
    with pytest.raises(DataError, match="immunohistochemistry-validation of 512 x 192"):
        training_datalists(None, 193)


def test_pixels_are_counted_in_files_and_in_arrays(tmp_path):
    save(tmp_path, "a.png", size=(200, 47))
    save(tmp_path, "b.png", size=(30, 31))
    assert pixel_counts(image_datalist(tmp_path)) == [200 * 47, 30 * 31]
    assert pixel_counts(sample_datalists()[0]) == [320 * 512]


def test_every_image_at_every_scale_images_outermost():
    source = [{"image": "a.png", "name": "a"}, {"image": "b.png", "name": "b"}]
    result = evaluation_datalist(source, [2, 3.7])
    assert [(item["name"], item["scale"]) for item in result] == [("a", 2.0), ("a", 3.7), ("b", 2.0), ("b", 3.7)]
    assert all(isinstance(item["scale"], float) for item in result)
    assert "scale" not in source[0]


@pytest.mark.parametrize("scale", [0.5, float("nan"), float("inf")])
def test_scales_must_be_usable(scale):
    with pytest.raises(ScaleError, match="finite scales of at least 1"):
        evaluation_datalist([{"name": "a"}], [2, scale])


@pytest.mark.parametrize("scales", [2, [], "many", None, [None]])
def test_scales_must_be_a_list(scales):
    with pytest.raises(ScaleError, match="a list of scales") as caught:
        evaluation_datalist([{"name": "a"}], scales)
    assert_teaches(caught.value, repr(scales))
