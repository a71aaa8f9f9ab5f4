"""Named evaluation protocols: how the low-resolution image is made and what is compared with what.

A number without its protocol means nothing, and two protocols never share a table. A protocol therefore owns both ends
of an evaluation, the preprocessing that makes the pair and the postprocessing that makes it comparable; the scores in
between are MONAI's PSNRMetric and SSIMMetric (Gaussian window of 11, sigma 1.5, data range 1, mean over channels).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Compose, EnsureTyped, MapTransform, ScaleIntensityRanged, Transform
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.networks.baselines import Bicubic
from monai_iste.transforms import ArbitraryScaleCropd, BlurDegradationd, LoadRGBd

__all__ = ["PROTOCOLS", "AddBicubicd", "AsScoredd", "Protocol", "get_protocol"]


@dataclass(frozen=True)
class Protocol:
    """One way to score super-resolution of RGB images.

    The high-resolution image is cropped to the size the scale needs, degraded by ``degradation``, magnified, clamped
    to [0, 1], rounded to 8 bits (as a saved file would be), and compared with the truth after ``shave`` pixels have
    been cut off at every border. PSNR and SSIM are computed per image, then averaged.

    Args:
        name: what results are published under.
        degradation: a key of :data:`monai_iste.transforms.DEGRADATIONS`.
        shave: border in high-resolution pixels that is not scored.
    """

    name: str
    degradation: str
    shave: int = 8

    def preprocessing(self, crop: int | None = None) -> Compose:
        """Items {image: path or array, scale} -> {image: (3, h, w), label: (3, H, W)}, float32 in [0, 1].

        Args:
            crop: largest side of the centre crop that is scored; None scores the whole image.
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
        """Predictions as they are scored, with bicubic interpolation beside them under the key ``bicubic``."""
        return Compose([AddBicubicd(), AsScoredd(("pred", "bicubic", "label"), self.shave)])


PROTOCOLS = {p.name: p for p in (Protocol("iste-rgb", "blur_bicubic"), Protocol("bicubic-rgb", "bicubic"))}


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
    """Clamp to [0, 1], round to 8 bits, cut the border off.

    Args:
        keys: images to convert.
        shave: pixels to cut at every border; reduced where fewer than 11 (the SSIM window) would remain.
    Shape:
        (3, H, W) -> (3, H - 2 * shave, W - 2 * shave)
    """

    def __init__(self, keys: KeysCollection, shave: int) -> None:
        super().__init__(keys)
        self.shave = shave

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: self._view(data[key]) for key in self.key_iterator(dict(data))}}

    def _view(self, image: Tensor) -> Tensor:
        shave = max(0, min(self.shave, (min(image.shape[-2:]) - 11) // 2))
        image = image[..., shave : image.shape[-2] - shave, shave : image.shape[-1] - shave]
        return image.float().clamp(0, 1).mul(255).round().div(255)
