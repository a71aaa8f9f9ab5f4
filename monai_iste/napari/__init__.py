"""A plugin for napari: super-resolve an image layer, or what a rectangle marks in it, by any factor.

napari finds it by the entry point ``napari.manifest`` and builds the panel from the annotations of
:func:`super_resolve`; neither napari nor Qt is imported before it calls that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.functional import to_range
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.inferers.output_size import OutputSize
from monai_iste.networks import load_network
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

if TYPE_CHECKING:
    import napari

__all__ = ["magnified_layer", "super_resolve"]

LayerData = tuple[np.ndarray, dict[str, Any], str]


def super_resolve(
    image: napari.layers.Image, scale: float = 4.0, rectangle: napari.layers.Shapes | None = None
) -> napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]:
    """Super-resolve an RGB layer, or the part of it under the last shape of a shapes layer, with the released weights.

    It works in the background; the new layer lies exactly on the old one. Not for diagnosis: its pixels are inferred.

    Args:
        image: a layer of RGB pixels; of a pyramid the largest level is taken, and only what is needed is read.
        scale: magnification, at least 1.
        rectangle: shapes, the last of which marks what is wanted; none: all of it.
    """
    from napari.qt.threading import thread_worker  # only where napari is
    from qtpy.QtCore import QTimer

    marked = None if rectangle is None else _marked(image, rectangle)

    @thread_worker
    def work() -> LayerData:
        return magnified_layer(image, scale, marked)

    worker = work()
    QTimer.singleShot(0, worker.start)  # napari listens for the result only when it has the worker
    return worker


def magnified_layer(
    layer: Any, scale: float, marked: tuple[float, ...] | None = None, network: Any = None
) -> LayerData:
    """The layer that shows an image layer magnified, placed where that lies.

    Args:
        layer: an ``Image`` layer of napari, RGB or RGBA, whose alpha is left out.
        scale: magnification, at least 1.
        marked: (top, left, bottom, right) in pixels of the layer, whole pixels being centerd on whole numbers;
            default: all of it.
        network: default: the released weights of :data:`DEFAULT_PRESET`.
    Returns:
        data, settings and kind, what napari calls a LayerDataTuple. The values of a part are those of the whole.
    Units: uint8, or floating point in [0, 1], as the layer's.
    Raises:
        ShapeError: no RGB layer, a rotated or sheared one, or nothing marked in it.
        ScaleError: the scale is below 1, or the result too large.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if not layer.rgb or len(data.shape) != 3:
        raise ShapeError("a layer of RGB pixels", f"shape {tuple(data.shape)}", "Split stacks, merge channels first.")
    if not np.allclose(layer.rotate, np.eye(len(layer.rotate))) or np.any(layer.shear):  # napari keeps a matrix
        raise ShapeError("an upright layer", "one with rotation or shear", "Take these away first.")
    size = (int(data.shape[0]), int(data.shape[1]))
    part = _pixels(marked, size)
    wanted = OutputSize(scale)
    wanted.resolve_upscaled((part[2] - part[0], part[3] - part[1]))  # raises if the result is too large
    full = wanted.resolve_upscaled(size, limit=2**62)  # the whole may be larger: nothing is computed of it
    ratio = full[0] / size[0], full[1] / size[1]
    top, left, bottom, right = (n * r for n, r in zip(part, ratio * 2, strict=True))
    region = Region(math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))
    region = region._replace(height=region.height - region.top, width=region.width - region.left)
    network = network or load_network(DEFAULT_PRESET, device=default_device())
    rows = list(_bands(data, size, network, full, region))
    corner = (region.top + 0.5) / ratio[0] - 0.5, (region.left + 0.5) / ratio[1] - 0.5  # of the first pixel's center
    step, origin = np.asarray(layer.scale, float)[-2:], np.asarray(layer.translate, float)[-2:]
    settings = {
        "name": f"{layer.name} x{scale:g} (inferred)",
        "scale": tuple(step / ratio),
        "translate": tuple(origin + step * corner),
        "affine": layer.affine,
        "rgb": True,
        "metadata": {"preset": DEFAULT_PRESET, "scale": scale, "region": tuple(region), "not_for_diagnosis": True},
    }
    return np.concatenate(rows), settings, "image"


def _bands(
    data: Any, size: tuple[int, int], network: nn.Module, full: tuple[int, int], region: Region
) -> Iterator[np.ndarray]:
    kind = torch.uint8 if data.dtype == np.uint8 else torch.float32

    def read(part: Region) -> np.ndarray:
        return np.ascontiguousarray(data[part.slices][..., :3])  # lazy arrays are read here

    for band in ArbitraryScaleInferer().bands(read, size, network, full, region):
        yield to_range(band, kind).permute(1, 2, 0).numpy()


def _pixels(marked: tuple[float, ...] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels (top, left, bottom, right) that a marked part touches."""
    if marked is None:
        return 0, 0, *size
    top, left = (max(0, math.floor(edge + 0.5)) for edge in marked[:2])
    bottom, right = (min(n, math.ceil(edge + 0.5)) for edge, n in zip(marked[2:], size, strict=True))
    if bottom <= top or right <= left:
        raise ShapeError("a rectangle on the layer", "one beside it", "Draw it on the tissue.")
    return top, left, bottom, right


def _marked(image: Any, shapes: Any) -> tuple[float, ...]:
    """The bounds of the last shape, in the image layer's pixels."""
    if not len(shapes.data):
        raise ConfigError("a shape that marks the region", "none", "Draw a rectangle, or choose no shapes layer.")
    corners = np.array([image.world_to_data(shapes.data_to_world(corner))[-2:] for corner in shapes.data[-1]])
    return *corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()
