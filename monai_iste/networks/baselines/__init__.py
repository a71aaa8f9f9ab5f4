"""What ISTE is compared with, called the same way: ``network(image, scale=3.7)``."""

from monai_iste.networks.baselines.bicubic import Bicubic
from monai_iste.networks.baselines.liif import LIIF
from monai_iste.networks.baselines.lte import LTE

__all__ = ["LIIF", "LTE", "Bicubic"]
