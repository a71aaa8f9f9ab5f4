"""Reading of image files: the pixels as 8-bit RGB, and the header as :class:`ImageInfo`.

Images are held in memory; regions of whole slides are read by :mod:`monai_iste.slides`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import tifffile
from PIL import Image, ImageFile

from monai_iste.errors import DataError, ISTEError
from monai_iste.io.pixel_size import Mpp, PixelSize, Stated, first_plausible, tiff_mpp, vendor_mpp
from monai_iste.io.tiff_pages import main_image

#: Largest width * height that is decoded: a file of a few bytes can claim terabytes. (Pillow stops earlier, at 179
#: million, for what it decodes: PNG, JPEG, BMP and 8-bit TIFF.)
MAX_PIXELS = 400_000_000

_PILLOW = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (".tif", ".tiff", ".svs")
_NIFTI = (".nii", ".nii.gz")

#: File name suffixes that :func:`read_rgb` reads, lower case.
IMAGE_SUFFIXES = _PILLOW + _TIFF + _NIFTI

#: File name endings of slides, lower case; DICOM, of which one slide is many files, is not among them.
SLIDE_ENDINGS = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu", ".czi")


def read_rgb(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode a PNG, JPEG, BMP, TIFF, SVS or two-dimensional NIfTI file to 8-bit RGB.

    * 8-bit RGB is returned as stored; color profiles and EXIF orientation are left alone.
    * 8-bit grayscale is repeated in three channels, palettes are looked up.
    * Transparency is composited over white, the color of the background.
    * 16-bit RGB is divided by 257 and rounded; float RGB must lie in [0, 1] and is multiplied by 255.
    * 16-bit or float grayscale, and anything of 2 or more than 4 channels, is refused: it may be fluorescence.
    * Several pages or slices of equal size are refused; of a pyramid, the full-resolution level is read.
    * NIfTI stores (x, y): its axes are swapped, so that rows are y. Its affine is not applied.

    Shape:
        returns (3, H, W), contiguous, rows from top to bottom.
    Units: uint8, 0 to 255.
    Raises:
        DataError: the file is missing, damaged, larger than :data:`MAX_PIXELS`, or not an RGB image. The sentence names
            the file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "gray.png"
        >>> Image.new("L", (4, 2), 7).save(file)
        >>> read_rgb(file).shape, int(read_rgb(file).max())
        ((3, 2, 4), 7)
    """
    with _opened(Path(path)) as source:
        pixels = _eight_bit_rgb(source.decode(), Path(path)).transpose(2, 0, 1)
        return np.require(pixels, requirements=["C", "W"])  # a decoded image may be read-only


class ImageInfo(NamedTuple):
    """Header of an image file.

    Attributes:
        size: declared (H, W).
        pixel_size: micrometers per pixel, and their source.
        icc: RGB color profile, or None. A profile of another color space (of a gray image, say) would not describe the
            RGB that :func:`read_rgb` returns, and is left out.
        kind: format of the file: "png", "jpeg", "bmp", "tiff" or "nifti".
        note: sentence for the user where not the first page is read (:func:`~monai_iste.io.tiff_pages.choose_page`).
    """

    size: tuple[int, int]
    pixel_size: PixelSize
    icc: bytes | None
    kind: str
    note: str = ""

    @property
    def mpp(self) -> Mpp | None:
        """Micrometers per pixel, (y, x); None if unknown."""
        return self.pixel_size.mpp


