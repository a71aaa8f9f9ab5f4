"""What ISTE is compared with, called the same way: ``network(image, scale=3.7)``."""

from monai_iste.networks.baselines.bicubic import Bicubic

__all__ = ["Bicubic"]
