"""Image files: every accepted kind to the right pixels, every other kind refused in one sentence."""

import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches

from monai_iste.errors import DataError
from monai_iste.io import read_rgb
from monai_iste.io.image_reader import image_size

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
ALPHA = RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8)
RGBA = np.concatenate([RGB, ALPHA], axis=-1)
RGB16 = RNG.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
OVER_WHITE = np.round((RGB * (ALPHA / 255.0)) + 255 * (1 - ALPHA / 255.0)).astype(np.uint8)
NARROWED = np.round(RGB16 / 257).astype(np.uint8)
GRAY_RGB = np.repeat(GRAY[..., None], 3, axis=-1)


def pillow(pixels: np.ndarray, **options):
    return lambda path: Image.fromarray(pixels).save(path, **options)


def tiff(pixels: np.ndarray, **options):
    return lambda path: tifffile.imwrite(path, pixels, **options)


def nifti(pixels: np.ndarray):
    return lambda path: nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), path)


def png(pixels: np.ndarray, claimed: tuple[int, int] | None = None):
    """Write a PNG byte by byte: Pillow cannot write 16-bit color, nor a false header."""
    (height, width), channels = claimed or pixels.shape[:2], pixels.shape[2]
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def palette(path: Path) -> None:
    image = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30) % 16, "P")
    image.putpalette(RGB[0, :16].tobytes())
    image.save(path)


PALETTE_RGB = RGB[0, np.arange(600).astype(np.uint8).reshape(20, 30) % 16]
XY = RGB.swapaxes(0, 1)
NIFTI_RGB = np.ascontiguousarray(XY).view(np.dtype([(c, np.uint8) for c in "RGB"]))


def pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb", subifds=1, metadata=None)
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", subfiletype=1, metadata=None)


def two_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB, photometric="rgb")


def tiff_header(height: int, width: int, tile: int | None = None):
    """A TIFF of some 200 bytes that claims to be an RGB image of the given size."""
    shorts = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3)]
    place = [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 8), (325, 4, 1, 3)] if tile else []
    strips = [] if tile else [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 3)]
    tags = sorted([(256, 4, 1, width), (257, 4, 1, height), *shorts, *place, *strips])
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = struct.pack("<2sHI", b"II", 42, 16) + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return lambda path: path.write_bytes(data)


ACCEPTED = {
    "rgb.png": (pillow(RGB), RGB),
    "RGB.BMP": (pillow(RGB), RGB),
    "gray.png": (pillow(GRAY), GRAY_RGB),
    "palette.png": (palette, PALETTE_RGB),
    "rgba.png": (pillow(RGBA), OVER_WHITE),
    "rgb16.png": (png(RGB16), NARROWED),
    "rgb.tif": (tiff(RGB), RGB),
    "planar.tif": (tiff(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), RGB),
    "deflate.tiff": (tiff(RGB, compression="zlib", predictor=True), RGB),
    "lzw.tif": (pillow(RGB, compression="tiff_lzw"), RGB),
    "gray.tif": (tiff(GRAY), GRAY_RGB),
    "inverted.tif": (tiff(255 - GRAY, photometric="miniswhite"), GRAY_RGB),
    "rgba.tif": (tiff(RGBA, extrasamples=["unassalpha"]), OVER_WHITE),
    "rgb16.tif": (tiff(RGB16, photometric="rgb"), NARROWED),
    "float.tif": (tiff((RGB / 255).astype(np.float32), photometric="rgb"), RGB),
    "one.ome.tif": (tiff(RGB, metadata={"axes": "YXS"}), RGB),
    "pyramid.svs": (pyramid, RGB),
    "channels.nii.gz": (nifti(XY), RGB),
    "slice.nii": (nifti(XY[:, :, None]), RGB),
    "struct.nii": (nifti(NIFTI_RGB), RGB),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_kinds_give_the_right_pixels(name, tmp_path):
    write, expected = ACCEPTED[name]
    write(tmp_path / name)
    image = read_rgb(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))
    assert image_size(tmp_path / name) == (20, 30)


def test_jpeg_keeps_its_orientation_and_colors(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :, 0] = pixels[:, 16:, 2] = 200  # red above, blue to the right
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(read_rgb(str(tmp_path / "a.jpg")), pixels.transpose(2, 0, 1), atol=4)


