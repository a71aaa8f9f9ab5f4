"""Named evaluation protocols: degradation of the input, border and channels of the comparison.

Scores of different protocols are not comparable. A protocol therefore defines both ends of an evaluation: the
preprocessing that makes the image pair, and the postprocessing before the comparison. The scores are MONAI's PSNRMetric
and SSIMMetric (Gaussian window of 11, sigma 1.5, data range 1, mean over channels).

* ``iste-rgb``: protocol of the paper, and the default: blur, then bicubic; 8 pixels shaved.
* ``bicubic-rgb``: bicubic without blur, the degradation of HistoSR; 8 pixels shaved.
* ``y-shave-s``: luma only, bicubic without blur, as many pixels shaved as the scale. Use it only to compare with papers
  on natural images. Their low-resolution images are made with Matlab's imresize, those here with Pillow. The kernel is
  the same, the rounding differs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from monai.config import KeysCollection
from monai.transforms import Compose, EnsureTyped, MapTransform, ScaleIntensityRanged, Transform
from torch import Tensor

from monai_iste.errors import ShapeError, check_choice
from monai_iste.metrics.fidelity import AddReducedd
from monai_iste.networks.baselines import Bicubic
from monai_iste.transforms import ArbitraryScaleCropd, BlurDegradationd, LoadRGBd


@dataclass(frozen=True)
class Protocol:
    """Definition of one evaluation of super-resolved RGB images.

    The high-resolution image is cropped to a size that fits the scale, degraded by ``degradation`` and super-resolved.
    The result is clamped to [0, 1], rounded to 8 bits as in a saved file, and compared with the ground truth without a
    border of ``shave`` pixels. PSNR and SSIM are computed per image, then averaged.

    Args:
        name: name under which results are published.
        degradation: a key of :data:`monai_iste.transforms.degradation.DEGRADATIONS`.
        shave: border in high-resolution pixels that is not scored; "scale" for the scale, rounded up.
        channels: "rgb", or "y" to score luma (:func:`luma`) only.
    """

    name: str
    degradation: str
    shave: int | Literal["scale"] = 8
    channels: Literal["rgb", "y"] = "rgb"

    def preprocessing(self, crop: int | None = None) -> Compose:
        """Build the transform {image: path or array, scale} -> {image: (3, h, w), label: (3, H, W)}, float32 in [0, 1].

        Args:
            crop: largest side of the scored center crop; None scores the whole image.
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
        """Build the transform of the network's output before scoring.

        It adds bicubic interpolation (``bicubic``) and both images reduced again (``pred_reduced``,
        ``bicubic_reduced``), then applies rounding, border and channels to ``pred``, ``bicubic`` and ``label``.
        """
        scored = AsScoredd(("pred", "bicubic", "label"), self.shave, self.channels)
        return Compose([AddBicubicd(), AddReducedd(("pred", "bicubic"), self.degradation), scored])


#: Protocols by name: ``iste-rgb``, ``bicubic-rgb`` and ``y-shave-s``.
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("iste-rgb", "blur_bicubic"),
        Protocol("bicubic-rgb", "bicubic"),
        Protocol("y-shave-s", "bicubic", shave="scale", channels="y"),
    )
}


def get_protocol(name: str) -> Protocol:
    """Look up a protocol by name.

    Raises:
        ConfigError: the name is unknown.

    Example:
        >>> get_protocol("iste-rgb").degradation
        'blur_bicubic'
    """
    check_choice("a protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


class AddBicubicd(Transform):
    """Add the bicubic interpolation of ``image`` by ``scale`` as ``bicubic``.

    Shape:
        image: (3, h, w); bicubic: (3, round(h * scale), round(w * scale))
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "bicubic": Bicubic()(data["image"].unsqueeze(0), float(data["scale"]))[0]}


class AsScoredd(MapTransform):
    """Clamp to [0, 1], round to 8 bits, remove the border, and convert to luma if requested.

    Args:
        keys: images to convert.
        shave: border in pixels, or "scale" for the scale of the item, rounded up; the border is reduced if fewer than
            11 pixels (the SSIM window) would remain.
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
        return {**data, **{key: self._convert(data[key], shave) for key in self.key_iterator(dict(data))}}

    def _convert(self, image: Tensor, shave: int) -> Tensor:
        shave = max(0, min(shave, (min(image.shape[-2:]) - 11) // 2))
        image = image[..., shave : image.shape[-2] - shave, shave : image.shape[-1] - shave]
        image = image.float().clamp(0, 1).mul(255).round().div(255)
        return luma(image) if self.channels == "y" else image


def luma(image: Tensor) -> Tensor:
    """Compute ITU-R BT.601 luma in the range 16 to 235 of 255: Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255.

    Shape:
        image: (..., 3, H, W); returns (..., 1, H, W)
    Units: RGB in [0, 1]; Y in [16/255, 235/255].
    Raises:
        ShapeError: the image does not have three channels.

    Example:
        >>> import torch
        >>> (luma(torch.tensor([0.0, 1.0]).expand(3, 1, 2)) * 255).round().flatten().tolist()
        [16.0, 235.0]
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ShapeError("an RGB image of shape (..., 3, H, W)", str(tuple(image.shape)), "Give three channels.")
    weights = image.new_tensor((65.481, 128.553, 24.966)).view(3, 1, 1)
    return ((image * weights).sum(-3, keepdim=True) + 16) / 255