def probe(path: str | os.PathLike[str], input_mpp: float | None = None) -> ImageInfo:
    """Read the header of an image file, without its pixels.

    Args:
        input_mpp: micrometers per pixel given by the user, instead of the file's.
    Raises:
        DataError: as :func:`read_rgb`, as far as the header shows it.
        ConfigError: ``input_mpp`` is not above 0.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (4, 2)).save(file)
        >>> info = probe(file)
        >>> info.size, info.mpp, info.kind
        ((2, 4), None, 'png')
    """
    with _opened(Path(path)) as source:
        icc = source.icc()
        pixel_size = first_plausible(source.stated()).overridden(input_mpp)
        icc = icc if icc and icc[16:20] == b"RGB " else None
        return ImageInfo(source.size, pixel_size, icc, source.kind, source.note)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read the declared size (H, W) of an image file.

    Raises:
        DataError: as :func:`read_rgb`, as far as the header shows it.
    """
    with _opened(Path(path)) as source:
        return source.size


class _Source(NamedTuple):
    """Opened image file.

    Attributes:
        kind, size, note: as in :class:`ImageInfo`.
        nbytes: bytes that it would decode to.
        decode: decodes it to (H, W[, C]).
        icc: reads its color profile.
        stated: reads the pixel sizes that it states.
    """

    kind: str
    size: tuple[int, int]
    nbytes: int
    decode: Callable[[], np.ndarray]
    icc: Callable[[], bytes | None] = lambda: None
    stated: Callable[[], Iterable[Stated]] = lambda: ()
    note: str = ""


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    suffix = next((s for s in reversed(IMAGE_SUFFIXES) if path.name.lower().endswith(s)), None)
    if not path.exists():
        raise DataError("an image file", f"{path}, which does not exist", "Check the path.")
    if path.is_dir():
        raise DataError("an image file", f"the folder {path}", "Name a file in it.")
    if suffix is None:
        raise DataError(f"an image file ({', '.join(IMAGE_SUFFIXES)})", str(path), "Convert it to PNG or TIFF.")
    if path.stat().st_size == 0:
        raise DataError("an image file", f"{path}, which is empty", "Copy or export it again.")
    open_source = _open_pillow if suffix in _PILLOW else _open_tiff if suffix in _TIFF else _open_nifti
    try:
        with open_source(path) as source:
            _check_memory(source, path)
            yield source
    except ISTEError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more, which Pillow does not decode", 2 * (Image.MAX_IMAGE_PIXELS or 0)) from error
    except Exception as error:  # any error of a decoder
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = "Copy or export it again" + (", or install monai_iste[slides]." if "imagecodecs" in reason else ".")
        raise DataError(f"a readable image in {path}", f"a damaged or unsupported file ({reason})", remedy) from error


def _too_large(path: Path, received: str, limit: int = MAX_PIXELS) -> DataError:
    return DataError(f"at most {limit:,} pixels in {path}", received, "Crop it, or cut it into tiles, before training.")


def _check_memory(source: _Source, path: Path) -> None:
    height, width = source.size
    if height * width > MAX_PIXELS:
        raise _too_large(path, f"a header that claims {width} x {height}")
    if source.nbytes > 4 * MAX_PIXELS:
        raise _too_large(path, f"a header that claims {source.nbytes:,} bytes of pixels")


@contextmanager
def _open_pillow(path: Path) -> Iterator[_Source]:
    with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
        yield _Source(
            kind=(image.format or "").lower(),
            size=image.size[::-1],
            nbytes=4 * math.prod(image.size),
            decode=lambda: _pillow_pixels(image, path),
            icc=lambda: image.info.get("icc_profile"),
        )


@contextmanager
def _open_tiff(path: Path) -> Iterator[_Source]:
    with tifffile.TiffFile(path) as tiff:
        page, _, is_stack, note = main_image(tiff)
        channels, dtype = page.samplesperpixel, np.dtype(page.dtype)
        if is_stack:
            raise _not_rgb(path, "a stack of several pages or slices")
        color = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        if channels > 1 and not color:
            raise _not_rgb(path, f"{channels} channels that are not declared as RGB, which may be fluorescence")

        def decode() -> np.ndarray:
            if dtype == np.uint8:  # Pillow knows palettes, inverted grays and the common compressions
                try:
                    with Image.open(path, formats=("TIFF",)) as image:
                        image.seek(page.index)
                        return _pillow_pixels(image, path)
                except OSError:  # not JPEG 2000, nor JPEG as some scanners write it
                    if not color:
                        raise
            pixels = page.asarray()
            return np.moveaxis(pixels, page.axes.index("S"), -1) if "S" in page.axes else pixels

        def icc() -> bytes | None:
            tag = page.tags.get("InterColorProfile")
            return None if tag is None else bytes(tag.value)

        yield _Source(
            kind="tiff",
            size=(page.imagelength, page.imagewidth),
            # A small image may still be declared in one huge tile, which the decoder would allocate.
            nbytes=max(math.prod(page.chunks), math.prod(page.shape)) * dtype.itemsize,
            decode=decode,
            icc=icc,
            stated=lambda: chain(vendor_mpp(path), tiff_mpp(tiff, page)),
            note=note,
        )


@contextmanager
def _open_nifti(path: Path) -> Iterator[_Source]:
    import nibabel  # only here: other files do not need it, and it takes a while

    image = cast(nibabel.Nifti1Image, nibabel.load(path))
    dtype, shape = image.get_data_dtype(), image.shape
    kept = (*shape[:2], *(n for n in shape[2:] if n != 1))
    width, height = shape[:2]

    def decode() -> np.ndarray:
        data = np.asanyarray(image.dataobj).reshape(kept)
        if data.dtype.names:
            data = np.stack([data[name] for name in data.dtype.names], axis=-1)
        return data.swapaxes(0, 1)

    yield _Source("nifti", (height, width), math.prod(shape) * dtype.itemsize, decode)


def _pillow_pixels(image: ImageFile.ImageFile, path: Path) -> np.ndarray:
    """Decode an opened image to (H, W) or (H, W, 3 or 4), uint8 or uint16."""
    rawmode = image.tile[0].args if image.format == "PNG" and image.tile else ""
    if rawmode in ("RGB;16B", "RGBA;16B"):
        return _sixteen_bit_png(image, rawmode, path)
    if rawmode == "LA;16B":
        raise _not_rgb(path, "16-bit grayscale, which may be fluorescence")
    if image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B", "I;16L"):
        raise _not_rgb(path, f"an image of mode {image.mode}")
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def _sixteen_bit_png(image: ImageFile.ImageFile, rawmode: str, path: Path) -> np.ndarray:
    """Decode a 16-bit RGB(A) PNG: Pillow keeps one byte of two, so the data are read in either byte order."""
    tile = image.tile[0]
    high = np.asarray(image).astype(np.uint16)
    with Image.open(path, formats=("PNG",)) as again:
        again.tile = [tile._replace(args=rawmode.replace("16B", "16L"))]
        return high << 8 | np.asarray(again)


def _eight_bit_rgb(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Convert (H, W) or (H, W, C) of any number type to (H, W, 3) uint8, by the rules of :func:`read_rgb`."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3:
        raise _not_rgb(path, f"a stack of shape {pixels.shape}")
    channels, kind = pixels.shape[2], pixels.dtype
    if channels not in (1, 3, 4):
        raise _not_rgb(path, f"{channels} channels or slices, which may be fluorescence")
    if channels == 1 and kind != np.uint8:
        raise _not_rgb(path, f"{kind} grayscale, which may be fluorescence")
    if kind == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif kind.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # also true of NaN
            raise _not_rgb(path, f"{kind} values outside [0, 1]")
        pixels = np.round(pixels * 255).astype(np.uint8)
    elif kind != np.uint8:
        raise _not_rgb(path, f"{kind} values")
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    if channels == 4:
        color, opacity = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        pixels = ((color * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
    return pixels


def _not_rgb(path: Path, received: str) -> DataError:
    return DataError(f"one RGB image in {path}", received, "Export it as 8-bit RGB, in PNG or TIFF.")
