"""Resampling to a given pixel size: coarser images are super-resolved, finer images are reduced.

Pixel sizes are in micrometers per pixel ("mpp"): about 0.25 at 40x, 0.5 at 20x, 1.0 at 10x. The objective alone is not
precise enough: the pixel sizes of two scanners at 20x can differ by more than a tenth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.utils import WSIPatchKeys
from PIL import Image
from torch import Tensor, nn

from monai_iste.errors import DataError, ShapeError
from monai_iste.functional import to_range, upscale
from monai_iste.inferers.output_size import OutputSize, Size
from monai_iste.io.pixel_size import MPP_KEY, MPP_SPACING_KEY, Mpp, mpp_pair
from monai_iste.transforms.base import Resampling, ResamplingDict
from monai_iste.transforms.io import plain_tensor

_SIZE_TOLERANCE = 0.05  # the tolerance of MONAI's slide readers (their mpp_rtol)

_REMEDY = "Give source_mpp, in micrometers per pixel: about 0.25 for 40x, 0.5 for 20x, 1.0 for 10x; or set meta['mpp']."


def image_mpp(image: np.ndarray | Tensor) -> Mpp:
    """Read the micrometers per pixel (y, x) of an image from its metadata; never guess.

    The sources are, in this order:

    * ``meta["mpp"]``, which the transforms and the slide reader of this library write. A data list may provide it for
      the level that is read: MONAI's slide datasets copy it with ``additional_meta_keys=["mpp"]``.
    * ``meta["path"]`` and ``meta["level"]``, which MONAI's slide datasets and readers write: the pixel size is read
      from the slide file, once for each level.

    Resampling by MONAI since then changes the spacing of the affine, and the pixel size is scaled accordingly. For
    ``meta["mpp"]`` this needs ``meta["mpp_spacing"]``, the spacing at which it was written; without it, ``meta["mpp"]``
    is the pixel size of the unchanged image.

    Shape:
        image: (3, h, w).
    Raises:
        DataError: the image has no metadata, or its metadata do not state the pixel size.

    Example:
        >>> image_mpp(MetaTensor(torch.zeros(3, 8, 8), meta={"mpp": 0.5}))
        (0.5, 0.5)
    """
    meta: Mapping[str, Any] = image.meta if isinstance(image, MetaTensor) else {}
    if MPP_KEY in meta:
        mpp = mpp_pair(meta[MPP_KEY], DataError)
        spacing = meta.get(MPP_SPACING_KEY)
    elif WSIPatchKeys.PATH in meta and WSIPatchKeys.LEVEL in meta:
        mpp = _level_mpp(str(meta[WSIPatchKeys.PATH]), int(meta[WSIPatchKeys.LEVEL]))
        spacing = (1.0, 1.0)  # slide readers leave the affine at the identity
    else:
        raise DataError("an image whose pixel size is known", "one whose metadata do not state it", _REMEDY)
    if spacing is None:
        return mpp
    now = _spacing(cast(MetaTensor, image))
    return mpp[0] * now[0] / float(spacing[0]), mpp[1] * now[1] / float(spacing[1])


def _spacing(image: MetaTensor) -> tuple[float, float]:
    y, x = image.pixdim[:2].tolist()
    return y, x


@lru_cache(maxsize=1024)
def _level_mpp(path: str, level: int) -> Mpp:
    """Read the pixel size of a level from the slide file; MONAI's readers and this library number levels alike."""
    from monai_iste.slides.reader import Slide

    with Slide(path) as slide:
        if slide.mpp is None:
            raise DataError("a slide that states its pixel size", f"{path}, which does not", _REMEDY)
        if level >= len(slide.levels):
            raise DataError(f"a level below {len(slide.levels)} of {path}", f"level {level}", _REMEDY)
        (height, width), (h, w) = slide.size, slide.levels[level]
        return slide.mpp[0] * height / h, slide.mpp[1] * width / w


