"""Readers of the labeled data sets of the downstream tasks: GlaS (glands, Table III) and PCam (metastases, Table IV).

Each reader supports the official layout, and a substitute made of GlaS tiles.
"""

from experiments.datasets.glas import GLAS_COUNTS, glas_datalists, read_instances
from experiments.datasets.pcam import PCAM_COUNTS, PCamSplit, pcam_datalists

__all__ = ["GLAS_COUNTS", "PCAM_COUNTS", "PCamSplit", "glas_datalists", "pcam_datalists", "read_instances"]
