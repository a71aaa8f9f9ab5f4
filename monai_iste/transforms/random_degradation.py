"""Random degradations that imitate different scanners and their files: blur, reduction filter, noise and JPEG."""

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

from monai_iste.errors import ConfigError, check_choice
from monai_iste.transforms.base import RandDegradationDictTransform
from monai_iste.transforms.degradation import (
    blur_in_lr_pixels,
    check_reduction,
    degrade,
    from_pillow,
    lr_size_at,
    to_pillow,
)
from monai_iste.transforms.io import BACKENDS

# A JPEG block covers 8 pixels per axis, 16 where the color channels have half the resolution.
_JPEG_UNIT = 16

Reduction = Callable[[Tensor, tuple[int, int]], Tensor]


def _bicubic(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return degrade(pixels, size, "bicubic")


def _lanczos(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return from_pillow(to_pillow(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def _area(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Average over the area of every low-resolution pixel; partly covered pixels count by their covered part.

    Pillow's BOX filter uses whole pixels, which shifts the image by a quarter of a pixel at scale 1.5.
    """
    rows, columns = (_area_weights(n, n_out) for n, n_out in zip(pixels.shape[1:], size, strict=True))
    return _to_uint8(rows @ pixels.double() @ columns.T)


def _area_weights(n: int, n_out: int) -> Tensor:
    """Build the matrix (n_out, n) of weights with which n pixels contribute to n_out area averages."""
    borders, pixel = torch.arange(n_out + 1, dtype=torch.float64)[:, None] * n / n_out, torch.arange(n)
    covered = torch.minimum(borders[1:], pixel + 1) - torch.maximum(borders[:-1], pixel)
    return covered.clamp(min=0) * n_out / n


def _decimation(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate the value at the center of every low-resolution pixel, without averaging.

    Picking the nearest high-resolution pixel instead would shift the image by half a pixel at every even scale.
    """
    return _to_uint8(F.interpolate(pixels[None].double(), size, mode="bilinear", align_corners=False)[0])


#: Reduction filters by name; none of them shifts the image. ``decimation`` does not average and needs a blur before it.
REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {"bicubic": _bicubic, "area": _area, "lanczos": _lanczos, "decimation": _decimation}
)

#: Probability of each filter. Not specified in the paper; our choice: bicubic most often, as in the protocols.
REDUCTION_WEIGHTS = MappingProxyType({"bicubic": 0.5, "area": 0.25, "lanczos": 0.2, "decimation": 0.05})


@dataclass(frozen=True)
class DegradationSpec:
    """Parameters of one degradation, applied in the order blur, reduction, noise, JPEG.

    Args:
        blur: sigma of the Gaussian blur, in units of (m - 1) / 2 high-resolution pixels; 0 disables it.
        reduction: a key of :data:`REDUCTIONS`.
        noise: standard deviation of the sensor noise in 8-bit levels, independent per channel; 0 disables it.
        seed: seed of the noise.
        quality: JPEG quality, 1 to 100; None disables JPEG.
        subsampling: "4:2:0" (color at half the resolution, as most scanners write it) or "4:4:4".
        phase: offset (down, right) of the image inside its first JPEG block, each below 16. A tile that is cut from a
            slide begins anywhere in a block. The pixels outside the image are mirrored.
    Raises:
        ConfigError: a parameter is out of range.
    """

    blur: float = 1.0
    reduction: str = "bicubic"
    noise: float = 0.0
    seed: int = 0
    quality: int | None = None
    subsampling: str = "4:2:0"
    phase: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_choice("a reduction", self.reduction, REDUCTIONS)
        if not (0 <= self.blur < math.inf and 0 <= self.noise < math.inf):
            raise ConfigError("blur and noise of at least 0", f"{self.blur}, {self.noise}", "Try 1 and 0.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError("a JPEG quality from 1 to 100, or None", repr(self.quality), "Scanners have 70 to 95.")
        check_choice("a subsampling", self.subsampling, ("4:2:0", "4:4:4"))
        if not all(0 <= part < _JPEG_UNIT for part in self.phase):
            raise ConfigError(f"a phase from 0 to {_JPEG_UNIT - 1}", repr(self.phase), "Take it modulo 16.")


def check_range(name: str, value: tuple[float, float], low: float, high: float) -> None:
    """Raise ConfigError unless ``value`` is (smallest, largest) with both from ``low`` to ``high``."""
    if not (len(value) == 2 and low <= value[0] <= value[1] <= high and value[1] < math.inf):
        bounds = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ConfigError(f"{name} (low, high) {bounds}, low <= high", repr(value), "Give the smaller one first.")


def degrade_with(image: np.ndarray | Tensor, lr_size: tuple[int, int], spec: DegradationSpec | None = None) -> Tensor:
    """Reduce an image to ``lr_size`` with the parameters of ``spec``.

    ``DegradationSpec()`` equals ``blur_bicubic`` of :func:`~monai_iste.transforms.degradation.degrade`, and
    ``DegradationSpec(blur=0)`` equals its ``bicubic``, bit for bit.

    Not specified in the paper; our choice: noise, JPEG and the other filters. The paper blurs and reduces only.

    Args:
        lr_size: size (h, w) to reduce to.
        spec: the parameters; None uses the defaults.
    Shape:
        image: (3, H, W); returns (3, h, w).
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of shape (3, H, W).
        ScaleError: ``lr_size`` is empty or larger than the image.

    Example:
        >>> degrade_with(np.full((3, 9, 6), 200, np.uint8), (3, 2), DegradationSpec(reduction="area", quality=90)).shape
        torch.Size([3, 3, 2])
    """
    spec = spec or DegradationSpec()
    pixels, scale = check_reduction(image, lr_size)
    if spec.blur > 0:
        pixels = from_pillow(to_pillow(pixels).filter(ImageFilter.GaussianBlur(spec.blur * (scale - 1) / 2)))
    low = REDUCTIONS[spec.reduction](pixels, lr_size)
    if spec.noise > 0:
        noise = np.random.RandomState(spec.seed).standard_normal(low.shape)
        low = _to_uint8(low + spec.noise * torch.from_numpy(noise))
    return low if spec.quality is None else _jpeg_round_trip(low, spec.quality, spec.subsampling, spec.phase)


def _jpeg_round_trip(pixels: Tensor, quality: int, subsampling: str, phase: tuple[int, int]) -> Tensor:
    """Encode and decode as JPEG, padded to whole blocks as if the image had been cut from a larger one."""
    h, w = pixels.shape[1:]
    padding = [(offset, -(offset + n) % _JPEG_UNIT) for offset, n in zip(phase, (h, w), strict=True)]
    padded = np.pad(pixels.numpy(), [(0, 0), *padding], mode="symmetric")
    file = io.BytesIO()
    to_pillow(torch.from_numpy(padded)).save(file, "JPEG", quality=quality, subsampling=subsampling)
    decoded = from_pillow(Image.open(file))
    return decoded[:, phase[0] : phase[0] + h, phase[1] : phase[1] + w].contiguous()


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).byte()


class RandMixedDegradation(RandomizableTransform):
    """Reduce an image by a scale with a randomly drawn :class:`DegradationSpec`, as different scanners would.

    A network that is trained on one recipe learns to invert that recipe. On real scans it then sharpens everything that
    differs, block borders and noise above all. Here every parameter is drawn independently and the label stays clean,
    so that the network learns to suppress what a scanner and its file add.

    Not specified in the paper; our choice: all of it, including the numbers. A quarter of the images has neither noise
    nor JPEG.

    Args:
        blur: range of the blur, uniform; 1 is the sigma (m - 1) / 2 of ``blur_bicubic``.
        blur_prob: probability of a blur. Decimation does not average, so it always gets a blur of at least 1.
        reductions: relative probability of each of :data:`REDUCTIONS`.
        noise: range of the standard deviation of the noise in 8-bit levels, uniform.
        noise_prob: probability of noise.
        quality: range of the JPEG quality, whole numbers, both ends included, uniform.
        jpeg_prob: probability of JPEG compression.
        subsampling_prob: probability of color at half the resolution (4:2:0) in JPEG; else 4:4:4.
        phase_prob: probability of an image that begins at a random position inside a block; else at its corner.
    Shape:
        (3, H, W) -> (3, round(H / scale), round(W / scale)), at least 1 x 1; the drawn parameters are :attr:`spec`.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a parameter is out of range.
        ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> degradation = RandMixedDegradation().set_random_state(0)
        >>> degradation(np.zeros((3, 100, 63), np.uint8), 3.7).shape, degradation.spec.reduction
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
        check_range("blur", blur, 0, math.inf)
        check_range("noise", noise, 0, math.inf)
        check_range("quality", quality, 1, 100)
        probs = (blur_prob, noise_prob, jpeg_prob, subsampling_prob, phase_prob)
        if not all(0 <= prob <= 1 for prob in probs):
            raise ConfigError("probabilities in [0, 1]", str(probs), "0 is never, 1 is always.")
        if min(reductions.values(), default=-1) < 0 or sum(reductions.values()) <= 0:
            raise ConfigError("weights of reductions, some above 0", str(dict(reductions)), "Try {'bicubic': 1}.")
        for name in reductions:
            DegradationSpec(reduction=name)
        self.blur, self.noise, self.quality, self.reductions = blur, noise, quality, dict(reductions)
        self.blur_prob, self.noise_prob, self.jpeg_prob, self.subsampling_prob, self.phase_prob = probs
        self.spec = DegradationSpec()

    def randomize(self, data: Any = None) -> None:
        """Draw :attr:`spec`; every call consumes the same number of random numbers."""
        weights = np.array(list(self.reductions.values()))
        reduction = list(self.reductions)[self.R.choice(len(weights), p=weights / weights.sum())]
        blur_draw, noise_draw, jpeg_draw, subsampling_draw, phase_draw = self.R.uniform(size=5)
        blur, noise = self.R.uniform(*self.blur), self.R.uniform(*self.noise)
        seed, quality = self.R.randint(2**31), self.R.randint(self.quality[0], self.quality[1] + 1)
        down, right = (int(part) for part in self.R.randint(_JPEG_UNIT, size=2))
        blur = blur if blur_draw < self.blur_prob else 0.0
        self.spec = DegradationSpec(
            blur=max(1.0, blur) if reduction == "decimation" else blur,
            reduction=reduction,
            noise=noise if noise_draw < self.noise_prob else 0.0,
            seed=int(seed),
            quality=int(quality) if jpeg_draw < self.jpeg_prob else None,
            subsampling="4:2:0" if subsampling_draw < self.subsampling_prob else "4:4:4",
            phase=(down, right) if phase_draw < self.phase_prob else (0, 0),
        )

    def __call__(self, image: np.ndarray | Tensor, scale: float, randomize: bool = True) -> Tensor:  # type: ignore[override]
        size = lr_size_at(image, scale)
        if randomize:
            self.randomize()
        return degrade_with(image, size, self.spec)

    def input_blur(self, scale: float) -> float:
        """Compute the blur of an image that :attr:`spec` reduces by ``scale``, in low-resolution pixels."""
        return blur_in_lr_pixels(self.spec.blur, scale)


class RandMixedDegradationd(RandDegradationDictTransform):
    """Dictionary version of :class:`RandMixedDegradation`: the image becomes the label, its reduction the image.

    Both are plain uint8 tensors afterwards. ``data["input_blur"]`` is the blur of the reduction in its pixels.

    Args:
        keys: images; each is replaced by its reduction, all with the same parameters.
        label_key: keys that receive the full-resolution images, one per image.
        scale_key: key of the scale.
        blur, blur_prob, reductions, noise, noise_prob, quality, jpeg_prob, subsampling_prob, phase_prob: see
            :class:`RandMixedDegradation`.
        allow_missing_keys: skip absent keys instead of raising.

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
