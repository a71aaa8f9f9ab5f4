"""GlaS and PCam, official and substitutes: every item is read correctly, and unusable files are refused."""

import pickle
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import picture

from experiments.datasets import glas_datalists, pcam, pcam_datalists, read_instances
from monai_iste.errors import DataError


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


def test_unusable_glas_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"neither Grade\.csv nor index\.csv"):
        glas_datalists(tmp_path)
    with pytest.raises(DataError, match="which is not a folder"):
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


def test_a_mask_in_colors_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"one channel of object numbers in .*mask\.png, got an image of mode RGB"):
        read_instances(tmp_path / "mask.png")


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "deflated.tif", "lzw.tif"])
def test_a_damaged_mask_is_refused(tmp_path, kind):
    compression = {"deflated.tif": "zlib", "lzw.tif": "lzw"}.get(kind)
    labels = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((9, 9), np.uint8))
    file = tmp_path / f"mask.{kind}"
    if kind.endswith("tif"):
        tifffile.imwrite(file, labels, compression=compression, photometric="minisblack")
    else:
        Image.fromarray(labels).save(file)
    whole, random, refused = file.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            damaged[place] ^= int(random.integers(1, 256))
        file.write_bytes(damaged[: int(random.integers(1, len(whole) + 1))])
        with suppress(DataError):
            read_instances(file)
            continue
        refused += 1
    assert refused > 20


def stand_in(folder):
    """Three tiles, one of them half background, as in a folder of GlaS tiles with masks and labels."""
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
        "test": [1] * 2,  # the rest of the tile is background
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


def test_unusable_pcam_is_refused(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(DataError, match=r"camelyonpatch_level_2_split_train_x\.h5, got none"):
        pcam_datalists(tmp_path)
    (tmp_path / "camelyonpatch_level_2_split_train_x.h5.gz").touch()
    with pytest.raises(DataError, match=r"its packed version\. Unpack it: gunzip"):
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