class SuperResolveToMpp(Resampling):
    """Resample a channel-first RGB image to a pixel size, for example a 10x slide for a pipeline trained at 40x.

    A coarser image is super-resolved by the network (:func:`monai_iste.upscale`), a finer one is reduced with
    antialiasing (Lanczos), and one within 1 % of the target is not changed. Each axis is scaled separately. The affine
    of a MetaTensor is updated, and ``meta["mpp"]`` becomes the pixel size of the result.

    The network sees this image alone. For patches that must agree where they touch, as in maps of whole slides, use
    :class:`monai_iste.slides.SuperResolvedWSIReader`.

    Args:
        mpp: pixel size of the result, one number or (y, x).
        size: exact output size (H, W), independent of rounding: 256 x 256 instead of 255.49 pixels, for example.
        source_mpp: pixel size of the images; default: that of each image's metadata (:func:`image_mpp`).
        model: a network, or the name of a preset with released weights (default: ``iste_light2``).
        device: device of the computation; default: the device of the network, or for a preset the GPU if there is one.
            The result is on the device of the image.
        precision: ``"fp32"`` or ``"bf16"``.
    Shape:
        (3, h, w) -> (3, H, W), an array for an array and a tensor for a tensor.
    Units: pixel sizes in micrometers; colors uint8 from 0 to 255, or floating point in [0, 1].
    Raises:
        DataError: the pixel size of an image is unknown.
        ShapeError: the image is not RGB, channel first, or its pixel size at the exact size differs by more than 5 %
            from ``mpp``.
        ScaleError: the result is too large.
        ConfigError: the pixel size is invalid, or the preset, weights, device or precision does not exist.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> patch = MetaTensor(torch.zeros(3, 16, 16), meta={"mpp": 1.0})
        >>> result = SuperResolveToMpp(0.25, model=network)(patch)
        >>> result.shape, result.meta["mpp"]
        (torch.Size([3, 64, 64]), (0.25, 0.25))
    """

    def __init__(
        self,
        mpp: float | tuple[float, float],
        size: tuple[int, int] | None = None,
        source_mpp: float | tuple[float, float] | None = None,
        model: nn.Module | str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        self.mpp = mpp_pair(mpp)
        self.source_mpp = None if source_mpp is None else mpp_pair(source_mpp)
        self.output_size = OutputSize(mpp=self.mpp) if size is None else OutputSize(size=size)
        self.options: dict[str, Any] = {"model": model, "device": device, "precision": precision}

    def __call__(self, image: np.ndarray | Tensor) -> np.ndarray | Tensor:
        image = self.checked(image)
        h, w = int(image.shape[1]), int(image.shape[2])
        source = image_mpp(image) if self.source_mpp is None else self.source_mpp
        height, width = self.output_size.resolve((h, w), source)
        reached = (source[0] * h / height, source[1] * w / width)
        if self.output_size.size is not None and any(
            abs(r / m - 1) > _SIZE_TOLERANCE for r, m in zip(reached, self.mpp, strict=True)
        ):
            raise ShapeError(
                f"an image that has about {_format_mpp(self.mpp)} um per pixel at the size {height} x {width}",
                f"{h} x {w} pixels of {_format_mpp(source)} um, which would have {_format_mpp(reached)}",
                "Read a patch of another size, or leave the exact size out.",
            )
        result = self.resampled(image, self._resample(plain_tensor(image), (height, width)))
        if isinstance(result, MetaTensor):
            result.meta.update({MPP_KEY: reached, MPP_SPACING_KEY: _spacing(result)})
        return result

    def _resample(self, pixels: Tensor, size: Size) -> Tensor:
        """Reduce the axes that shrink with a filter, then super-resolve the axes that grow."""
        h, w = pixels.shape[1:]
        small = min(h, size[0]), min(w, size[1])
        if small != (h, w):
            pixels = _reduce(pixels, small)
        return pixels if size == small else upscale(pixels, size=size, **self.options)


def _format_mpp(mpp: Mpp) -> str:
    y, x = mpp
    return f"{y:.4g}" if math.isclose(y, x, rel_tol=1e-3) else f"{y:.4g} x {x:.4g}"


def _reduce(pixels: Tensor, size: Size) -> Tensor:
    """Reduce an image with Pillow's antialiased Lanczos filter, as :class:`monai_iste.slides.reader.Slide` does.

    Shape:
        pixels: (3, h, w); returns (3, H, W).
    """
    integer, floating = pixels.dtype == torch.uint8, pixels.is_floating_point()
    if len(pixels) != 3 or not (integer or floating) or (floating and not (pixels.min() >= 0 and pixels.max() <= 1)):
        raise ShapeError(
            "an RGB image (3, H, W) of uint8, or of floating point in [0, 1]",
            f"{tuple(pixels.shape)} of {pixels.dtype}",
            "Reduce images before their intensities are normalized.",
        )
    channels = (pixels.float() / 255 if integer else pixels.float()).cpu().numpy()
    reduced = [np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.LANCZOS)) for c in channels]
    return to_range(torch.from_numpy(np.stack(reduced)), pixels.dtype).to(pixels.device)


class SuperResolveToMppd(ResamplingDict):
    """Dictionary version of :class:`SuperResolveToMpp`.

    Args:
        keys: images to resample.
        mpp, size, source_mpp, model, device, precision: see :class:`SuperResolveToMpp`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> transform = SuperResolveToMppd("image", 0.25, source_mpp=1.0, model=network)
        >>> transform({"image": torch.zeros(3, 16, 16)})["image"].shape
        torch.Size([3, 64, 64])
    """

    def __init__(
        self,
        keys: KeysCollection,
        mpp: float | tuple[float, float],
        size: tuple[int, int] | None = None,
        source_mpp: float | tuple[float, float] | None = None,
        model: nn.Module | str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SuperResolveToMpp(mpp, size, source_mpp, model, device, precision)


SuperResolveToMppD = SuperResolveToMppDict = SuperResolveToMppd
