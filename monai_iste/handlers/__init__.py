"""Ignite handlers of the bundle: :mod:`~monai_iste.handlers.training` keeps a run on its way,
:mod:`~monai_iste.handlers.reports` leaves its results behind."""

from monai_iste.handlers.ema import EMAWeights
from monai_iste.handlers.reports import EvaluationReport, SaveImages, TrainingReport
from monai_iste.handlers.training import Checkpoints, ClipGradients, LoadWeights, StopOnNonFiniteLoss, TrainingProgress

__all__ = [
    "Checkpoints",
    "ClipGradients",
    "EMAWeights",
    "EvaluationReport",
    "LoadWeights",
    "SaveImages",
    "StopOnNonFiniteLoss",
    "TrainingProgress",
    "TrainingReport",
]
