"""Seals: files read as before, and every damage is noticed."""

import json
import random
import struct
import zlib

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from PIL import Image
from slide_files import picture
from written_slides import KNOWN, reader, tifffile_levels, zarr_levels

from monai_iste.io.image_writer import save_image
from monai_iste.io.seal import SEAL_FILE, read_seal, write_folder_seal, write_seal
from monai_iste.slides.writers.writer import write_slide

PIXELS = picture(70, 90)
FIELDS = {"job": "f" * 64, "compression": "lossless"}


def sealed(path):
    if path.name.endswith((".ome.tif", ".ome.zarr")):
        size = PIXELS.shape[:2]
        write_slide(path, reader(PIXELS), size, KNOWN, path.parent, compression="lossless", seal=FIELDS)
    else:
        save_image(path, [PIXELS], PIXELS.shape[:2], mpp=(0.5, 0.5), seal=FIELDS)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.ome.tif", "a.ome.zarr"])
def test_the_fields_come_back_and_the_pixels_are_those_without_a_seal(tmp_path, name):
    path = sealed(tmp_path / name)
    assert read_seal(path) == FIELDS
    if name.endswith(".zarr"):
        np.testing.assert_array_equal(zarr_levels(path)[0], PIXELS)
        return
    (tmp_path / "plain").mkdir()
    plain = tmp_path / "plain" / name
    if name.endswith(".ome.tif"):
        np.testing.assert_array_equal(tifffile_levels(path)[0], PIXELS)
        assert OpenSlide(path).dimensions == (90, 70)
        return
    save_image(plain, [PIXELS], PIXELS.shape[:2], mpp=(0.5, 0.5))
    assert read_seal(plain) is None
    with Image.open(path) as one, Image.open(plain) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert one.info.get("dpi") == other.info.get("dpi")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.ome.tif"])
def test_every_changed_missing_or_added_byte_is_noticed(tmp_path, name):
    path, rng = sealed(tmp_path / name), random.Random(0)
    data = path.read_bytes()
    places = [rng.randrange(len(data)) for _ in range(60)] + list(range(len(data) - 270, len(data)))
    damaged = [data[:place] + bytes([data[place] ^ rng.randint(1, 255)]) + data[place + 1 :] for place in places]
    damaged += [data[:length] for length in (0, 1, 7, len(data) // 2, len(data) - 1)]
    damaged += [data + b"\n", data[:100] + data[101:], data + data]
    for number, content in enumerate(damaged):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(content)
        assert read_seal(file) is None, number
    path.write_bytes(data)
    assert read_seal(path) == FIELDS


def test_a_png_with_a_seal_is_made_of_valid_chunks(tmp_path):
    data, kinds, place = sealed(tmp_path / "a.png").read_bytes(), [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(body)
        kinds.append(body[:4])
        place += 12 + length
    assert place == len(data)
    assert kinds[-2:] == [b"tEXt", b"IEND"]
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert json.loads(image.text["monai_iste"])["job"] == FIELDS["job"]


def test_a_bigtiff_is_read_with_a_seal(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        file.write(PIXELS, photometric="rgb")
    write_seal(tmp_path / "a.tif", FIELDS)
    assert read_seal(tmp_path / "a.tif") == FIELDS
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), PIXELS)


def test_damage_of_a_folder_is_noticed(tmp_path):
    for name in ("a.ome.zarr", "a.dcm"):
        folder = tmp_path / name
        if name.endswith(".zarr"):
            sealed(folder)
        else:
            folder.mkdir()
            (folder / "1.dcm").write_bytes(bytes(range(256)))
            (folder / "2.dcm").write_bytes(b"level")
            write_folder_seal(folder, FIELDS)
            assert (folder / SEAL_FILE).is_file()
        assert read_seal(folder) == FIELDS
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) >= 3
        for path in files:
            data = path.read_bytes()
            for place in {0, len(data) // 2, len(data) - 2, len(data) - 1}:
                path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
                assert read_seal(folder) is None, (path, place)
            path.unlink()
            assert read_seal(folder) is None
            path.write_bytes(data)
        assert read_seal(folder) == FIELDS
        (folder / "more").touch()
        assert read_seal(folder) is None


def test_what_has_no_seal(tmp_path):
    (tmp_path / "text.png").write_text('monai_iste {"bytes": 0}')
    (tmp_path / "list.png").write_text('monai_iste {"bytes": [], "sha256": 1}\n')
    (tmp_path / "folder").mkdir()
    for name in ("absent", "text.png", "list.png", "folder"):
        assert read_seal(tmp_path / name) is None
