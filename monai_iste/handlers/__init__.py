"""Ignite handlers of the bundle.

:mod:`~monai_iste.handlers.training` has progress and safety checks, :mod:`~monai_iste.handlers.checkpoints`
checkpoints and seeds, :mod:`~monai_iste.handlers.ema` averaged weights, :mod:`~monai_iste.handlers.reports` result
files, :mod:`~monai_iste.handlers.schedules` learning rates.
"""

from monai_iste.handlers.checkpoints import Checkpoints, SeedEpochs
from monai_iste.handlers.ema import EMAWeights
from monai_iste.handlers.reports import EvaluationReport, ResultTable, SaveImages, TrainingReport
from monai_iste.handlers.schedules import hold_then_cosine
from monai_iste.handlers.training import ClipGradients, LoadWeights, StopOnNonFiniteLoss, TrainingProgress

__all__ = [
    "Checkpoints",
    "ClipGradients",
    "EMAWeights",
    "EvaluationReport",
    "LoadWeights",
    "ResultTable",
    "SaveImages",
    "SeedEpochs",
    "StopOnNonFiniteLoss",
    "TrainingProgress",
    "TrainingReport",
    "hold_then_cosine",
]
