"""Meaning of samples as declared: bits, opacity, palettes, inverted gray, YCbCr; what is not honored is refused."""

import struct
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from slide_files import picture

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import read_rgb
from monai_iste.slides import Slide

SIZE = (70, 90)
IMAGE = picture(*SIZE)
RNG = np.random.default_rng(0)
OPACITY = RNG.random(SIZE)
LAYOUTS = {"strips": {"rowsperstrip": 16}, "tiles": {"tile": (32, 48)}}


def assert_read(path, expected: np.ndarray, tolerance: int = 0) -> None:
    """Images and slides show the same."""
    pixels = read_rgb(path).transpose(1, 2, 0)
    np.testing.assert_allclose(pixels.astype(int), expected, atol=tolerance)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(0, 0, *slide.size)), pixels)
        np.testing.assert_array_equal(slide.read(Region(21, 33, 40, 50)), pixels[21:61, 33:83])


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "metadata": None} | options)
    return path


@pytest.mark.parametrize(("bits", "layout"), product(range(1, 17), LAYOUTS))
def test_rgb_of_every_depth_is_scaled_by_its_largest_value(tmp_path, bits, layout):
    largest = 2**bits - 1
    values = RNG.integers(0, largest + 1, (*SIZE, 3)).astype(np.uint8 if bits <= 8 else np.uint16)
    packed = {} if bits in (8, 16) else {"bitspersample": bits}
    write(tmp_path / "a.tif", values, **packed, **LAYOUTS[layout])
    assert_read(tmp_path / "a.tif", np.round(values * (255 / largest)))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_planes(tmp_path, bits):
    values = RNG.integers(0, 2**bits, (3, *SIZE)).astype(np.uint16)
    packed = {} if bits == 16 else {"bitspersample": bits}
    write(tmp_path / "a.tif", values, planarconfig="separate", rowsperstrip=16, **packed)
    assert_read(tmp_path / "a.tif", np.round(values.transpose(1, 2, 0) * (255 / (2**bits - 1))))


def packed_tiff(path, values: np.ndarray, bits: int, order: str) -> None:
    """Write RGB bit by bit, in one strip: rows begin on whole bytes, and the highest bit comes first in any order."""
    rows = b""
    for row in values.reshape(len(values), -1).tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += int(text, 2).to_bytes(len(text) // 8, "big")
    height, width = values.shape[:2]
    depths = struct.pack(order + "3H", bits, bits, bits)
    place = 8 + 2 + 12 * 9 + 4
    longs = {256: width, 257: height, 273: place + len(depths), 278: height, 279: len(rows)}
    entries = {tag: struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in longs.items()}
    entries[258] = struct.pack(order + "HHII", 258, 3, 3, place)
    entries |= {tag: struct.pack(order + "HHIHH", tag, 3, 1, n, 0) for tag, n in ((259, 1), (262, 2), (277, 3))}
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, len(entries))
    path.write_bytes(head + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + depths + rows)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [1, 2, 4, 5, 10, 12, 14])
def test_byte_order_of_packed_bits(tmp_path, bits, order):
    values = RNG.integers(0, 2**bits, (*SIZE, 3))
    packed_tiff(tmp_path / "a.tif", values, bits, order)
    assert_read(tmp_path / "a.tif", np.round(values * (255 / (2**bits - 1))))


@pytest.mark.parametrize("byteorder", "<>")
def test_byte_order(tmp_path, byteorder):
    values = RNG.integers(0, 2**16, (*SIZE, 3)).astype(np.uint16)
    write(tmp_path / "a.tif", values, byteorder=byteorder)
    assert_read(tmp_path / "a.tif", np.round(values / 257))
    write(tmp_path / "b.tif", (values / 65_535).astype(np.float32), byteorder=byteorder)
    assert_read(tmp_path / "b.tif", np.round((values / 65_535).astype(np.float32) * 255))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_gray(tmp_path, bits, photometric):
    values = RNG.integers(0, 2**bits, SIZE).astype(np.uint8)
    packed = {} if bits == 8 else {"bitspersample": bits}
    write(tmp_path / "a.tif", values, photometric=photometric, **packed)
    light = values if photometric == "minisblack" else 2**bits - 1 - values
    assert_read(tmp_path / "a.tif", np.round(light * (255 / (2**bits - 1)))[..., None].repeat(3, 2))


