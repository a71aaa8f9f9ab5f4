"""Networks that ISTE is compared with. The call is the same: ``network(image, scale=3.7)``."""

from monai_iste.networks.baselines.bicubic import Bicubic as Bicubic
from monai_iste.networks.baselines.edsr import EDSR as EDSR
from monai_iste.networks.baselines.li_unet_gan import ConditionalDiscriminator as ConditionalDiscriminator
from monai_iste.networks.baselines.li_unet_gan import LiUNetGAN as LiUNetGAN
from monai_iste.networks.baselines.liif import LIIF as LIIF
from monai_iste.networks.baselines.lte import LTE as LTE
from monai_iste.networks.baselines.published import load_published as load_published
from monai_iste.networks.baselines.swd_net import SWDNet as SWDNet
from monai_iste.networks.baselines.swinir import SwinIR as SwinIR
