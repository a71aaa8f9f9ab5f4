"""Training images as slide files hold them: JPEG leaves colour smoother than brightness, in the truth as well."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.alike import RandAlike
from monai_iste.transforms.loading import BACKENDS, check_rgb, plain_tensor
from monai_iste.transforms.mixed_degradation import Scan, degrade_as_scan

__all__ = ["RandJPEG", "RandJPEGD", "RandJPEGDict", "RandJPEGd"]


class RandJPEG(RandomizableTransform):
    """Encode and decode an image as JPEG (4:2:0) of random quality, its size kept, before it is degraded.

    Label and low-resolution image both come from the compressed one. A network that has only seen lossless truth adds
    colour that is not there to slides out of JPEG files, whose colour has half the resolution.

    Paper silent: ours.

    Args:
        prob: how often an image is compressed.
        quality: range of the quality, whole numbers, both ends included, uniform. High, since the network learns to
            reproduce what is left.
    Shape:
        (3, H, W) -> (3, H, W); what was drawn is :attr:`scan`. The image begins anywhere in a block.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> jpeg = RandJPEG(prob=1).set_random_state(0)
        >>> jpeg(np.zeros((3, 20, 30), np.uint8)).shape, jpeg.scan.subsampling
        (torch.Size([3, 20, 30]), '4:2:0')
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.3, quality: tuple[int, int] = (80, 96)) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError("a prob in [0, 1]", repr(prob), "0 is never, 1 is always.")
        if not 1 <= quality[0] <= quality[1] <= 100:
            raise ConfigError("a quality (low, high) with 1 <= low <= high <= 100", repr(quality), "Try (80, 96).")
        super().__init__(prob)
        self.quality = quality
        self.scan = Scan(blur=0)

    def randomize(self, data: Any = None) -> None:
        """Draw the next :attr:`scan`; every call draws as many numbers, whatever they decide."""
        super().randomize(None)
        quality = int(self.R.randint(self.quality[0], self.quality[1] + 1))
        down, right = (int(part) for part in self.R.randint(16, size=2))
        self.scan = Scan(blur=0, quality=quality if self._do_transform else None, phase=(down, right))

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        if self.scan.quality is None:
            return plain_tensor(image)
        height, width = image.shape[1:]
        return degrade_as_scan(image, (height, width), self.scan)


class RandJPEGd(RandAlike):
    """Dictionary version of :class:`RandJPEG`; one quality for all keys, which must be RGB images.

    Args:
        keys: images.
        prob, quality: see :class:`RandJPEG`.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> RandJPEGd("image", prob=1)({"image": np.zeros((3, 20, 30), np.uint8)})["image"].shape
        torch.Size([3, 20, 30])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        quality: tuple[int, int] = (80, 96),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandJPEG(prob, quality)


RandJPEGD = RandJPEGDict = RandJPEGd
