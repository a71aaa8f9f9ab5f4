"""Official data sets to folders for training: splits, choices, interruptions, and what is said about unusable ones."""

import hashlib
import io
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from reference import assert_teaches
from slide_files import picture, write_slide_file
from typer.testing import CliRunner

from monai_iste.data import read_rgb, training_datalists
from monai_iste.data.benchmarks import glas_datalists, pcam, pcam_datalists, read_instances
from monai_iste.data.preparation import prepare_dataset, prepare_histosr, prepare_tcga, prepare_tma, target
from monai_iste.data.preparation.histosr import _unpickled
from monai_iste.data.preparation.tcga import tissue_shares
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.experiments.prepare import prepare
from monai_iste.manifest import checksum
from monai_iste.slides.tissue import TissueMask

QUIET = {"quiet": True}


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.png")) if path.is_file()
    }


def counts(root):
    return [len(list((root / part).glob("*.png"))) for part in ("train", "val", "test")]


# --- TMA, and what all data sets share --------------------------------------------------------------------------------


@pytest.fixture
def cores(tmp_path):
    """Twelve images of different colours, in subfolders, whose names must not appear in the result."""
    for number in range(12):
        path = tmp_path / "source" / f"block{number % 2}" / f"smith-{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 192 + number), (20 * number, 90, 120)).save(path)
    return tmp_path / "source"


TWELVE = {"counts": (8, 2, 2), **QUIET}


def test_every_image_is_written_once_with_its_own_pixels(cores, tmp_path):
    report = prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert counts(tmp_path / "root") == [8, 2, 2]
    assert report["counts"] == {"train": 8, "val": 2, "test": 2}
    sources = sorted(cores.rglob("*.jpg"), key=lambda path: path.relative_to(cores).as_posix())
    written = {path.stem: path for path in (tmp_path / "root").rglob("*.png")}
    for number, source in enumerate(sources, start=1):
        np.testing.assert_array_equal(read_rgb(written[f"tma-{number:04d}"]), read_rgb(source))
    train, val = training_datalists(tmp_path / "root", 192)
    assert (len(train), len(val)) == (8, 2)


def test_the_split_depends_on_seed_and_names_alone():
    """Sorted here again by the hash of seed and name, and cut."""
    names = list("abcde")
    parts = {"train": 2, "val": 1, "test": 2}
    order = sorted(names, key=lambda name: hashlib.sha256(f"7:{name}".encode()).hexdigest())
    expected = dict.fromkeys(order[:2], "train") | dict.fromkeys(order[2:3], "val") | dict.fromkeys(order[3:], "test")
    assert dict(zip(names, target.split(names, parts, 7), strict=True)) == expected
    backwards = dict(zip(names[::-1], target.split(names[::-1], parts, 7), strict=True))
    assert backwards == expected
    assert len({tuple(target.split(names, parts, seed)) for seed in range(6)}) > 1


def test_the_manifest_describes_the_files_and_names_no_source(cores, tmp_path):
    report = prepare_tma(cores, tmp_path / "root", seed=3, **TWELVE)
    text = (tmp_path / "root" / "dataset.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(report))
    assert (report["name"], report["seed"], report["mpp"]) == ("tma", 3, 0.504)
    assert report["files"] == {name: checksum(tmp_path / "root" / name) for name in files(tmp_path / "root")}
    assert report["fingerprints"]["val"]["count"] == 2
    assert report["versions"]["pillow"]
    assert "smith" not in text
    assert str(tmp_path) not in text
    assert not [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".")]


class Stopped(BaseException):
    """As Ctrl-C or a kill would end it."""


