# ruff: noqa: F401  (the aliases XD and XDict, and the functions behind the transforms, can be imported too)
"""MONAI transforms for training and evaluation of super-resolution, as array (X) and dictionary versions (Xd).

The training chain is ``LoadRGBd``, ``RandArbitraryScaleCropd``, MONAI's ``RandFlipd`` (both axes) and
``RandRotate90d`` (``max_k=1``; with the flips it reaches all eight flips and transposes), ``BlurDegradationd``,
``RandSampleCoordinatesd``, then MONAI's ``ScaleIntensityRanged``. Evaluation uses ``ArbitraryScaleCropd`` in place of
the random transforms. ``RandLowerMagnificationd``, ``RandStainJitterd``, ``RandJPEGd`` and ``RandMixedDegradationd``
prepare a network for slides of other laboratories and scanners. ``RandTruthCropd`` and ``RandSoftnessd`` vary the
ground truth itself. ``RandHideBlurd`` hides the blur of some images from the network. ``RandSampleGridd`` draws rows
and columns. ``SuperResolved`` and ``SuperResolveToMppd`` apply a trained network inside a pipeline.

Images stay uint8 until ``ScaleIntensityRanged``. No transform writes into its input image, so a cached data set need
not copy (``CacheDataset(copy_cache=False)``).
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
from monai_iste.transforms.input_blur import RandHideBlurD, RandHideBlurd, RandHideBlurDict
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
    RandSampleGrid,
    RandSampleGridD,
    RandSampleGridd,
    RandSampleGridDict,
)
from monai_iste.transforms.super_resolve import SuperResolve, SuperResolveD, SuperResolved, SuperResolveDict
from monai_iste.transforms.to_mpp import (
    SuperResolveToMpp,
    SuperResolveToMppD,
    SuperResolveToMppd,
    SuperResolveToMppDict,
    image_mpp,
)
from monai_iste.transforms.truth import (
    RandSoftness,
    RandSoftnessD,
    RandSoftnessd,
    RandSoftnessDict,
    RandTruthCrop,
    RandTruthCropD,
    RandTruthCropd,
    RandTruthCropDict,
)

__all__ = [
    "ArbitraryScaleCrop",
    "ArbitraryScaleCropd",
    "BlurDegradation",
    "BlurDegradationd",
    "LoadRGB",
    "LoadRGBd",
    "RandArbitraryScaleCrop",
    "RandArbitraryScaleCropd",
    "RandHideBlurd",
    "RandJPEG",
    "RandJPEGd",
    "RandLowerMagnification",
    "RandLowerMagnificationd",
    "RandMixedDegradation",
    "RandMixedDegradationd",
    "RandSampleCoordinates",
    "RandSampleCoordinatesd",
    "RandSampleGrid",
    "RandSampleGridd",
    "RandSoftness",
    "RandSoftnessd",
    "RandStainJitter",
    "RandStainJitterd",
    "RandTruthCrop",
    "RandTruthCropd",
    "SuperResolve",
    "SuperResolveToMpp",
    "SuperResolveToMppd",
    "SuperResolved",
]
