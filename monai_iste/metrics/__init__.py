"""How results are scored: named protocols on MONAI's metrics."""

from monai_iste.metrics.protocols import PROTOCOLS, Protocol, get_protocol

__all__ = ["PROTOCOLS", "Protocol", "get_protocol"]