def interrupted(monkeypatch, after, source, root):
    """Let ``after`` images be written, then stop in the middle of the next one."""
    save, count = target.save_image, iter(range(100))

    def stop(path, bands, size, **options):
        def broken():
            yield bands[0][: size[0] // 2]
            raise Stopped

        save(path, broken() if next(count) == after else bands, size, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, "save_image", stop)
        with pytest.raises(Stopped):
            prepare_tma(source, root, **TWELVE)


@pytest.mark.parametrize("after", [0, 5, 11])
def test_an_interrupted_preparation_goes_on_and_loses_nothing(after, cores, tmp_path, monkeypatch):
    whole = prepare_tma(cores, tmp_path / "whole", **TWELVE)
    interrupted(monkeypatch, after, cores, tmp_path / "root")
    assert len(files(tmp_path / "root")) == after
    assert not (tmp_path / "root" / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("*.png")}
    report = prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert files(tmp_path / "root") == files(tmp_path / "whole")
    assert report["files"] == whole["files"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # those are not made again


def test_a_file_that_a_crash_left_short_is_made_again(cores, tmp_path, monkeypatch):
    interrupted(monkeypatch, 6, cores, tmp_path / "root")
    first, second, *_ = sorted((tmp_path / "root").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(b"")
    (tmp_path / "root" / "train" / ".tma-0001.png.123.part").write_bytes(b"of a killed process")
    prepare_tma(cores, tmp_path / "whole", **TWELVE)
    prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert files(tmp_path / "root") == files(tmp_path / "whole")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".")]


def test_a_finished_set_is_left_as_it_is_and_repaired_if_a_file_is_gone(cores, tmp_path, monkeypatch):
    first = prepare_tma(cores, tmp_path / "root", **TWELVE)
    with monkeypatch.context() as patch:
        patch.setattr(target, "save_image", lambda *_, **__: pytest.fail("it wrote again"))
        assert prepare_tma(cores, tmp_path / "root", **TWELVE)["date"] == first["date"]
    gone = next((tmp_path / "root" / "val").iterdir())
    gone.unlink()
    assert prepare_tma(cores, tmp_path / "root", **TWELVE)["files"] == first["files"]
    assert gone.exists()


@pytest.mark.parametrize(
    ("occupy", "received"),
    [
        (lambda root: root.write_text("a file"), "the file"),
        (lambda root: (root / "train").mkdir(parents=True) or (root / "train" / "mine.png").touch(), "something else"),
        (lambda root: root.mkdir() or (root / "dataset.json").write_text("[]"), "something else"),
    ],
)
def test_what_is_there_is_never_overwritten(occupy, received, cores, tmp_path):
    root = tmp_path / "root"
    occupy(root)
    before = sorted((path, path.read_bytes()) for path in [root, *root.rglob("*")] if path.is_file())
    with pytest.raises(OutputError) as caught:
        prepare_tma(cores, root, **TWELVE)
    assert_teaches(caught.value, str(root), received, "Name another")
    assert before == sorted((path, path.read_bytes()) for path in [root, *root.rglob("*")] if path.is_file())


def test_another_preparation_is_refused_finished_or_not(cores, tmp_path, monkeypatch):
    interrupted(monkeypatch, 4, cores, tmp_path / "root")
    with pytest.raises(OutputError, match=r"begun in .* other sources or options"):
        prepare_tma(cores, tmp_path / "root", seed=1, **TWELVE)
    (tmp_path / "root" / "train" / "mine.png").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"only files of the data set .* got mine\.png"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    (tmp_path / "root" / "train" / "mine.png").unlink()
    prepare_tma(cores, tmp_path / "root", **TWELVE)
    with pytest.raises(OutputError, match=r"the same data set .* one of other sources or options"):
        prepare_tma(cores, tmp_path / "root", seed=1, **TWELVE)
    next(cores.rglob("*.jpg")).write_bytes(b"another")
    with pytest.raises(OutputError, match="other sources or options"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(cores, tmp_path, monkeypatch):
    monkeypatch.setattr(target.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OutputError, match=r"up to 0\.00142 GB of room .* got 0\.001 GB"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert not files(tmp_path / "root")


def test_unusable_cores_are_named(cores, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare_tma(cores, tmp_path / "root", **QUIET)
    assert_teaches(caught.value, "573 images", "460 train, 57 val, 56 test", "12", "--counts")
    Image.new("RGB", (191, 400)).save(cores / "block0" / "smith-0.jpg")
    with pytest.raises(DataError, match=r"192 x 192 pixels in .*smith-0\.jpg, got 400 x 191"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    (cores / "block0" / "smith-0.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"readable image in .*smith-0\.jpg"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert not (tmp_path / "root").exists()


# --- TCGA -------------------------------------------------------------------------------------------------------------

TILE = 256
PUBLIC = "TCGA-AA-0001-01Z-00-DX1.12345678-ABCD-ABCD-ABCD-123456789012.svs"


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Three slides with 12, 12 and 4 whole tiles of tissue; the other 8 of the third are glass."""
    source = tmp_path_factory.mktemp("slides")
    for name, shift, glass in ((PUBLIC, 0, 0), ("smith-b.tif", 40, 0), ("smith-c.tif", 80, 2 * TILE)):
        pixels = np.roll(picture(3 * TILE + 20, 4 * TILE + 30), shift, 0)
        pixels[:glass] = 240
        write_slide_file(source / name, pixels, mpp=0.25)
    return source


def test_shares_of_tissue_equal_the_mask_asked_point_by_point():
    samples = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    mask = TissueMask(samples, (210, 300))
    shares = tissue_shares(mask, 96)
    assert shares.shape == (2, 3)
    for row in range(2):
        for column in range(3):
            hits = 0
            for i in range(32):
                for j in range(32):
                    y, x = row * 96 + (i + 0.5) * 3 - 0.5, column * 96 + (j + 0.5) * 3 - 0.5
                    hits += weight(samples, (210, 300), y, x) > 0.5
            assert shares[row, column] == hits / 1024


def weight(samples, size, y, x):
    """Bilinear, by the definition of the mask."""
    t = [min(max((p + 0.5) * n / side - 0.5, 0), n - 1) for p, n, side in zip((y, x), samples.shape, size, strict=True)]
    total = 0.0
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            total += max(0, 1 - abs(t[0] - i)) * max(0, 1 - abs(t[1] - j)) * samples[i, j]
    return total / 255


def test_tiles_come_from_tissue_in_equal_numbers_and_are_the_slides_own_pixels(slides, tmp_path):
    root = tmp_path / "root"
    report = prepare_tcga(slides, root, counts=(12, 2, 2), slides=3, tile=TILE, **QUIET)
    assert counts(root) == [12, 2, 2]
    about = report["source"]["slides"]
    assert [slide["candidates"] for slide in about] == [12, 12, 4]
    assert [sum(slide["tiles"].values()) for slide in about] == [6, 6, 4]  # the third has no more to give
    assert [slide["name"] for slide in about] == [PUBLIC, None, None]
    assert about[1]["sha256"] == checksum(slides / "smith-b.tif")
    assert report["mpp"] == 0.25
    assert "smith" not in (root / "dataset.json").read_text()
    paths = sorted(slides.iterdir())
    for file in root.rglob("*.png"):
        number, row, column = (int(word.lstrip("slidrec")) for word in file.stem.split("-"))
        pixels = tifffile.imread(paths[number - 1])[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        np.testing.assert_array_equal(read_rgb(file), pixels.transpose(2, 0, 1))
        assert number != 3 or row == 2  # the others are glass
        with Image.open(file) as image:
            assert round(1e6 / 0.25) == round(image.info["dpi"][0] / 0.0254)


def test_a_seed_fixes_the_tiles_and_another_draws_others(slides, tmp_path):
    options = {"counts": (4, 1, 1), "slides": 3, "tile": TILE, **QUIET}
    prepare_tcga(slides, tmp_path / "a", seed=1, **options)
    prepare_tcga(slides, tmp_path / "b", seed=1, **options)
    prepare_tcga(slides, tmp_path / "c", seed=2, **options)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a").keys() != files(tmp_path / "c").keys()


def test_split_by_slide_keeps_a_slide_on_one_side(slides, tmp_path):
    root = tmp_path / "root"
    prepare_tcga(slides, root, counts=(4, 3, 2), slides=3, tile=TILE, split_by="slide", **QUIET)
    assert counts(root) == [4, 3, 2]
    sides = [{file.name.split("-")[0] for file in (root / part).iterdir()} for part in ("train", "val", "test")]
    assert sorted(name for side in sides for name in side) == ["slide1", "slide2", "slide3"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"counts": (27, 1, 1)}, DataError, ["29 tiles with enough tissue", "28 (12, 12, 4)", "--min-tissue"]),
        ({"slides": 5}, DataError, ["5 slides in", "got 3", "--slides"]),
        ({"input_mpp": 0.5}, DataError, ["40x, 0.2 to 0.3 um", "0.5 um", "another slide"]),
        ({"tile": 100}, ConfigError, ["at least 192 pixels", "100", "3072"]),
        ({"min_tissue": 0.0}, ConfigError, ["min_tissue above 0", "0.0", "0.5"]),
        ({"split_by": "patient"}, ConfigError, ["by tile or by slide", "'patient'", "need tile"]),
        ({"split_by": "slide", "slides": 2}, ConfigError, ["at least 3 slides", "got 2", "Name more"]),
        ({"counts": (1, 1)}, ConfigError, ["counts of train, val and test", "(1, 1)", "320,40,40"]),
        ({"counts": (1, 0, 1)}, ConfigError, ["each at least 1", "(1, 0, 1)", "320,40,40"]),
    ],
)
def test_unusable_slides_and_options_are_said(options, error, words, slides, tmp_path):
    with pytest.raises(error) as caught:
        prepare_tcga(slides, tmp_path / "root", **{"counts": (4, 1, 1), "slides": 3, "tile": TILE, **QUIET, **options})
    assert_teaches(caught.value, *words)
    assert not (tmp_path / "root").exists()


def test_a_slide_without_a_pixel_size_needs_the_users_word(tmp_path):
    write_slide_file(tmp_path / "source.tif", picture(2 * TILE, 2 * TILE), mpp=None)
    options = {"counts": (2, 1, 1), "slides": 1, "tile": TILE, **QUIET}
    with pytest.raises(DataError, match="--input-mpp"):
        prepare_tcga(tmp_path, tmp_path / "root", **options)
    assert prepare_tcga(tmp_path, tmp_path / "root", input_mpp=0.25, **options)["mpp"] == 0.25


# --- HistoSR ----------------------------------------------------------------------------------------------------------


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


# --- GlaS and PCam ----------------------------------------------------------------------------------------------------


def official_glas(folder, **numbers):
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for part, count in ({"train": 85, "testA": 60, "testB": 20} | numbers).items():
        for number in range(1, count + 1):
            Image.new("RGB", (6, 5)).save(folder / f"{part}_{number}.bmp")
            Image.fromarray(np.full((5, 6), number, np.uint8)).save(folder / f"{part}_{number}_anno.bmp")
            lines.append(f"{part}_{number},71, {'malignant' if number % 2 else 'benign'}, healthy")
    (folder / "Grade.csv").write_text("\n".join(lines))


def test_official_glas(tmp_path):
    official_glas(tmp_path)
    lists = glas_datalists(tmp_path)
    assert {part: len(items) for part, items in lists.items()} == {"train": 85, "testA": 60, "testB": 20}
    assert [item["name"] for item in lists["testB"]] == [f"testB_{number}" for number in range(1, 21)]
    item = lists["train"][9]
    assert item == {
        "image": str(tmp_path / "train_10.bmp"),
        "mask": str(tmp_path / "train_10_anno.bmp"),
        "name": "train_10",
        "grade": "benign",
    }
    assert (read_instances(item["mask"]) == 10).all()
    assert read_instances(item["mask"]).shape == (5, 6)


def test_unusable_glas_is_said(tmp_path):
    with pytest.raises(DataError, match=r"neither Grade\.csv nor index\.csv"):
        glas_datalists(tmp_path)
    with pytest.raises(DataError, match="which is none"):
        glas_datalists(tmp_path / "absent")
    official_glas(tmp_path, testA=59)
    with pytest.raises(DataError, match=r"60 images testA_1\.bmp.* got 59"):
        glas_datalists(tmp_path)
    assert len(glas_datalists(tmp_path, complete=False)["testA"]) == 59
    Image.new("L", (5, 5)).save(tmp_path / "testA_3_anno.bmp")
    with pytest.raises(DataError, match=r"5 x 6 .*, the size of its image, in .*testA_3_anno\.bmp, got 5 x 5"):
        glas_datalists(tmp_path, complete=False)
    (tmp_path / "testA_3_anno.bmp").unlink()
    with pytest.raises(DataError, match=r"testA_3_anno\.bmp, which does not exist"):
        glas_datalists(tmp_path, complete=False)


def test_a_mask_in_colours_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"one channel of object numbers in .*mask\.png, got an image of mode RGB"):
        read_instances(tmp_path / "mask.png")


def stand_in(folder):
    """Three tiles, one of them half glass, as in a folder of GlaS tiles with masks and labels."""
    rows = [("train", "benign"), ("val", "malignant"), ("test", "malignant")]
    for split, _ in rows:
        tile = picture(200, 300)
        if split == "test":
            tile[:, :190] = 240
        for name in (f"{split}/tile_{split}.png", f"glas/masks/tile_{split}.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile if name.startswith(split) else tile[..., 0]).save(folder / name)
    (folder / "glas/index.csv").write_text(
        "image,mask,n_glands,patient,split\n"
        + "".join(f"{s}/tile_{s}.png,glas/masks/tile_{s}.png,3,smith,{s}\n" for s, _ in rows)
    )
    (folder / "cls").mkdir()
    (folder / "cls/labels.csv").write_text(
        "file,label,grade,patient,split\n" + "".join(f"{s}/tile_{s}.png,{g},?,smith,{s}\n" for s, g in rows)
    )


@pytest.mark.parametrize("root", [".", "glas"])
def test_glas_stand_in(root, tmp_path):
    stand_in(tmp_path)
    lists = glas_datalists(tmp_path / root)
    assert [[item["name"] for item in items] for items in lists.values()] == [
        ["tile_train", "tile_val"],
        ["tile_test"],
        [],
    ]
    assert list(lists) == ["train", "testA", "testB"]
    assert "smith" not in str(lists["train"])


@pytest.mark.parametrize("root", [".", "cls"])
def test_pcam_stand_in_crops_tissue_without_overlap(root, tmp_path):
    stand_in(tmp_path)
    lists = pcam_datalists(tmp_path / root)
    assert {part: [item["label"] for item in items] for part, items in lists.items()} == {
        "train": [0] * 6,
        "valid": [1] * 6,
        "test": [1] * 2,  # the rest of the tile is glass
    }
    tile = picture(200, 300).transpose(2, 0, 1)
    cells = [tile[:, y : y + 96, x : x + 96] for y in (0, 96) for x in (0, 96, 192)]
    found = [[np.array_equal(item["image"], cell) for cell in cells] for item in lists["train"]]
    assert (np.sum(found, 0) == 1).all()  # each cell of the grid once
    assert (np.sum(found, 1) == 1).all()
    assert "smith" not in str([item["name"] for item in lists["train"]])
    few, again = (pcam_datalists(tmp_path, crops=2, seed=5)["train"] for _ in range(2))
    assert len(few) == 2
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(few, again, strict=True))


def write_pcam(folder, count=5, x_shape=(96, 96, 3), label=None):
    h5py = pytest.importorskip("h5py")
    pixels = np.random.default_rng(0).integers(0, 256, (count, *x_shape), dtype=np.uint8)
    for part in ("train", "valid", "test"):
        for which, values in (("x", pixels), ("y", np.arange(count).reshape(count, 1, 1, 1) % 2)):
            with h5py.File(folder / f"camelyonpatch_level_2_split_{part}_{which}.h5", "w") as file:
                values = values.astype(np.uint8) if label is None or which == "x" else np.full_like(values, label)
                file.create_dataset(which, data=values, chunks=True, compression="gzip")
    return pixels


def test_official_pcam_is_read_patch_by_patch(tmp_path):
    pixels = write_pcam(tmp_path)
    part = pcam_datalists(tmp_path, complete=False)["valid"]
    assert len(part) == 5
    for index in (0, 3, -1):
        np.testing.assert_array_equal(part[index]["image"], pixels[index].transpose(2, 0, 1))
    assert [item["label"] for item in part] == [0, 1, 0, 1, 0]
    assert [item["name"] for item in part[1:3]] == ["valid-000001", "valid-000002"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part))[2]["image"], part[2]["image"])  # noqa: S301
    with pytest.raises(IndexError):
        part[5]


def test_official_pcam_feeds_several_processes(tmp_path):
    from monai.data import DataLoader, Dataset

    write_pcam(tmp_path, count=6)
    part = pcam_datalists(tmp_path, complete=False)["train"]
    assert part[0]["label"] == 0  # opened here before the workers fork
    batches = list(DataLoader(Dataset(part), batch_size=2, num_workers=2))
    assert [batch["label"].tolist() for batch in batches] == [[0, 1]] * 3
    for number, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["image"][1], part[2 * number + 1]["image"])


def test_a_forked_process_opens_the_file_for_itself(tmp_path, monkeypatch):
    """HDF5 keeps state in its handles, so that two processes with one may read each other's patches."""
    write_pcam(tmp_path)
    part = pcam_datalists(tmp_path, complete=False)["train"]
    ours = part._images()
    assert part._images() is ours
    monkeypatch.setattr(pcam.os, "getpid", lambda: -1)
    assert part._images() is not ours


def test_unusable_pcam_is_said(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(DataError, match=r"camelyonpatch_level_2_split_train_x\.h5, got none"):
        pcam_datalists(tmp_path)
    (tmp_path / "camelyonpatch_level_2_split_train_x.h5.gz").touch()
    with pytest.raises(DataError, match=r"still packed\. Unpack it: gunzip"):
        pcam_datalists(tmp_path)
    write_pcam(tmp_path)
    with pytest.raises(DataError, match=r"262,144 patches in .* got 5"):
        pcam_datalists(tmp_path)
    write_pcam(tmp_path, label=2)
    with pytest.raises(DataError, match=r"labels 0 and 1 in .*train_y\.h5, got values up to 2"):
        pcam_datalists(tmp_path, complete=False)
    write_pcam(tmp_path, x_shape=(96, 95, 3))
    with pytest.raises(DataError, match=r"patches \(N, 96, 96, 3\) of uint8 .* got \(5, 96, 95, 3\)"):
        pcam_datalists(tmp_path, complete=False)
    x = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
    x.write_bytes(x.read_bytes()[:500])
    with pytest.raises(DataError, match=r"readable HDF5 in .*train_x\.h5"):
        pcam_datalists(tmp_path, complete=False)


def test_a_file_of_a_few_bytes_that_claims_terabytes_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_pcam(tmp_path)
    for shape, chunks in (((2**23, 96, 96, 3), (1, 96, 96, 3)), ((20_000, 96, 96, 3), (20_000, 96, 96, 3))):
        x = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
        with h5py.File(x, "w") as file:
            file.create_dataset("x", shape, np.uint8, chunks=chunks)
        assert x.stat().st_size < 10_000
        with pytest.raises(DataError, match=r"patches \(N, 96, 96, 3\)"):
            pcam_datalists(tmp_path, complete=False)


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words):
    app = typer.Typer()
    app.command()(prepare)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_prepares(cores, tmp_path):
    result = run("tma", cores, tmp_path / "root", "--counts", "8,2,2", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert "8 train, 2 val, 2 test" in result.output
    assert json.loads((tmp_path / "root/dataset.json").read_text())["seed"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["glas"], "one of tcga, tma, histosr, got 'glas'"),
        (["tma", "--counts", "8,2"], "--counts as TRAIN,VAL,TEST, got '8,2'"),
        (["tma", "--tile-size", "512"], "options of tma, got tile"),
    ],
)
def test_mistakes_in_the_command_are_said(words, message, cores, tmp_path):
    error = run(words[0], cores, tmp_path / "root", *words[1:]).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)


def test_options_reach_the_preparation_of_slides(slides, tmp_path):
    words = ["--counts", "2,1,1", "--slides", "3", "--tile-size", "256", "--min-tissue", "0.9", "--split-by", "slide"]
    assert run("tcga", slides, tmp_path / "root", *words).exit_code == 0
    job = json.loads((tmp_path / "root/dataset.json").read_text())["job"]
    assert (job["tile"], job["min_tissue"], job["split_by"]) == (256, 0.9, "slide")


def test_unknown_data_sets_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one of tcga, tma, histosr"):
        prepare_dataset("pcam", tmp_path, tmp_path / "root")
