"""Training folder from HistoSR: patches of an LMDB or of images, and records that are never executed."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from preparation_files import QUIET, counts

from experiments.preparation import prepare_histosr
from experiments.preparation.histosr import _unpickled
from monai_iste.errors import DataError
from monai_iste.io import read_rgb


def patches(count, seed=0):
    """Textured patches, so that bicubic and nearest reduction differ."""
    return np.random.default_rng(seed).integers(0, 256, (count, 192, 192, 3), dtype=np.uint8)


def encode(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_lmdb(folder, high, resampling=Image.Resampling.BICUBIC, protocol=3):
    lmdb = pytest.importorskip("lmdb")
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for number, pixels in enumerate(high, start=1):
            low = np.asarray(Image.fromarray(pixels).resize((96, 96), resampling))
            record = {"data": encode(low), "target": encode(pixels)}
            transaction.put(f"{number:06d}-smith.png".encode(), pickle.dumps(record, protocol))


SEVEN = {"counts": (4, 1, 2), **QUIET}


@pytest.mark.parametrize("place", ["", "bicubic/"])
def test_patches_of_the_official_lmdb(place, tmp_path):
    high, unseen = patches(5), patches(2, seed=1)
    write_lmdb(tmp_path / f"source/{place}train_lmdb", high)
    write_lmdb(tmp_path / f"source/{place}test_lmdb", unseen)
    (tmp_path / f"source/{place}train_lmdb" / "cache").write_bytes(b"never read")
    root = tmp_path / "root"
    report = prepare_histosr(tmp_path / "source", root, **SEVEN)
    assert counts(root) == [4, 1, 2]
    for file in root.rglob("*.png"):
        part, number = file.stem.split("-")
        expected = (high if part == "train" else unseen)[int(number) - 1]
        np.testing.assert_array_equal(read_rgb(file), expected.transpose(2, 0, 1))
    assert {file.stem.split("-")[0] for file in (root / "val").iterdir()} == {"train"}
    assert report["source"]["stored_difference"] == 0
    assert report["protocol"] == "bicubic-rgb"
    assert "smith" not in (root / "dataset.json").read_text()


def test_the_other_degradation_shows_in_the_manifest(tmp_path):
    write_lmdb(tmp_path / "train_lmdb", patches(5), Image.Resampling.NEAREST, protocol=4)
    write_lmdb(tmp_path / "test_lmdb", patches(2))
    report = prepare_histosr(tmp_path, tmp_path / "root", **SEVEN)
    assert report["source"]["stored_difference"] > 5


@pytest.mark.parametrize("names", [("train_sr192", "test_sr192"), ("train", "test")])
def test_patches_as_images(names, tmp_path):
    high = patches(7)
    for name, part in zip(names, (high[:5], high[5:]), strict=True):
        (tmp_path / "source" / name).mkdir(parents=True)
        for number, pixels in enumerate(part):
            Image.fromarray(pixels).save(tmp_path / "source" / name / f"SR_{number}.png")
    prepare_histosr(tmp_path / "source", tmp_path / "root", **SEVEN)
    np.testing.assert_array_equal(read_rgb(tmp_path / "root/test/test-00002.png"), high[6].transpose(2, 0, 1))
    Image.new("RGB", (96, 96)).save(tmp_path / "source" / names[1] / "SR_1.png")
    with pytest.raises(DataError, match=r"192 x 192 pixels in .*SR_1\.png, got 96 x 96"):
        prepare_histosr(tmp_path / "source", tmp_path / "again", **SEVEN)


def test_unusable_patches_are_said(tmp_path):
    with pytest.raises(DataError, match=r"train_lmdb or train_sr192 in .* got neither"):
        prepare_histosr(tmp_path, tmp_path / "root", **SEVEN)
    write_lmdb(tmp_path / "train_lmdb", patches(5))
    write_lmdb(tmp_path / "test_lmdb", patches(1))
    with pytest.raises(DataError, match=r"2 patches in .*test_lmdb, got 1"):
        prepare_histosr(tmp_path, tmp_path / "root", **SEVEN)
    with pytest.raises(DataError, match=r"30,000 patches in .*train_lmdb, got 5"):
        prepare_histosr(tmp_path, tmp_path / "root", **QUIET)
    (tmp_path / "train_lmdb" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"readable LMDB in .*train_lmdb"):
        prepare_histosr(tmp_path, tmp_path / "root", **SEVEN)


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    "record",
    [{"data": b"1", "target": Malicious()}, {"data": b"1"}, {"data": "1", "target": "2"}, [b"1", b"2"], 3],
)
@pytest.mark.parametrize("protocol", [0, 2, 3, 5])
def test_a_pickle_is_never_executed(record, protocol, capsys):
    with pytest.raises(DataError, match="a dictionary of bytes, data and target, in record 1"):
        _unpickled(pickle.dumps(record, protocol), "record 1")
    assert capsys.readouterr().out == ""


def test_a_pickle_that_was_cut_short_is_refused():
    value = pickle.dumps({"data": b"abc", "target": b"def"}, 3)
    assert _unpickled(value, "record 1") == (b"abc", b"def")
    for length in range(len(value)):
        with pytest.raises(DataError):
            _unpickled(value[:length], "record 1")
