"""OME-Zarr slides: exact levels, and the positions of their pixels in micrometers."""

import base64

import numpy as np
import pytest
from written_slides import MPP, PROVENANCE, SIZES, SRGB, assert_levels, save, texture, zarr_levels

zarr = pytest.importorskip("zarr")


@pytest.mark.parametrize("size", SIZES)
def test_ome_zarr_holds_every_level_exactly(tmp_path, size):
    pixels = texture(*size)
    assert_levels(zarr_levels(save(tmp_path / "a.ome.zarr", pixels)), pixels)


def test_metadata_of_ome_zarr(tmp_path):
    """Where the pixels of every level lie, in micrometers: level k's first pixel is the mean of 2**k of level 0's."""
    group = zarr.open_group(save(tmp_path / "a.ome.zarr", texture(1300, 2001)), mode="r")
    assert group.metadata.zarr_format == 3
    ome, own = group.attrs["ome"], group.attrs["monai_iste"]
    assert ome["version"] == "0.5"
    multiscale = ome["multiscales"][0]
    assert [(axis["name"], axis["type"], axis.get("unit")) for axis in multiscale["axes"]] == [
        ("c", "channel", None),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = (transform[transform["type"]] for transform in dataset["coordinateTransformations"])
        centers = np.arange(2**level)  # of the pixels of level 0 that pixel 0 of this level is made of
        assert scale == pytest.approx([1, MPP[0] * 2**level, MPP[1] * 2**level])
        assert translation == pytest.approx([0, MPP[0] * centers.mean(), MPP[1] * centers.mean()])
        array = group[dataset["path"]]
        assert array.metadata.dimension_names == ("c", "y", "x")
        assert array.shards is None
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert own["provenance"] == PROVENANCE
    assert base64.b64decode(own["icc_profile"]) == SRGB
