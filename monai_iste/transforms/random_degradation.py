"""Low-resolution images as scanners and their files leave them: unequal optics, filters, noise and JPEG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from PIL import Image, ImageFilter
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.base import RandDegradationDictTransform
from monai_iste.transforms.degradation import checked, degrade, lr_size_at, picture_of, pixels_of
from monai_iste.transforms.io import BACKENDS

# A block of JPEG is 8 pixels wide, 16 where the color has half the resolution.
_JPEG_UNIT = 16

Reduction = Callable[[Tensor, tuple[int, int]], Tensor]


def _bicubic(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return degrade(pixels, size, "bicubic")


def _lanczos(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return pixels_of(picture_of(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def _area(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Every low-resolution pixel is the mean over its extent, parts of pixels counted as parts.

    Pillow's BOX takes or leaves whole pixels, which at scale 1.5 moves the image by a quarter of one.
    """
    rows, columns = (_overlaps(n, few) for n, few in zip(pixels.shape[1:], size, strict=True))
    return _levels(rows @ pixels.double() @ columns.T)


def _overlaps(n: int, few: int) -> Tensor:
    """Matrix (few, n): the share that each of n pixels has in each of few."""
    borders, pixel = torch.arange(few + 1, dtype=torch.float64)[:, None] * n / few, torch.arange(n)
    shared = torch.minimum(borders[1:], pixel + 1) - torch.maximum(borders[:-1], pixel)
    return shared.clamp(min=0) * few / n