def cut(write, share: float):
    def write_cut(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return write_cut


def corrupt_png(path: Path) -> None:
    pillow(RGB)(path)
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(bytes(data))


EXPORT = "Export it as 8-bit RGB"
AGAIN = "Copy or export it again"
CROP = "Crop it"
REFUSED = {
    "missing.png": (lambda path: None, "does not exist", "Check the path"),
    "folder.png": (Path.mkdir, "the folder", "Name a file"),
    "empty.png": (Path.touch, "empty", AGAIN),
    "notes.txt": (lambda path: path.write_text("hello"), "notes.txt", "Convert it"),
    "text.png": (lambda path: path.write_text("this is not an image"), "damaged or unsupported", AGAIN),
    "text.tif": (lambda path: path.write_text("this is not an image"), "damaged or unsupported", AGAIN),
    "text.nii.gz": (lambda path: path.write_text("this is not an image"), "damaged or unsupported", AGAIN),
    "corrupt.png": (corrupt_png, "damaged or unsupported", AGAIN),
    "truncated.jpg": (cut(pillow(RGB), 0.6), "damaged or unsupported", AGAIN),
    "truncated.tif": (cut(tiff(RGB), 0.6), "cut short at", AGAIN),
    "pageless.tif": (cut(pillow(RGB, compression="tiff_lzw"), 0.6), "damaged or unsupported", AGAIN),
    "truncated.nii.gz": (cut(nifti(XY), 0.6), "damaged or unsupported", AGAIN),
    "gray16.png": (png(RGB16[..., :1]), "uint16 grayscale, which may be fluorescence", EXPORT),
    "grayalpha16.png": (png(RGB16[..., :2]), "uint16 grayscale, which may be fluorescence", EXPORT),
    "cmyk.jpg": (lambda path: Image.fromarray(RGBA, "CMYK").save(path), "mode CMYK", EXPORT),
    "gray16.tif": (tiff(RGB16[..., 0].copy()), "uint16 grayscale, which may be fluorescence", EXPORT),
    "grayfloat.tif": (tiff(np.zeros((8, 8), np.float32)), "float32 grayscale", EXPORT),
    "two.tif": (tiff(RGB[..., :2].copy(), photometric="minisblack", planarconfig="contig"), "2 channels", EXPORT),
    "five.tif": (
        tiff(np.zeros((8, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
        "5 chan",
        EXPORT,
    ),
    "c3.tif": (tiff(RGB, photometric="minisblack", planarconfig="contig"), "not declared as RGB", EXPORT),
    "pages.tif": (tiff(np.stack([RGB, RGB]), photometric="rgb"), "a stack", EXPORT),
    "two_pages.tif": (two_pages, "a stack", EXPORT),
    "planes.ome.tif": (
        tiff(RGB.transpose(2, 0, 1).copy(), metadata={"axes": "CYX"}, photometric="minisblack"),
        "a stack",
        EXPORT,
    ),
    "float.tif": (tiff(RGB.astype(np.float32), photometric="rgb"), "outside [0, 1]", EXPORT),
    "nan.tif": (tiff(np.full((8, 8, 3), np.nan, np.float32), photometric="rgb"), "outside [0, 1]", EXPORT),
    "volume.nii": (nifti(np.zeros((8, 9, 7), np.uint8)), "7 channels or slices", EXPORT),
    "four_d.nii": (nifti(np.zeros((8, 9, 7, 3), np.uint8)), "a stack", EXPORT),
    "int.nii": (nifti(XY.astype(np.int16)), "int16", EXPORT),
    "bomb.tif": (tiff_header(200_000, 200_000), "claims 200000 x 200000", "copy it again"),
    "tilebomb.tif": (tiff_header(64, 64, tile=160_000), "tiles of 160000 x 160000", "tiles of 512"),
    "bomb.png": (png(RGB, claimed=(200_000, 200_000)), "178,956,970 pixels", CROP),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused_in_one_sentence(name, tmp_path):
    write, received, remedy = REFUSED[name]
    path = tmp_path / name
    write(path)
    with pytest.raises(DataError) as caught:
        read_rgb(path)
    assert_teaches(caught.value, str(path), received, remedy)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not caught.value  # what walks along the causes would not end


@pytest.mark.parametrize("name", ["missing.png", "text.png", "bomb.tif", "five.tif", "pages.tif"])
def test_the_header_alone_refuses(name, tmp_path):
    REFUSED[name][0](tmp_path / name)
    with pytest.raises(DataError, match=name):
        image_size(tmp_path / name)


def test_the_first_axis_of_a_nifti_becomes_columns(tmp_path):
    pixels = np.zeros((5, 4, 3), np.uint8)
    pixels[4, 1] = (10, 20, 30)  # x = 4, y = 1
    nifti(pixels)(tmp_path / "a.nii")
    assert read_rgb(tmp_path / "a.nii")[:, 1, 4].tolist() == [10, 20, 30]
