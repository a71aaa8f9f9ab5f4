"""Data lists of the two downstream tasks: gland segmentation (GlaS, Table III) and metastases (PCam, Table IV).

Each reader knows the official layout, and a stand-in made of GlaS tiles for those who do not have the official files.
"""

from experiments.datasets.glas import GLAS_COUNTS, glas_datalists, read_instances
from experiments.datasets.pcam import PCAM_COUNTS, PCamSplit, pcam_datalists

__all__ = ["GLAS_COUNTS", "PCAM_COUNTS", "PCamSplit", "glas_datalists", "pcam_datalists", "read_instances"]
