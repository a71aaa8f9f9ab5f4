"""Degradation curriculum of Li et al.: the reduction factor grows during training.

:class:`Curriculum` holds the current mean factor, :class:`CurriculumDegradation` and its dictionary version degrade
training images by it, and the handler :class:`AdvanceCurriculum` updates it from the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.networks.baselines.li_unet_gan import bicubic_upsampled
from monai_iste.transforms.base import RandDegradationDictTransform
from monai_iste.transforms.degradation import degrade, lr_size_at
from monai_iste.transforms.io import BACKENDS


class Curriculum:
    """Mean reduction factor as a function of training progress.

    ``factor = log2(2^start + t (2^target - 2^start))`` with ``t = min(progress / fraction, 1)``.

    Implements the curriculum of Li et al., Medical Image Analysis 68 (2021) 101938: from 2 to the target over the first
    half of the training. Not specified in their paper: the course in between; it is that of the authors' code.

    The progress is held in shared memory, so data-loading processes see the value that the trainer's process sets.

    Args:
        target: final factor, the network's scale.
        start: initial factor.
        fraction: part of the training, in (0, 1], over which the factor grows.
    Raises:
        ConfigError: a setting is out of range.

    Example:
        >>> curriculum = Curriculum(target=4)
        >>> for progress in (0, 0.25, 0.5, 1):
        ...     curriculum.progress = progress
        ...     print(round(curriculum.factor, 3))
        2.0
        3.322
        4.0
        4.0
    """

    def __init__(self, target: float, start: float = 2.0, fraction: float = 0.5) -> None:
        if not (1 <= start <= target < math.inf and 0 < fraction <= 1):
            raise ConfigError(
                "a curriculum with 1 <= start <= target and a fraction in (0, 1]",
                f"start {start}, target {target}, fraction {fraction}",
                "The paper has 2, the scale, 0.5.",
            )
        self.target, self.start, self.fraction = float(target), float(start), fraction
        self._progress = torch.zeros((), dtype=torch.float64).share_memory_()

    @property
    def progress(self) -> float:
        """Completed part of the training, 0 to 1."""
        return float(self._progress)

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress.fill_(value)

    @property
    def factor(self) -> float:
        """Mean factor at the current :attr:`progress`."""
        t = min(self.progress / self.fraction, 1.0)
        return math.log2(2**self.start + t * (2**self.target - 2**self.start))


class CurriculumDegradation(RandomizableTransform):
    """Reduce an image by a random factor around the curriculum's, and resize it to its original size.

    f ~ N(mean factor, jitter) is drawn for every image. :func:`~monai_iste.transforms.degradation.degrade` reduces
    by f, with its blur of sigma (f - 1) / 2, and
    :func:`~monai_iste.networks.baselines.li_unet_gan.bicubic_upsampled` restores the size. The result has the same size
    for every factor, so that batches collate. At f = target it equals the input that the network computes from the
    reduced image itself.

    Implements the curriculum of Li et al., Medical Image Analysis 68 (2021) 101938.
    Differs from the paper: the blur comes before the resampling, as in every training here; the authors' code blurs the
    resized image. Not specified in their paper; our choice: f is clamped to [1, target + 3 jitter]; the authors' code
    has the lower bound only.

    Args:
        curriculum: source of the mean factor.
        jitter: standard deviation of the factor.
        preset: a key of :data:`~monai_iste.transforms.degradation.DEGRADATIONS`.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: input uint8, 0 to 255; output float32, 0 to 255, not clamped.
    Raises:
        ConfigError: the jitter is negative.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> degradation = CurriculumDegradation(Curriculum(target=4)).set_random_state(0)
        >>> degradation(np.full((3, 64, 64), 200, np.uint8)).shape, round(degradation.factor, 2)
        (torch.Size([3, 64, 64]), 2.88)
    """

    backend = BACKENDS

    def __init__(self, curriculum: Curriculum, jitter: float = 0.5, preset: str = "blur_bicubic") -> None:
        super().__init__()
        if jitter < 0:
            raise ConfigError("a jitter of at least 0", repr(jitter), "The paper has 0.5.")
        self.curriculum, self.jitter, self.preset = curriculum, jitter, preset
        self.factor = curriculum.factor

    def randomize(self, data: Any = None) -> None:
        """Draw the next :attr:`factor`."""
        drawn = self.R.normal(self.curriculum.factor, self.jitter)
        self.factor = min(max(1.0, drawn), self.curriculum.target + 3 * self.jitter)

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        if randomize:
            self.randomize()
        low = degrade(image, lr_size_at(image, self.factor), self.preset)
        return bicubic_upsampled(low[None].float(), image.shape[-2:])[0]

    def input_blur(self, scale: float) -> float:
        """Return NaN: the interpolation to the original size blurs too, and no network here is told."""
        return math.nan


class CurriculumDegradationd(RandDegradationDictTransform):
    """Dictionary version of :class:`CurriculumDegradation`: stores the original as label and degrades the image.

    Args:
        keys: images; each is replaced by its degraded version, all with the same factor.
        curriculum, jitter, preset: see :class:`CurriculumDegradation`.
        label_key: keys for the original images, plain uint8 tensors; one per key.
        allow_missing_keys: whether absent keys are skipped.

    Example:
        >>> degradation = CurriculumDegradationd("image", Curriculum(target=3)).set_random_state(0)
        >>> data = degradation({"image": np.zeros((3, 96, 96), np.uint8)})
        >>> data["image"].shape, data["label"].shape
        (torch.Size([3, 96, 96]), torch.Size([3, 96, 96]))
    """

    def __init__(
        self,
        keys: KeysCollection,
        curriculum: Curriculum,
        jitter: float = 0.5,
        preset: str = "blur_bicubic",
        label_key: KeysCollection = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, label_key, allow_missing_keys)
        self.degradation = CurriculumDegradation(curriculum, jitter, preset)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self.degraded(data, self.degradation)


CurriculumDegradationD = CurriculumDegradationDict = CurriculumDegradationd


class AdvanceCurriculum:
    """Handler that sets a curriculum's progress to completed steps / total steps.

    The progress is computed from the trainer's iteration count, which every checkpoint holds, so a resumed training
    continues the curriculum.

    Data-loading processes prepare batches ahead, so without ``epoch_level`` the factor of a batch depends on their
    speed. With ``epoch_level`` all steps of an epoch use one factor, and the same seed gives the same training.

    Args:
        curriculum: curriculum to update.
        epoch_level: update before each epoch only, as the authors' code does; otherwise also after each step.
    """

    def __init__(self, curriculum: Curriculum, epoch_level: bool = False) -> None:
        self.curriculum, self.epoch_level = curriculum, epoch_level

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._set)  # before the first batch of the epoch is requested
        if not self.epoch_level:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._set)

    def _set(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.curriculum.progress = min(1.0, engine.state.iteration / max(1, total))
