"""How results are scored: named protocols on MONAI's metrics, and what needs no truth or weights."""

from monai_iste.metrics.fidelity import RadialSpectrumMetric
from monai_iste.metrics.protocols import PROTOCOLS, Protocol, get_protocol

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "RadialSpectrumMetric",
    "get_protocol",
]