def _decimation(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The value at the center of every low-resolution pixel, interpolated: it may lie between high-resolution ones.

    Taking one of those instead would move the image by half a pixel at every even scale.
    """
    return _levels(F.interpolate(pixels[None].double(), size, mode="bilinear", align_corners=False)[0])


#: How an image is brought to fewer pixels, by name; none of them moves it. ``decimation`` alone does not average and
#: needs a blur before it.
REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {"bicubic": _bicubic, "area": _area, "lanczos": _lanczos, "decimation": _decimation}
)

#: How often each is drawn. Paper silent: ours, bicubic first because the protocols have it.
REDUCTION_WEIGHTS = MappingProxyType({"bicubic": 0.5, "area": 0.25, "lanczos": 0.2, "decimation": 0.05})


@dataclass(frozen=True)
class DegradationSpec:
    """How one low-resolution image comes about: optics, sampling, sensor, file, in this order.

    Args:
        blur: strength of the Gaussian, its sigma in units of (m - 1) / 2 high-resolution pixels; 0 is none.
        reduction: a key of :data:`REDUCTIONS`.
        noise: standard deviation of the sensor's noise in 8-bit levels, for each channel by itself; 0 is none.
        seed: of the noise.
        quality: of JPEG, 1 to 100; None is a lossless file.
        subsampling: "4:2:0", color at half the resolution as most scanners write it, or "4:4:4".
        phase: how many pixels (down, right) of its first JPEG block lie outside the image, each below 16: a tile that
            was cut from a slide begins anywhere in a block. What lies outside is mirrored.
    Raises:
        ConfigError: a setting out of range.
    """

    blur: float = 1.0
    reduction: str = "bicubic"
    noise: float = 0.0
    seed: int = 0
    quality: int | None = None
    subsampling: str = "4:2:0"
    phase: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ConfigError(f"a reduction: {', '.join(REDUCTIONS)}", repr(self.reduction), "Choose one of these.")
        if not (0 <= self.blur < math.inf and 0 <= self.noise < math.inf):
            raise ConfigError("blur and noise of at least 0", f"{self.blur}, {self.noise}", "Try 1 and 0.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError("a JPEG quality from 1 to 100, or None", repr(self.quality), "Scanners have 70 to 95.")
        if self.subsampling not in ("4:2:0", "4:4:4"):
            raise ConfigError("subsampling 4:2:0 or 4:4:4", repr(self.subsampling), "Choose one of these.")
        if not all(0 <= part < _JPEG_UNIT for part in self.phase):
            raise ConfigError(f"a phase from 0 to {_JPEG_UNIT - 1}", repr(self.phase), "Take it modulo 16.")


def degrade_with(image: np.ndarray | Tensor, lr_size: tuple[int, int], scan: DegradationSpec | None = None) -> Tensor:
    """Reduce an image to ``lr_size`` as ``scan`` says.

    ``DegradationSpec()`` gives what :func:`~monai_iste.transforms.degradation.degrade` gives by ``blur_bicubic``,
    ``DegradationSpec(blur=0)`` what it gives by ``bicubic``, bit for bit.

    Paper silent: its low-resolution images are blurred and reduced, no more; those of scanners are not all alike.

    Args:
        lr_size: size (h, w) to reduce to.
        scan: the settings; None has the defaults.
    Shape:
        image: (3, H, W); returns (3, h, w).
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W). ScaleError: ``lr_size`` is empty or larger than the image.

    Example:
        >>> degrade_with(np.full((3, 9, 6), 200, np.uint8), (3, 2), DegradationSpec(reduction="area", quality=90)).shape
        torch.Size([3, 3, 2])
    """
    scan = scan or DegradationSpec()
    pixels, scale = checked(image, lr_size)
    if scan.blur > 0:
        pixels = pixels_of(picture_of(pixels).filter(ImageFilter.GaussianBlur(scan.blur * (scale - 1) / 2)))
    low = REDUCTIONS[scan.reduction](pixels, lr_size)
    if scan.noise > 0:
        noise = np.random.RandomState(scan.seed).standard_normal(low.shape)
        low = _levels(low + scan.noise * torch.from_numpy(noise))
    return low if scan.quality is None else _through_jpeg(low, scan.quality, scan.subsampling, scan.phase)


def _through_jpeg(pixels: Tensor, quality: int, subsampling: str, phase: tuple[int, int]) -> Tensor:
    """Encode and decode; whole blocks all around, as if the image had been cut from a larger one."""
    h, w = pixels.shape[1:]
    beyond = [(part, -(part + n) % _JPEG_UNIT) for part, n in zip(phase, (h, w), strict=True)]
    whole = np.pad(pixels.numpy(), [(0, 0), *beyond], mode="symmetric")
    file = io.BytesIO()
    picture_of(torch.from_numpy(whole)).save(file, "JPEG", quality=quality, subsampling=subsampling)
    decoded = pixels_of(Image.open(file))
    return decoded[:, phase[0] : phase[0] + h, phase[1] : phase[1] + w].contiguous()


def _levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).byte()


class RandMixedDegradation(RandomizableTransform):
    """Reduce an image by a scale, each time as another scanner would: :func:`degrade_with` with a random scan.

    One recipe for all low-resolution images teaches a network to undo that recipe; it then sharpens whatever differs
    from it, block borders and noise of real scans above all. Here every choice is drawn for itself, and the label stays
    clean, so that the network learns to leave out what the scan has added.

    Paper silent: all of it is ours, the numbers too. A quarter of the images has neither noise nor JPEG.

    Args:
        blur: range of the blur's strength, uniform; 1 is ``blur_bicubic``'s sigma of (m - 1) / 2.
        blur_prob: how often there is any blur. Decimation always has it, of strength 1 or more: it does not average.
        reductions: how often each of :data:`REDUCTIONS` is drawn, in any unit.
        noise: range of the noise's standard deviation in 8-bit levels, uniform.
        noise_prob: how often there is noise.
        quality: range of the JPEG quality, whole numbers, both ends included, uniform.
        jpeg_prob: how often the image goes through JPEG.
        subsampling_prob: how often JPEG halves the resolution of color (4:2:0; else 4:4:4).
        phase_prob: how often the image begins inside a block, uniformly anywhere; else at its corner.
    Shape:
        (3, H, W) -> (3, round(H / scale), round(W / scale)), at least 1 x 1; what was drawn is :attr:`scan`.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> degradation = RandMixedDegradation().set_random_state(0)
        >>> degradation(np.zeros((3, 100, 63), np.uint8), 3.7).shape, degradation.scan.reduction
        (torch.Size([3, 27, 17]), 'area')
    """

    backend = BACKENDS

    def __init__(
        self,
        blur: tuple[float, float] = (0.0, 1.2),
        blur_prob: float = 0.85,
        reductions: Mapping[str, float] = REDUCTION_WEIGHTS,
        noise: tuple[float, float] = (0.0, 2.0),
        noise_prob: float = 0.5,
        quality: tuple[int, int] = (30, 95),
        jpeg_prob: float = 0.5,
        subsampling_prob: float = 0.5,
        phase_prob: float = 0.5,
    ) -> None:
        super().__init__()
        _check_range("blur", blur, 0, math.inf)
        _check_range("noise", noise, 0, math.inf)
        _check_range("quality", quality, 1, 100)
        chances = (blur_prob, noise_prob, jpeg_prob, subsampling_prob, phase_prob)
        if not all(0 <= chance <= 1 for chance in chances):
            raise ConfigError("probabilities in [0, 1]", str(chances), "0 is never, 1 is always.")
        if min(reductions.values(), default=-1) < 0 or sum(reductions.values()) <= 0:
            raise ConfigError("weights of reductions, some above 0", str(dict(reductions)), "Try {'bicubic': 1}.")
        for name in reductions:
            DegradationSpec(reduction=name)
        self.blur, self.noise, self.quality, self.reductions = blur, noise, quality, dict(reductions)
        self.blur_prob, self.noise_prob, self.jpeg_prob, self.subsampling_prob, self.phase_prob = chances
        self.scan = DegradationSpec()

    def randomize(self, data: Any = None) -> None:
        """Draw the next :attr:`scan`; every call draws as many numbers, whatever they decide."""
        weights = np.array(list(self.reductions.values()))
        reduction = list(self.reductions)[self.R.choice(len(weights), p=weights / weights.sum())]
        blurred, noisy, compressed, subsampled, shifted = self.R.uniform(size=5)
        blur, noise = self.R.uniform(*self.blur), self.R.uniform(*self.noise)
        seed, quality = self.R.randint(2**31), self.R.randint(self.quality[0], self.quality[1] + 1)
        down, right = (int(part) for part in self.R.randint(_JPEG_UNIT, size=2))
        blur = blur if blurred < self.blur_prob else 0.0
        self.scan = DegradationSpec(
            blur=max(1.0, blur) if reduction == "decimation" else blur,
            reduction=reduction,
            noise=noise if noisy < self.noise_prob else 0.0,
            seed=int(seed),
            quality=int(quality) if compressed < self.jpeg_prob else None,
            subsampling="4:2:0" if subsampled < self.subsampling_prob else "4:4:4",
            phase=(down, right) if shifted < self.phase_prob else (0, 0),
        )

    def __call__(self, image: np.ndarray | Tensor, scale: float, randomize: bool = True) -> Tensor:  # type: ignore[override]
        size = lr_size_at(image, scale)
        if randomize:
            self.randomize()
        return degrade_with(image, size, self.scan)


def _check_range(name: str, value: tuple[float, float], low: float, high: float) -> None:
    if not (len(value) == 2 and low <= value[0] <= value[1] <= high and value[1] < math.inf):
        bounds = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ConfigError(f"{name} (low, high) {bounds}, low <= high", repr(value), "Give the smaller one first.")


class RandMixedDegradationd(RandDegradationDictTransform):
    """Dictionary version of :class:`RandMixedDegradation`: the image becomes the label, its reduction the image.

    Both are plain uint8 tensors afterwards.

    Args:
        keys: images; each is replaced by its reduction, all by the same scan.
        label_key: where the full-resolution image goes, one per key.
        scale_key: where the scale is found.
        blur, blur_prob, reductions, noise, noise_prob, quality, jpeg_prob, subsampling_prob, phase_prob: see
            :class:`RandMixedDegradation`.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> degradation = RandMixedDegradationd().set_random_state(0)
        >>> data = degradation({"image": np.zeros((3, 96, 96), np.uint8), "scale": 2.0})
        >>> data["image"].shape, data["label"].shape
        (torch.Size([3, 48, 48]), torch.Size([3, 96, 96]))
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        label_key: KeysCollection = "label",
        scale_key: str = "scale",
        blur: tuple[float, float] = (0.0, 1.2),
        blur_prob: float = 0.85,
        reductions: Mapping[str, float] = REDUCTION_WEIGHTS,
        noise: tuple[float, float] = (0.0, 2.0),
        noise_prob: float = 0.5,
        quality: tuple[int, int] = (30, 95),
        jpeg_prob: float = 0.5,
        subsampling_prob: float = 0.5,
        phase_prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, label_key, allow_missing_keys)
        self.scale_key = scale_key
        self.degradation = RandMixedDegradation(
            blur, blur_prob, reductions, noise, noise_prob, quality, jpeg_prob, subsampling_prob, phase_prob
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        scale = float(data[self.scale_key])
        return self.degraded(data, lambda image, first: self.degradation(image, scale, first))


RandMixedDegradationD = RandMixedDegradationDict = RandMixedDegradationd