DEPTHS = {"8": (np.uint8, 255), "16": (np.uint16, 65_535), "float": (np.float32, 1)}


def stored(depth: str, kind: int) -> np.ndarray:
    """RGB and opacity at a depth, multiplied for kind 1."""
    dtype, largest = DEPTHS[depth]
    color = IMAGE / 255 * (OPACITY[..., None] if kind == 1 else 1)
    values = np.concatenate([color, OPACITY[..., None]], axis=2) * largest
    return (values if depth == "float" else np.round(values)).astype(dtype)


@pytest.mark.parametrize(("depth", "kind", "layout"), product(DEPTHS, (0, 1, 2), LAYOUTS))
def test_opacity_is_composited_once_and_what_is_unspecified_is_dropped(tmp_path, depth, kind, layout):
    write(tmp_path / "a.tif", stored(depth, kind), extrasamples=[kind], **LAYOUTS[layout])
    over_white = IMAGE * OPACITY[..., None] + 255 * (1 - OPACITY[..., None])
    assert_read(tmp_path / "a.tif", IMAGE if kind == 0 else over_white, tolerance=0 if kind == 0 else 1)


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_opacity_of_floating_point_is_rounded_once(tmp_path, dtype, kind):
    color = IMAGE / 255 * (OPACITY[..., None] if kind == 1 else 1)
    values = np.concatenate([color, OPACITY[..., None]], axis=2).astype(dtype)
    write(tmp_path / "a.tif", values, extrasamples=[kind])
    exact = values.astype(np.float64)
    color, opacity = exact[..., :3], exact[..., 3:]
    over_white = np.minimum(color + 1 - opacity, 1) if kind == 1 else color * opacity + 1 - opacity
    far = np.abs(over_white * 255 % 1 - 0.5) > 1e-4  # from where both neighbors are as good
    found = read_rgb(tmp_path / "a.tif").transpose(1, 2, 0)
    np.testing.assert_array_equal(found[far], np.round(over_white * 255)[far])


def test_opaque_and_transparent_are_exact(tmp_path):
    for kind in (1, 2):
        for depth, (dtype, largest) in DEPTHS.items():
            values = np.zeros((*SIZE, 4), dtype)
            values[:35, :, :3], values[:35, :, 3] = largest, largest
            values[:10, :, 0] = 0
            write(tmp_path / f"{kind}{depth}.tif", values, extrasamples=[kind])
            expected = np.full((*SIZE, 3), 255)
            expected[:10, :, 0] = 0
            assert_read(tmp_path / f"{kind}{depth}.tif", expected)


