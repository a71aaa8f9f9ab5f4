"""Named evaluation protocols: how the low-resolution image is made and what is compared with what.

A number without its protocol means nothing, and two protocols never share a table. A protocol therefore owns both ends
of an evaluation, the preprocessing that makes the pair and the postprocessing that makes it comparable; the scores in
between are MONAI's PSNRMetric and SSIMMetric (Gaussian window of 11, sigma 1.5, data range 1, mean over channels).

* ``iste-rgb``: the paper's, and the default: blur, then bicubic; 8 pixels shaved.
* ``bicubic-rgb``: the same without the blur, the degradation of HistoSR.
* ``y-shave-s``: luma alone, as many pixels shaved as the scale: only to compare with natural-image papers. Their
  low-resolution images come from Matlab's imresize, ours from Pillow: the kernel is the same, the rounding is not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from monai.config import KeysCollection
from monai.transforms import Compose, EnsureTyped, MapTransform, ScaleIntensityRanged, Transform
from torch import Tensor

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.metrics.fidelity import AddReducedd
from monai_iste.networks.baselines import Bicubic
from monai_iste.transforms import ArbitraryScaleCropd, BlurDegradationd, LoadRGBd


@dataclass(frozen=True)
class Protocol:
    """One way to score super-resolution of RGB images.

    The high-resolution image is cropped to the size the scale needs, degraded by ``degradation``, magnified, clamped
    to [0, 1], rounded to 8 bits (as a saved file would be), and compared with the truth after ``shave`` pixels have
    been cut off at every border. PSNR and SSIM are computed per image, then averaged.

    Args:
        name: what results are published under.
        degradation: a key of :data:`monai_iste.transforms.DEGRADATIONS`.
        shave: border in high-resolution pixels that is not scored; "scale" for the scale, rounded up.
        channels: "rgb", or "y" to score luma (:func:`luma`) alone.
    """

    name: str
    degradation: str
    shave: int | Literal["scale"] = 8
    channels: Literal["rgb", "y"] = "rgb"

    def preprocessing(self, crop: int | None = None) -> Compose:
        """Items {image: path or array, scale} -> {image: (3, h, w), label: (3, H, W)}, float32 in [0, 1].

        Args:
            crop: largest side of the center crop that is scored; None scores the whole image.
        """
        return Compose(
            [
                LoadRGBd("image"),
                ArbitraryScaleCropd("image", max_size=crop),
                BlurDegradationd("image", preset=self.degradation),
                ScaleIntensityRanged(("image", "label"), 0, 255, 0, 1),
                EnsureTyped(("image", "label"), track_meta=False),
            ]
        )

    def postprocessing(self) -> Compose:
        """Predictions as they are scored, with bicubic interpolation beside them under the key ``bicubic``, and both
        reduced again as ``pred_reduced`` and ``bicubic_reduced``."""
        scored = AsScoredd(("pred", "bicubic", "label"), self.shave, self.channels)
        return Compose([AddBicubicd(), AddReducedd(("pred", "bicubic"), self.degradation), scored])


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("iste-rgb", "blur_bicubic"),
        Protocol("bicubic-rgb", "bicubic"),
        Protocol("y-shave-s", "bicubic", shave="scale", channels="y"),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.

    Example:
        >>> get_protocol("iste-rgb").degradation
        'blur_bicubic'
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"a protocol: {', '.join(PROTOCOLS)}", repr(name), "Choose one of these.")
    return PROTOCOLS[name]


class AddBicubicd(Transform):
    """Put the bicubic magnification of ``image`` by ``scale`` beside the prediction, as ``bicubic``.

    Shape:
        image: (3, h, w); bicubic: (3, round(h * scale), round(w * scale))
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "bicubic": Bicubic()(data["image"].unsqueeze(0), float(data["scale"]))[0]}


class AsScoredd(MapTransform):
    """Clamp to [0, 1], round to 8 bits, cut the border off; luma last, if asked for.

    Args:
        keys: images to convert.
        shave: pixels to cut at every border, or "scale" for the scale of the item, rounded up; fewer are cut where
            less than 11 (the SSIM window) would remain.
        channels: "rgb", or "y" for luma, which is not rounded again.
    Shape:
        (3, H, W) -> (3 or 1, H - 2 * shave, W - 2 * shave)
    """

    def __init__(
        self, keys: KeysCollection, shave: int | Literal["scale"], channels: Literal["rgb", "y"] = "rgb"
    ) -> None:
        super().__init__(keys)
        self.shave, self.channels = shave, channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        shave = math.ceil(float(data["scale"])) if self.shave == "scale" else self.shave
        return {**data, **{key: self._view(data[key], shave) for key in self.key_iterator(dict(data))}}

    def _view(self, image: Tensor, shave: int) -> Tensor:
        shave = max(0, min(shave, (min(image.shape[-2:]) - 11) // 2))
        image = image[..., shave : image.shape[-2] - shave, shave : image.shape[-1] - shave]
        image = image.float().clamp(0, 1).mul(255).round().div(255)
        return luma(image) if self.channels == "y" else image


def luma(image: Tensor) -> Tensor:
    """ITU-R BT.601 luma with its headroom, 16 to 235 of 255: Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255.

    Shape:
        image: (..., 3, H, W); returns (..., 1, H, W)
    Units: RGB in [0, 1]; Y in [16/255, 235/255].
    Raises:
        ShapeError: the image has no three channels.

    Example:
        >>> import torch
        >>> (luma(torch.tensor([0.0, 1.0]).expand(3, 1, 2)) * 255).round().flatten().tolist()
        [16.0, 235.0]
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ShapeError("an RGB image of shape (..., 3, H, W)", str(tuple(image.shape)), "Give three channels.")
    weights = image.new_tensor((65.481, 128.553, 24.966)).view(3, 1, 1)
    return ((image * weights).sum(-3, keepdim=True) + 16) / 255
