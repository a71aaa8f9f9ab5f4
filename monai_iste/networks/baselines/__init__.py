"""Networks that ISTE is compared with. The call is the same: ``network(image, scale=3.7)``."""

from monai_iste.networks.baselines.bicubic import Bicubic
from monai_iste.networks.baselines.edsr import EDSR
from monai_iste.networks.baselines.li_unet_gan import ConditionalDiscriminator, LiUNetGAN
from monai_iste.networks.baselines.liif import LIIF
from monai_iste.networks.baselines.lte import LTE
from monai_iste.networks.baselines.published import load_published
from monai_iste.networks.baselines.swd_net import SWDNet
from monai_iste.networks.baselines.swinir import SwinIR

__all__ = [
    "EDSR",
    "LIIF",
    "LTE",
    "Bicubic",
    "ConditionalDiscriminator",
    "LiUNetGAN",
    "SWDNet",
    "SwinIR",
    "load_published",
]
