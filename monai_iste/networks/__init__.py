"""ISTE and its parts, one file per box of the paper's Figure 2, and the networks it is compared with."""

from monai_iste.networks.baselines import (
    EDSR,
    LIIF,
    LTE,
    Bicubic,
    LiUNetGAN,
    SWDNet,
    SwinIR,
    load_published,
)
from monai_iste.networks.baselines import ConditionalDiscriminator as ConditionalDiscriminator
from monai_iste.networks.encoders import BlurConditionedEncoder, EDSREncoder, SwinIREncoder
from monai_iste.networks.iste import ISTE
from monai_iste.networks.local_decoders import LocalPixelDecoder, LocalTextureDecoder
from monai_iste.networks.local_feature_interactor import LocalFeatureInteractor
from monai_iste.networks.presets import BASELINES, PRESETS, create_network
from monai_iste.networks.presets import create_iste as create_iste
from monai_iste.networks.presets import released_weights as released_weights
from monai_iste.networks.runtime import load_network
from monai_iste.networks.self_texture_fusion import SelfTextureFusion
from monai_iste.networks.texture_learner import TextureLearner
from monai_iste.networks.weights import load_weights

__all__ = [
    "BASELINES",
    "EDSR",
    "ISTE",
    "LIIF",
    "LTE",
    "PRESETS",
    "Bicubic",
    "BlurConditionedEncoder",
    "EDSREncoder",
    "LiUNetGAN",
    "LocalFeatureInteractor",
    "LocalPixelDecoder",
    "LocalTextureDecoder",
    "SWDNet",
    "SelfTextureFusion",
    "SwinIR",
    "SwinIREncoder",
    "TextureLearner",
    "create_network",
    "load_network",
    "load_published",
    "load_weights",
]
