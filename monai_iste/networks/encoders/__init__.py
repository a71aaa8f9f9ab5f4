"""Encoders: image -> feature map of the same size (F_LR of the paper's Figure 2). Padding is done inside."""

from monai_iste.networks.encoders.blur_conditioned import BlurConditionedEncoder as BlurConditionedEncoder
from monai_iste.networks.encoders.edsr import EDSREncoder as EDSREncoder
from monai_iste.networks.encoders.swinir import SwinIREncoder as SwinIREncoder
