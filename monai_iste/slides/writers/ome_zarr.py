"""Writer of OME-Zarr 0.5: a folder with one Zarr 3 array per level, always lossless."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from monai_iste.slides.writers.pyramid import TILE, Pyramid, SlideMetadata, Tile


def write_ome_zarr(folder: Path, pyramid: Pyramid, metadata: SlideMetadata) -> None:
    """Write all levels, each an array (3, H, W) in chunks of (3, 512, 512), compressed with zstd.

    Shards are not used: two processes that write into one would lose each other's chunks.

    Args:
        folder: an existing, empty folder.
    Raises:
        OSError: writing failed, or chunks were removed meanwhile.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    group = zarr.create_group(str(folder), zarr_format=3, attributes=_attributes(pyramid, metadata))
    for level, size in enumerate(pyramid.sizes):
        array = group.create_array(
            str(level),
            shape=(3, *size),
            chunks=(3, TILE, TILE),
            dtype=np.uint8,
            compressors=ZstdCodec(level=3),
            fill_value=255,
            dimension_names=("c", "y", "x"),
            config={"write_empty_chunks": True},  # a chunk that is missing is then one that was lost
        )

        def write(tile: Tile, pixels: np.ndarray, array: zarr.Array = array) -> None:
            array[(slice(None), *tile.region.slices)] = pixels.transpose(2, 0, 1)

        for _ in pyramid.tiles(level, write):
            pass
    _check_complete(folder, len(pyramid.sizes))


def _check_complete(folder: Path, levels: int) -> None:
    """Raise OSError if chunks are missing: zarr recreates a removed folder and reads lost chunks as background."""
    import zarr

    group = zarr.open_group(str(folder), mode="r")
    for level in range(levels):
        array = group.get(str(level))
        if not isinstance(array, zarr.Array) or array.nchunks_initialized != array.nchunks:
            raise OSError("a folder that lost some of what was written to it")


def _attributes(pyramid: Pyramid, metadata: SlideMetadata) -> dict[str, Any]:
    """Build the attributes; provenance and color profile, which OME-Zarr does not define, get a key of their own."""
    own: dict[str, Any] = {"provenance": dict(metadata.provenance)}
    if metadata.icc is not None:
        own["icc_profile"] = base64.b64encode(metadata.icc).decode()
    return {"ome": ome_attributes(len(pyramid.sizes), metadata.mpp), "monai_iste": own}


def ome_attributes(levels: int, mpp: tuple[float, float] | None) -> dict[str, Any]:
    """Build the metadata of OME-Zarr 0.5 for an RGB pyramid with axes c, y, x.

    Pixel i of level k covers the pixels from 2**k * i of level 0, so its center lies (2**k - 1) / 2 pixels of level 0
    further than 2**k * i: that is the level's translation. Without a pixel size the unit is the pixel of level 0.

    Example:
        >>> level = ome_attributes(2, (0.5, 0.25))["multiscales"][0]["datasets"][1]
        >>> [transform[transform["type"]] for transform in level["coordinateTransformations"]]
        [[1.0, 1.0, 0.5], [0.0, 0.25, 0.125]]
    """
    pixel, unit = (mpp, {"unit": "micrometer"}) if mpp is not None else ((1.0, 1.0), {})
    axes = [{"name": "c", "type": "channel"}] + [{"name": axis, "type": "space", **unit} for axis in "yx"]
    datasets = []
    for level in range(levels):
        scale = [1.0] + [2.0**level * side for side in pixel]
        translation = [0.0] + [(2**level - 1) / 2 * side for side in pixel]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {"label": label, "color": color, "active": True, "window": window}
        for label, color in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    multiscale = {"name": "slide", "axes": axes, "datasets": datasets, "type": "mean"}
    return {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels, "rdefs": {"model": "color"}}}
