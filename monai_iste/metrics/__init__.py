"""How results are scored: named protocols on MONAI's metrics, metrics of glands, and what needs no truth or weights."""

from monai_iste.metrics.fidelity import RadialSpectrumMetric
from monai_iste.metrics.glands import GlandScores, gland_f1, object_dice, object_hausdorff
from monai_iste.metrics.protocols import PROTOCOLS, Protocol, get_protocol

__all__ = [
    "PROTOCOLS",
    "GlandScores",
    "Protocol",
    "RadialSpectrumMetric",
    "get_protocol",
    "gland_f1",
    "object_dice",
    "object_hausdorff",
]
