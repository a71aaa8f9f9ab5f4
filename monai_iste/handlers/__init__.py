"""Ignite handlers of the bundle.

:mod:`~monai_iste.handlers.training` has progress, safety checks and checkpoints, :mod:`~monai_iste.handlers.ema`
averaged weights, :mod:`~monai_iste.handlers.reports` result files, :mod:`~monai_iste.handlers.schedules` learning
rates.
"""

from monai_iste.handlers.ema import EMAWeights
from monai_iste.handlers.reports import EvaluationReport, ResultTable, SaveImages, TrainingReport
from monai_iste.handlers.schedules import hold_then_cosine
from monai_iste.handlers.training import Checkpoints, ClipGradients, LoadWeights, StopOnNonFiniteLoss, TrainingProgress

__all__ = [
    "Checkpoints",
    "ClipGradients",
    "EMAWeights",
    "EvaluationReport",
    "LoadWeights",
    "ResultTable",
    "SaveImages",
    "StopOnNonFiniteLoss",
    "TrainingProgress",
    "TrainingReport",
    "hold_then_cosine",
]
