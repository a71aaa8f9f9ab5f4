"""How images larger than one pass are magnified."""

from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer, Region

__all__ = ["ArbitraryScaleInferer", "Region"]
