"""Plugin for napari: super-resolve an image layer, or a marked part of it, by any factor.

napari finds the plugin by the entry point ``napari.manifest`` and builds the panel from the annotations of
:func:`super_resolve`. Neither napari nor Qt is imported before that function is called.
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
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.output_size import OutputSize
from monai_iste.io.samples import over_background
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import resolve_network

if TYPE_CHECKING:
    import napari

LayerData = tuple[np.ndarray, dict[str, Any], str]


def super_resolve(
    image: napari.layers.Image, scale: float = 4.0, rectangle: napari.layers.Shapes | None = None
) -> napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]:
    """Super-resolve an RGB layer, or the part under the last shape of a shapes layer, with the released weights.

    Runs in the background. The new layer is placed exactly over the old one. Its pixels are inferred: not for
    diagnosis.

    Args:
        image: layer of RGB pixels. Of a pyramid the largest level is used, and only the needed part is read.
        scale: scale factor, at least 1.
        rectangle: shapes layer whose last shape marks the region; none: the whole layer.
    """
    from napari.qt.threading import thread_worker  # imported here because napari is optional
    from qtpy.QtCore import QTimer

    bounds = None if rectangle is None else _shape_bounds(image, rectangle)

    @thread_worker
    def work() -> LayerData:
        return upscale_layer(image, scale, bounds)

    worker = work()
    QTimer.singleShot(0, worker.start)  # starts after napari has connected to the returned worker
    return worker


def upscale_layer(
    layer: Any, scale: float, bounds: tuple[float, ...] | None = None, network: nn.Module | None = None
) -> LayerData:
    """Upscale an image layer, or a part of it, to a layer placed over it.

    The pixels of a part equal those of the whole upscaled layer.

    Args:
        layer: napari ``Image`` layer, RGB or RGBA; opacity is composited over white.
        scale: scale factor, at least 1.
        bounds: part of the layer as (top, left, bottom, right) in layer pixels, whose centers are at whole numbers;
            default: the whole layer.
        network: default: :data:`DEFAULT_PRESET` with released weights.
    Returns:
        data, settings and layer type: a LayerDataTuple of napari.
    Units: uint8, or floating point in [0, 1], as in the layer.
    Raises:
        ShapeError: the layer is not RGB, is rotated or sheared, or the bounds lie outside.
        ScaleError: the scale is below 1, or the result too large.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if not layer.rgb or len(data.shape) != 3:
        raise ShapeError("a layer of RGB pixels", f"shape {tuple(data.shape)}", "Split stacks, merge channels first.")
    if not np.allclose(layer.rotate, np.eye(len(layer.rotate))) or np.any(layer.shear):  # rotate is a matrix
        raise ShapeError("a layer without rotation and shear", "one with rotation or shear", "Remove these first.")
    size = (int(data.shape[0]), int(data.shape[1]))
    top, left, bottom, right = _covered_pixels(bounds, size)
    output_size = OutputSize(scale)
    output_size.resolve_upscaled((bottom - top, right - left))  # raises if the result is too large
    full = output_size.resolve_upscaled(size, limit=2**62)  # no limit: only the part is computed
    ratio = full[0] / size[0], full[1] / size[1]
    region = _upscaled_region((top, left, bottom, right), ratio)
    network = resolve_network(network)
    rows = list(_bands(data, size, network, full, region))
    corner = (region.top + 0.5) / ratio[0] - 0.5, (region.left + 0.5) / ratio[1] - 0.5  # center of the first pixel
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
    """Yield the upscaled region from top to bottom as (rows, W, 3)."""
    dtype = torch.uint8 if data.dtype == np.uint8 else torch.float32

    def read(part: Region) -> np.ndarray:
        pixels = np.asarray(data[part.slices])  # lazy arrays are read here
        opacity = pixels[..., 3:]
        if opacity.size and pixels.dtype == np.uint8:
            pixels = over_background(pixels)
        elif opacity.size:
            pixels = pixels[..., :3] * opacity + (1 - opacity)
        return np.array(pixels[..., :3], order="C")  # writable

    for band in Tiler().bands(read, size, network, full, region):
        yield to_range(band, dtype).permute(1, 2, 0).numpy()


def _upscaled_region(pixels: tuple[int, int, int, int], ratio: tuple[float, float]) -> Region:
    """Return the output region that covers the pixels (top, left, bottom, right) of the layer."""
    top, left, bottom, right = (n * r for n, r in zip(pixels, ratio * 2, strict=True))
    first = math.floor(top), math.floor(left)
    return Region(*first, math.ceil(bottom) - first[0], math.ceil(right) - first[1])


def _covered_pixels(bounds: tuple[float, ...] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels (top, left, bottom, right) that the bounds touch."""
    if bounds is None:
        return 0, 0, *size
    top, left = (max(0, math.floor(edge + 0.5)) for edge in bounds[:2])
    bottom, right = (min(n, math.ceil(edge + 0.5)) for edge, n in zip(bounds[2:], size, strict=True))
    if bottom <= top or right <= left:
        raise ShapeError("a rectangle on the layer", "one beside it", "Draw it on the tissue.")
    return top, left, bottom, right


def _shape_bounds(image: Any, shapes: Any) -> tuple[float, ...]:
    """Return the bounds of the last shape in pixels of the image layer."""
    if not len(shapes.data):
        raise ConfigError("a shape that marks the region", "none", "Draw a rectangle, or choose no shapes layer.")
    corners = np.array([image.world_to_data(shapes.data_to_world(corner))[-2:] for corner in shapes.data[-1]])
    return *corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()
