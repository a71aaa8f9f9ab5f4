"""Evaluation of super-resolution: named protocols built on MONAI's metrics, spectrum, consistency and FID."""

from monai_iste.metrics.fidelity import RadialSpectrumMetric
from monai_iste.metrics.protocols import PROTOCOLS, get_protocol

__all__ = [
    "PROTOCOLS",
    "RadialSpectrumMetric",
    "get_protocol",
]
