"""Reading of images that are decoded as a whole: what Pillow reads, and NIfTI."""

from __future__ import annotations

import math
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile

from monai_iste.errors import DataError, ISTEError
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.checks import check_file, check_memory, check_size
from monai_iste.io.codestreams import check_jpeg_tables
from monai_iste.io.orientation import ORIENTATION_TAG, swaps_axes, upright, upright_size, valid_orientation
from monai_iste.io.pixel_size import PixelSize, find_mpp, first_plausible
from monai_iste.io.png_chunks import find_chunk, has_all_rows, transparent_color
from monai_iste.io.samples import Samples, not_rgb, to_rgb8
from monai_iste.io.stated_pixel_size import Stated, density_mpp, nifti_mpp

#: Formats that are read through Pillow.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "I;16", "I;16B", "I;16L")
_GZIP_RATIO = 1100  # deflate makes at most 1,032 bytes of one

Size = tuple[int, int]


class Header(NamedTuple):
    """Header of an image.

    Attributes:
        kind: as in :class:`~monai_iste.io.image_reader.ImageInfo`.
        size: (H, W), upright.
        icc: color profile.
        stated: pixel sizes that it states.
    """

    kind: str
    size: Size
    icc: bytes | None = None
    stated: tuple[Stated, ...] = ()


class WholeImagePixels:
    """Image that is decoded at the first reading and kept in memory; safe to read from several threads.

    Args:
        read_header, decode: of the path; :func:`read_pillow_header`, :func:`decode_pillow` and their like.
    Attributes:
        cache: keeps the decoded image; may be replaced by one that others use too.
    """

    note = ""
    steps: tuple[float, ...] = (1.0,)

    def __init__(self, path: Path, read_header: Callable[[Path], Header], decode: Callable[[Path], np.ndarray]) -> None:
        self._path, self._decode, self._lock = path, decode, Lock()
        header = read_header(path)
        self.kind, self._icc, self._stated = header.kind, header.icc, header.stated
        if self.kind != "nifti":  # its size was compared with its bytes
            check_size(path, header.size)
        check_memory(path, header.size)
        self.levels: tuple[Size, ...] = (header.size,)
        self.cache = ByteCache(2**62)
        self._is_open, self._key = True, object()

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        with self._lock:  # two threads would decode it twice
            if not self._is_open:
                raise DataError(
                    f"the slide {self._path} to be open", "one that was closed", "Read inside its with block."
                )
            pixels: np.ndarray | None = self.cache.get(self._key)
            if pixels is None:
                pixels = self._decode_whole()
                self.cache.put(self._key, pixels)
            return pixels[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]

    def _decode_whole(self) -> np.ndarray:
        check_file(self._path)
        try:
            pixels = self._decode(self._path)
        except ISTEError:
            raise
        except Exception as error:  # any error of a decoder
            raise as_data_error(error, self._path) from error
        if pixels.shape[:2] != self.levels[0]:
            raise DataError(f"{self._path} as it was opened", "an image of another size", "Open it again.")
        return np.ascontiguousarray(pixels)

    def pixel_size(self) -> PixelSize:
        return find_mpp(self._path) if self.kind == "tiff" else first_plausible(self._stated)

    def icc(self) -> bytes | None:
        return self._icc

    def close(self) -> None:
        self._is_open = False
        self.cache.discard(lambda key: key is self._key)


# --- Pillow -----------------------------------------------------------------------------------------------------------


def read_pillow_header(path: Path, formats: tuple[str, ...] = PILLOW_FORMATS) -> Header:
    """Read the header of an image that Pillow decodes.

    Raises:
        DataError: it is an animation, or not RGB, gray or a palette.
    """
    with Image.open(path, formats=formats) as image:
        _check_mode(image, path)
        turned = image.format == "TIFF" and swaps_axes(valid_orientation(image.getexif().get(ORIENTATION_TAG)))
        if turned and image.info.get("compression") == "raw":  # which Pillow distorts
            raise not_rgb(path, "an uncompressed image that is stored turned")
        kind = "jpeg" if image.format == "MPO" else (image.format or "").lower()
        stated = tuple(density_mpp(image.info.get("dpi"), kind))  # along (x, y) as stored; it is not believed
        size = upright_size(image.size[::-1], image_orientation(image))
        return Header(kind, size, image.info.get("icc_profile"), stated)


def decode_pillow(path: Path, formats: tuple[str, ...] = PILLOW_FORMATS) -> np.ndarray:
    """Decode an image by Pillow to upright (H, W, 3) uint8."""
    with Image.open(path, formats=formats) as image:
        _check_mode(image, path)
        if image.format in ("JPEG", "MPO"):
            with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                check_jpeg_tables(data)
        orientation = image_orientation(image)
        return upright(_pillow_rgb(image, path), orientation)


def image_orientation(image: ImageFile.ImageFile) -> int:
    """Read the orientation in which Pillow leaves an image, 1 to 8."""
    if image.format == "TIFF":  # Pillow turns it, and states the size that it has then
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        exif = b"" if image.fp is None else find_chunk(image.fp, b"eXIf")  # it may stand behind the pixels
        image.info |= {"exif": b"Exif\0\0" + exif} if exif else {}
    try:
        exif_data = Image.Image.getexif(image)  # that of PNG decodes the image
        return valid_orientation(exif_data.get(ORIENTATION_TAG))
    except Exception:  # damaged EXIF raises various errors; the image is then left as it is
        return 1


