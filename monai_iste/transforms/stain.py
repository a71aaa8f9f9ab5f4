"""Other laboratories' colours: stains stronger or weaker, the lamp brighter or darker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.alike import RandAlike
from monai_iste.transforms.loading import BACKENDS, check_rgb, plain_tensor

__all__ = [
    "RandStainJitter",
    "RandStainJitterD",
    "RandStainJitterDict",
    "RandStainJitterd",
    "adjust_stains",
]

# Optical density of every 8-bit level. The one that is added keeps black finite and white at exactly nothing.
_DENSITY = -torch.log((torch.arange(256, dtype=torch.float64) + 1) / 256)


def adjust_stains(
    image: np.ndarray | Tensor,
    gain: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0),
    offset: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    brightness: float = 1.0,
) -> Tensor:
    """Change how much haematoxylin, eosin and DAB an image shows, and the light that it is seen in.

    With ``I`` a pixel's levels, ``B`` the stains' densities per channel (rows of scikit-image's ``rgb_from_hed``)::

        D  = -ln((I + 1) / 256)                  optical density (r, g, b); white has none
        c  = D B^-1                              amount of (haematoxylin, eosin, DAB)
        c' = gain * c + offset
        I' = 256 * brightness * exp(-c' B) - 1   rounded, clipped to 0 and 255

    Gains alone leave white white; without any change, every colour comes back exactly. An H&E slide has no DAB: that
    part is what the two others do not explain.

    The stains' densities are those of Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23
    (2001), as scikit-image has them; amounts below 0 are kept, which scikit-image's own ``rgb2hed`` cuts off.

    Args:
        gain: of haematoxylin, eosin, DAB.
        offset: the same, in optical density (natural logarithm); it tints glass too.
        brightness: factor of the light.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> adjust_stains(np.full((3, 2, 2), 255, np.uint8), gain=(2, 0.5, 3)).unique().tolist()
        [255]
    """
    check_rgb(image)
    pixels = plain_tensor(image)
    change = hed_from_rgb @ np.diag(gain) @ rgb_from_hed
    shift = torch.from_numpy(np.asarray(offset) @ rgb_from_hed - math.log(brightness))
    density = torch.einsum("chw,cd->dhw", _DENSITY[pixels.long()], torch.from_numpy(change))
    levels = 256 * torch.exp(-density - shift[:, None, None]) - 1
    return levels.round().clamp(0, 255).byte()


class RandStainJitter(RandomizableTransform):
    """Random stains and light: :func:`adjust_stains` with gains U(1 - s, 1 + s), offsets U(-o, o), brightness.

    Paper silent: ours. Sections differ in thickness, stain and lamp from one laboratory to the next far more than a few
    hundred training tiles do. It belongs before the degradation: image and label then agree.

    Args:
        prob: how often anything is changed.
        gain: s, for each of the three stains by itself.
        offset: o in optical density; 0.02 is five levels of 255 on glass.
        brightness: b, the light is multiplied by U(1 - b, 1 + b).
    Shape:
        (3, H, W) -> (3, H, W); what was drawn is :attr:`gains`, :attr:`offsets` and :attr:`light`.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> jitter = RandStainJitter(prob=1).set_random_state(0)
        >>> jitter(np.full((3, 1, 1), 128, np.uint8)).flatten().tolist()
        [127, 127, 130]
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.5, gain: float = 0.2, offset: float = 0.02, brightness: float = 0.05) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError("a prob in [0, 1]", repr(prob), "0 is never, 1 is always.")
        if not (0 <= gain < 1 and 0 <= offset < math.inf and 0 <= brightness < 1):
            raise ConfigError(
                "gain and brightness in [0, 1), offset of at least 0",
                f"{gain}, {brightness}, {offset}",
                "Try 0.2, 0.05, 0.02.",
            )
        super().__init__(prob)
        self.gain, self.offset, self.brightness = gain, offset, brightness
        self.gains, self.offsets, self.light = np.ones(3), np.zeros(3), 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw the next change."""
        super().randomize(None)
        drawn = self.R.uniform(-1, 1, size=7)
        self.gains, self.offsets = 1 + self.gain * drawn[:3], self.offset * drawn[3:6]
        self.light = float(1 + self.brightness * drawn[6])

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        if not self._do_transform:
            return plain_tensor(image)
        return adjust_stains(image, self.gains, self.offsets, self.light)


class RandStainJitterd(RandAlike):
    """Dictionary version of :class:`RandStainJitter`; all keys change alike.

    Args:
        keys: images.
        prob, gain, offset, brightness: see :class:`RandStainJitter`.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> jitter = RandStainJitterd("image", prob=1).set_random_state(0)
        >>> jitter({"image": np.full((3, 1, 1), 128, np.uint8)})["image"].flatten().tolist()
        [127, 127, 130]
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        gain: float = 0.2,
        offset: float = 0.02,
        brightness: float = 0.05,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandStainJitter(prob, gain, offset, brightness)


RandStainJitterD = RandStainJitterDict = RandStainJitterd
