"""MONAI transforms from a slide image to what ISTE trains on, as array and dictionary versions.

The training chain is ``LoadRGBd``, ``RandArbitraryScaleCropd``, MONAI's ``RandFlipd`` (both axes) and
``RandRotate90d`` (``max_k=1``; with the flips it reaches all eight flips and transposes), ``BlurDegradationd``,
``RandSampleCoordinatesd``, then MONAI's ``ScaleIntensityRanged``. For evaluation ``ArbitraryScaleCropd`` takes the
place of the random ones; ``RandLowerMagnificationd``, ``RandStainJitterd``, ``RandJPEGd`` and
``RandMixedDegradationd`` prepare a network for other laboratories' slides and scanners. Images stay uint8 until
``ScaleIntensityRanged``. No transform writes into the image it is given, so a cached data set need not copy
(``CacheDataset(copy_cache=False)``).
"""

from monai_iste.transforms.augmentation import (
    RandJPEG,
    RandJPEGD,
    RandJPEGd,
    RandJPEGDict,
    RandLowerMagnification,
    RandLowerMagnificationD,
    RandLowerMagnificationd,
    RandLowerMagnificationDict,
    RandStainJitter,
    RandStainJitterD,
    RandStainJitterd,
    RandStainJitterDict,
    adjust_stains,
)
from monai_iste.transforms.crop import (
    ArbitraryScaleCrop,
    ArbitraryScaleCropD,
    ArbitraryScaleCropd,
    ArbitraryScaleCropDict,
    RandArbitraryScaleCrop,
    RandArbitraryScaleCropD,
    RandArbitraryScaleCropd,
    RandArbitraryScaleCropDict,
    tissue_fraction,
)
from monai_iste.transforms.degradation import (
    DEGRADATIONS,
    BlurDegradation,
    BlurDegradationD,
    BlurDegradationd,
    BlurDegradationDict,
    degrade,
)
from monai_iste.transforms.io import LoadRGB, LoadRGBD, LoadRGBd, LoadRGBDict
from monai_iste.transforms.random_degradation import (
    REDUCTIONS,
    DegradationSpec,
    RandMixedDegradation,
    RandMixedDegradationD,
    RandMixedDegradationd,
    RandMixedDegradationDict,
    degrade_with,
)
from monai_iste.transforms.sampling import (
    RandSampleCoordinates,
    RandSampleCoordinatesD,
    RandSampleCoordinatesd,
    RandSampleCoordinatesDict,
)
from monai_iste.transforms.super_resolve import SuperResolve, SuperResolveD, SuperResolved, SuperResolveDict
from monai_iste.transforms.to_mpp import (
    SuperResolveToMpp,
    SuperResolveToMppD,
    SuperResolveToMppd,
    SuperResolveToMppDict,
    image_mpp,
)

__all__ = [
    "DEGRADATIONS",
    "REDUCTIONS",
    "ArbitraryScaleCrop",
    "ArbitraryScaleCropD",
    "ArbitraryScaleCropDict",
    "ArbitraryScaleCropd",
    "BlurDegradation",
    "BlurDegradationD",
    "BlurDegradationDict",
    "BlurDegradationd",
    "DegradationSpec",
    "LoadRGB",
    "LoadRGBD",
    "LoadRGBDict",
    "LoadRGBd",
    "RandArbitraryScaleCrop",
    "RandArbitraryScaleCropD",
    "RandArbitraryScaleCropDict",
    "RandArbitraryScaleCropd",
    "RandJPEG",
    "RandJPEGD",
    "RandJPEGDict",
    "RandJPEGd",
    "RandLowerMagnification",
    "RandLowerMagnificationD",
    "RandLowerMagnificationDict",
    "RandLowerMagnificationd",
    "RandMixedDegradation",
    "RandMixedDegradationD",
    "RandMixedDegradationDict",
    "RandMixedDegradationd",
    "RandSampleCoordinates",
    "RandSampleCoordinatesD",
    "RandSampleCoordinatesDict",
    "RandSampleCoordinatesd",
    "RandStainJitter",
    "RandStainJitterD",
    "RandStainJitterDict",
    "RandStainJitterd",
    "SuperResolve",
    "SuperResolveD",
    "SuperResolveDict",
    "SuperResolveToMpp",
    "SuperResolveToMppD",
    "SuperResolveToMppDict",
    "SuperResolveToMppd",
    "SuperResolved",
    "adjust_stains",
    "degrade",
    "degrade_with",
    "image_mpp",
    "tissue_fraction",
]