def _check_mode(image: ImageFile.ImageFile, path: Path) -> None:
    # A photograph in the MPO format has previews and the like behind it.
    if getattr(image, "n_frames", 1) > 1 and image.format in ("PNG", "WEBP", "TIFF"):
        raise not_rgb(path, "a stack of several pages or slices")
    if image.mode not in _MODES:
        raise not_rgb(path, f"an image of mode {image.mode}")


def _pillow_rgb(image: ImageFile.ImageFile, path: Path) -> np.ndarray:
    tile = image.tile[0] if image.format == "PNG" and image.tile else None  # until the pixels are there
    rawmode = "" if tile is None else str(tile.args)
    if image.format == "PNG":
        _check_rows(image, path)
        if image.mode in ("L", "RGB") and "transparency" in image.info and not rawmode.endswith("16B"):
            bits = int(rawmode[2:] or 8) if rawmode.startswith("L") else 8
            image.info["transparency"] = transparent_color(image.info["transparency"], bits)
    if tile is not None and rawmode in ("RGB;16B", "RGBA;16B"):
        return _sixteen_bit_png(image, tile, path)
    if rawmode == "LA;16B" or image.mode.startswith("I;16"):
        raise not_rgb(path, "uint16 grayscale, which may be fluorescence")
    if image.format == "BMP" and image.mode == "RGBA" and not np.asarray(image)[..., 3].any():
        return np.asarray(image)[..., :3]  # as browsers do: most writers leave the fourth byte at 0
    if image.has_transparency_data:
        return to_rgb8(np.asarray(image.convert("RGBA")), Samples(3, alpha="unassociated"), path)
    if image.mode == "P":
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image)
    return to_rgb8(np.atleast_3d(pixels), Samples(1 if pixels.ndim == 2 else 3), path)


def _check_rows(image: ImageFile.ImageFile, path: Path) -> None:
    """Raise DataError if the data of a PNG end before its last row; Pillow leaves the rest at 0."""
    last = np.asarray(image)[-2:]
    if not last.reshape(len(last), -1).any(axis=1).all():
        with open(path, "rb") as file:
            if not has_all_rows(file):
                raise DataError(f"all rows of {path}", "a file whose data end before", "Copy or export it again.")


def _sixteen_bit_png(image: ImageFile.ImageFile, tile: ImageFile._Tile, path: Path) -> np.ndarray:
    """Decode a 16-bit RGB(A) PNG: Pillow keeps one byte of two, so the data are read in either byte order."""
    high = np.asarray(image).astype(np.uint16)
    with Image.open(path, formats=("PNG",)) as again:
        again.tile = [tile._replace(args=str(tile.args).replace("16B", "16L"))]
        pixels = high << 8 | np.asarray(again)
    key = image.info.get("transparency")  # one color that is transparent
    if pixels.shape[2] == 3 and isinstance(key, tuple):
        visible = (pixels != np.array(key, np.uint16)).any(axis=2, keepdims=True)
        pixels = np.concatenate([pixels, visible * np.uint16(65_535)], axis=2)
    return to_rgb8(pixels, Samples(3, 16, "unassociated" if pixels.shape[2] == 4 else ""), path)


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def read_nifti_header(path: Path) -> Header:
    """Read the header of a two-dimensional NIfTI file.

    Raises:
        DataError: it claims more values than its bytes can hold.
    """
    import nibabel  # only here: other files do not need it, and it takes a while

    image = cast(nibabel.Nifti1Image, nibabel.load(path))
    width, height = image.shape[:2]
    claimed, stored = math.prod(image.shape) * image.get_data_dtype().itemsize, path.stat().st_size
    if claimed > stored * (_GZIP_RATIO if path.name.lower().endswith(".gz") else 1):
        raise DataError(
            f"{claimed:,} bytes of pixels in {path}", f"a file of {stored:,} bytes", "Copy or export it again."
        )
    return Header("nifti", (height, width), stated=tuple(nifti_mpp(image.header)))


def decode_nifti(path: Path) -> np.ndarray:
    """Decode a two-dimensional NIfTI file to (H, W, 3) uint8; rows are y."""
    import nibabel

    image = cast(nibabel.Nifti1Image, nibabel.load(path))
    shape = image.shape
    data = np.asanyarray(image.dataobj).reshape((*shape[:2], *(n for n in shape[2:] if n != 1)))
    if data.dtype.names:
        data = np.stack([data[name] for name in data.dtype.names], axis=-1)
    if data.ndim not in (2, 3):
        raise not_rgb(path, f"a stack of shape {data.shape}")
    return to_rgb8(*_nifti_samples(np.atleast_3d(data.swapaxes(0, 1)), path), path)


def _nifti_samples(pixels: np.ndarray, path: Path) -> tuple[np.ndarray, Samples]:
    channels, dtype = pixels.shape[2], pixels.dtype
    if channels not in (1, 3, 4):
        raise not_rgb(path, f"{channels} channels or slices, which may be fluorescence")
    if channels == 1 and dtype != np.uint8:
        raise not_rgb(path, f"{dtype} grayscale, which may be fluorescence")
    if dtype not in (np.uint8, np.uint16) and dtype.kind != "f":
        raise not_rgb(path, f"{dtype} values")
    alpha = "unassociated" if channels == 4 else ""
    return pixels, Samples(1 if channels == 1 else 3, 16 if dtype == np.uint16 else 8, alpha)


def as_data_error(error: Exception, path: Path) -> DataError:
    """Convert any error of a decoder to a DataError that names the file."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(
        f"a readable image in {path}", f"a damaged or unsupported file ({reason})", "Copy or export it again."
    )