@pytest.mark.parametrize("kind", [1, 2])
def test_gray_with_opacity(tmp_path, kind):
    gray, opacity = IMAGE[..., 0] / 255, OPACITY
    values = np.round(np.stack([gray * (opacity if kind == 1 else 1), opacity], axis=2) * 255).astype(np.uint8)
    write(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=[kind])
    assert_read(tmp_path / "a.tif", ((gray * opacity + 1 - opacity) * 255)[..., None].repeat(3, 2), tolerance=1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palette(tmp_path, bits, layout, factor):
    indices = RNG.integers(0, 2**bits, SIZE).astype(np.uint8 if bits <= 8 else np.uint16)
    colors = RNG.integers(0, 256, (3, 2**bits))
    packed = {} if bits in (8, 16) else {"bitspersample": bits}
    path, table = tmp_path / "a.tif", (colors * factor).astype(np.uint16)
    tags = [(320, 3, table.size, table.ravel(), True)]
    write(path, indices, photometric="minisblack", extratags=tags, **packed, **LAYOUTS[layout])
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["PhotometricInterpretation"].overwrite(3)
    assert_read(path, colors.T[indices])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ycbcr_without_jpeg(tmp_path, layout):
    values = np.asarray(Image.fromarray(IMAGE).convert("YCbCr"))
    for compression in (None, "zlib", "lzw", "packbits", "zstd"):
        path = write(
            tmp_path / f"{compression}.tif", values, photometric="ycbcr", compression=compression, **LAYOUTS[layout]
        )
        assert_read(
            path, np.asarray(Image.frombytes("YCbCr", SIZE[::-1], values.tobytes()).convert("RGB")), tolerance=1
        )


def test_ycbcr_with_its_own_range(tmp_path):
    full = np.asarray(Image.fromarray(IMAGE).convert("YCbCr")).astype(float)
    video = np.stack([full[..., 0] * 219 / 255 + 16, *((full[..., n] - 128) * 224 / 255 + 128 for n in (1, 2))], axis=2)
    reference = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    path = tmp_path / "a.tif"
    write(path, np.round(video).astype(np.uint8), photometric="ycbcr", extratags=[(532, 5, 6, reference, True)])
    assert_read(path, IMAGE, tolerance=4)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "raw"])
def test_ycbcr_of_another_writer(tmp_path, compression):
    image = Image.fromarray(IMAGE).convert("YCbCr")
    image.save(tmp_path / "a.tif", compression=compression, **({"quality": 100} if compression == "jpeg" else {}))
    assert_read(tmp_path / "a.tif", np.asarray(image.convert("RGB")), tolerance=1 if compression != "jpeg" else 4)


REFUSED = {
    "CMYK": (IMAGE[..., [0, 1, 2, 0]], {"photometric": "separated"}, "SEPARATED"),
    "CIELab": (IMAGE, {"photometric": "cielab"}, "CIELAB"),
    "two channels": (
        IMAGE[..., :2],
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [0]},
        "2 channels",
    ),
    "five channels": (
        IMAGE[..., [0, 1, 2, 0, 1]],
        {"extrasamples": [2, 0]},
        "5 channels",
    ),
    "deep gray": (IMAGE[..., 0].astype(np.uint16), {"photometric": "minisblack"}, "uint16 grayscale"),
    "12-bit gray": (
        IMAGE[..., 0].astype(np.uint16),
        {"photometric": "minisblack", "bitspersample": 12},
        "uint16 grayscale",
    ),
    "one bit": (IMAGE[..., 0] > 128, {"photometric": "minisblack"}, "one bit"),
    "one bit, inverted": (IMAGE[..., 0] > 128, {"photometric": "miniswhite"}, "one bit"),
    "signed": (IMAGE.astype(np.int16), {}, "int16"),
    "32 bits": (IMAGE.astype(np.uint32), {}, "uint32"),
    "complex": (IMAGE.astype(np.complex64), {}, "complex64"),
    "float beyond 1": (IMAGE.astype(np.float32), {}, "outside [0, 1]"),
    "float opacity beyond 1": (
        np.concatenate([IMAGE / 255, np.full((*SIZE, 1), 2.0)], 2).astype(np.float32),
        {"extrasamples": [2]},
        "outside [0, 1]",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_honored_is_refused_by_both(tmp_path, name, layout):
    pixels, options, words = REFUSED[name]
    path = write(tmp_path / "a.tif", np.ascontiguousarray(pixels), **options, **LAYOUTS[layout])

    def read_slide():
        with Slide(path) as slide:
            slide.read(Region(0, 0, 9, 9))

    for read in (lambda: read_rgb(path), read_slide):
        with pytest.raises(DataError) as caught:
            read()
        assert_teaches(caught.value, str(path), words)
        assert "\n" not in str(caught.value)
