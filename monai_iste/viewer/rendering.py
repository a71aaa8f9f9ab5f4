"""Pixels of the viewer: the slide itself, bicubic interpolation, or the network.

Super-resolved pixels come from the canonical windows of :class:`~monai_iste.inferers.Tiler` and equal those that
``monai-iste upscale`` writes: bit for bit on the CPU in fp32, within one 8-bit level elsewhere. Only the visible part
of a window is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
from torch import nn

from monai_iste.errors import check_choice
from monai_iste.functional import to_array
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.tiling import Read
from monai_iste.io.byte_cache import ByteCache
from monai_iste.networks import load_network
from monai_iste.networks.caching import CachingEncoder
from monai_iste.networks.runtime import resolve_network
from monai_iste.slides.compute import Interpolation
from monai_iste.slides.consistency import ConsistencyMaps, comparable, consistency_maps
from monai_iste.slides.resampling import Size
from monai_iste.viewer.catalog import CatalogImage
from monai_iste.viewer.viewport import Viewport

#: Methods: the network, bicubic interpolation, or nearest neighbor (slide pixels become squares).
METHODS = ("sr", "bicubic", "native")

#: Side of the blocks of a consistency map in slide pixels; smaller than for a whole slide.
CONSISTENCY_BLOCK = 8

# Side of a cached block in output pixels. Small, because blocks are always computed whole.
_BLOCK = 128

# Largest number of output pixels computed in one piece; bounds memory and the delay of a cancellation.
_MAX_PIECE_PIXELS = 2**19

_CACHE_BYTES = 512 * 2**20

CheckCancelled = Callable[[], None]

BlockIndex = tuple[int, int]  # (row, column) in blocks


class Renderer:
    """Render viewports of slides, with a cache of recent pixels.

    Safe to call from several threads, but only one of them should use the network.

    Args:
        load_network: returns the network, on its device and in evaluation mode; called once, at the first use.
        cache_bytes: limit of the one cache, of upscaled pixels, encoded images, the features of a
            :class:`~monai_iste.networks.caching.CachingEncoder`, and the decoded pixels of a catalog that shares it.
            One image or feature map of more than half of the limit is kept beside it.
        tiler: defines the canonical windows.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (60, 40), "pink").save(file)
        >>> renderer = Renderer(lambda: Interpolation())
        >>> pixels = renderer.render(CatalogImage("a", file), Viewport((148, 222), 100, -10, 60, 50), "sr")
        >>> pixels.shape, pixels[0, 0].tolist(), pixels[0, 10].tolist()
        ((60, 50, 3), [255, 255, 255], [255, 192, 203])
    """

    def __init__(
        self,
        load_network: Callable[[], nn.Module],
        cache_bytes: int = _CACHE_BYTES,
        tiler: Tiler | None = None,
    ) -> None:
        self._load_network, self._load_lock = load_network, Lock()
        self._network: nn.Module | None = None
        self._bicubic = Interpolation()
        self.tiler = tiler or Tiler()
        self.cache = ByteCache(cache_bytes, keep_large=True)

    @property
    def network(self) -> nn.Module:
        """The network, loaded at the first use."""
        with self._load_lock:
            if self._network is None:
                network = self._load_network()
                for module in network.modules():
                    if isinstance(module, CachingEncoder):
                        module.cache = self.cache
                self._network = network
            return self._network

    @property
    def grid(self) -> dict[str, int]:
        """Sides of windows and of their overlap in slide pixels, and of cached blocks in output pixels."""
        return {"window": self.tiler.window, "overlap": self.tiler.overlap, "block": _BLOCK}

    def render(
        self, image: CatalogImage, viewport: Viewport, method: str, check_cancelled: CheckCancelled = lambda: None
    ) -> np.ndarray:
        """Render the pixels of a viewport, white outside the slide.

        A viewport that is not upscaled (:meth:`~monai_iste.viewer.viewport.Viewport.is_upscaled`) shows the resampled
        slide, for every method.

        Args:
            check_cancelled: called between two pieces of work; raises to stop.
        Shape:
            returns (height, width, 3) uint8.
        Raises:
            ConfigError: the method is unknown.
        """
        check_choice("a method", method, METHODS)
        pixels = np.full((viewport.height, viewport.width, 3), 255, np.uint8)
        region = viewport.region_on_slide()
        if region is None:
            return pixels
        if not viewport.is_upscaled(image.size):
            rendered = image.read_at(viewport.size, region)
        elif method == "native":
            rendered = _upscale_nearest(image, viewport.size, region)
        else:
            rendered = self.upscale_region(image, viewport.size, region, method, check_cancelled)
        top, left = region.top - viewport.top, region.left - viewport.left
        pixels[top : top + region.height, left : left + region.width] = rendered
        return pixels

    def upscale_region(
        self,
        image: CatalogImage,
        size: Size,
        region: Region,
        method: str,
        check_cancelled: CheckCancelled = lambda: None,
    ) -> np.ndarray:
        """Return a region of the slide upscaled to ``size``, from cached blocks and newly computed ones.

        Shape:
            returns (height, width, 3) uint8.
        """
        rows, columns = (
            range(start // _BLOCK, _ceil_div(start + length, _BLOCK))
            for start, length in ((region.top, region.height), (region.left, region.width))
        )

        version = image.version

        def cache_key(index: BlockIndex) -> tuple[Any, ...]:
            return image.id, version, tuple(size), method, *index

        blocks = {index: self.cache.get(cache_key(index)) for index in ((y, x) for y in rows for x in columns)}
        missing = {index for index, block in blocks.items() if block is None}
        for piece in _merge_blocks(missing):
            for index, block in self._compute_blocks(image, size, piece, method, check_cancelled):
                blocks[index] = block
                self.cache.put(cache_key(index), block)
        joined = np.concatenate([np.concatenate([blocks[y, x] for x in columns], axis=1) for y in rows])
        top, left = region.top - rows.start * _BLOCK, region.left - columns.start * _BLOCK
        return joined[top : top + region.height, left : left + region.width]

    def _compute_blocks(
        self, image: CatalogImage, size: Size, piece: Region, method: str, check_cancelled: CheckCancelled
    ) -> Iterator[tuple[BlockIndex, np.ndarray]]:
        """Compute the blocks of a rectangle, which is counted in blocks."""
        top, left = piece.top * _BLOCK, piece.left * _BLOCK
        height, width = (
            min(start + n * _BLOCK, whole) - start
            for start, n, whole in ((top, piece.height, size[0]), (left, piece.width, size[1]))
        )
        network = self.network if method == "sr" else self._bicubic
        region = Region(top, left, height, width)
        output = self.tiler.region(image.read, image.size, network, size, region, check_cancelled)
        pixels = to_array(output)
        for y in range(piece.height):
            for x in range(piece.width):
                block = pixels[y * _BLOCK : (y + 1) * _BLOCK, x * _BLOCK : (x + 1) * _BLOCK]
                yield (piece.top + y, piece.left + x), np.ascontiguousarray(block)

    # --- consistency --------------------------------------------------------------------------------------------------

    def consistency(
        self, image: CatalogImage, viewport: Viewport, check_cancelled: CheckCancelled = lambda: None
    ) -> tuple[ConsistencyMaps, tuple[int, int]]:
        """Compute the consistency maps of a viewport.

        The values equal those of :func:`~monai_iste.slides.consistency.consistency_maps` on the whole slide, because a
        margin of one block is computed and cropped.

        Returns:
            the maps in 8-bit levels, (n, m) each, and the slide pixel (y, x) of their corner. The maps are empty where
            nothing is inferred: outside the slide, or if the viewport is not upscaled.
        """
        region, block = viewport.region_on_slide(), CONSISTENCY_BLOCK
        if region is None or not viewport.is_upscaled(image.size):
            return ConsistencyMaps(*np.zeros((2, 0, 0), np.float32)), (0, 0)
        blocks = [
            _covered_blocks(start, length, big, n, block)
            for start, length, big, n in zip(region[:2], region[2:], viewport.size, image.size, strict=True)
        ]
        padded = _padded_region(blocks, viewport.size, image.size, block)

        def reader(method: str) -> Read:
            pixels = self.upscale_region(image, viewport.size, padded, method, check_cancelled)
            return lambda part: pixels[part._replace(top=part.top - padded.top, left=part.left - padded.left).slices]

        maps = consistency_maps(
            image.read, reader("sr"), image.size, viewport.size, block, None, padded, reader("bicubic")
        )
        map_corner = comparable(image.size, viewport.size, padded)[:2]
        rows, columns = (
            slice(first - start // block, last - start // block)
            for (first, last), start in zip(blocks, map_corner, strict=True)
        )
        return ConsistencyMaps(*(levels[rows, columns] for levels in maps)), (
            blocks[0][0] * block,
            blocks[1][0] * block,
        )


def network_loader(
    preset: str,
    weights: Any,
    device: str,
    precision: str,
    allow_untrained: bool = False,
    input_blur: float | None = None,
) -> Callable[[], nn.Module]:
    """Return a function that loads a preset whose encoder caches the features of recent windows.

    Raises:
        ConfigError, CheckpointError: raised by the returned function, as by :func:`monai_iste.load`.
    """

    def load() -> nn.Module:
        network = load_network(preset, weights, device, allow_untrained)  # not the shared one: its encoder is replaced
        encoder = getattr(network, "encoder", None)
        if isinstance(encoder, nn.Module) and hasattr(encoder, "out_channels"):
            network.encoder = CachingEncoder(encoder, _CACHE_BYTES).eval()
        return resolve_network(network, precision=precision, input_blur=input_blur)

    return load


def _upscale_nearest(image: CatalogImage, size: Size, region: Region) -> np.ndarray:
    """Enlarge the slide's own pixels to squares; nothing is interpolated."""
    rows, columns = (
        (2 * np.arange(start, start + length) + 1) * n // (2 * big)
        for start, length, n, big in zip(region[:2], region[2:], image.size, size, strict=True)
    )
    top, left, bottom, right = (int(n) for n in (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
    pixels = image.read(Region(top, left, bottom - top, right - left))
    return pixels[(rows - top)[:, None], columns - left]


def _merge_blocks(indices: set[BlockIndex]) -> Iterator[Region]:
    """Merge blocks into rectangles, counted in blocks, of at most :data:`_MAX_PIECE_PIXELS`.

    Horizontal runs are found first; equal runs of consecutive rows are then joined.
    """
    runs: dict[tuple[int, int], list[int]] = {}
    for y in sorted({y for y, _ in indices}):
        columns = sorted(x for row, x in indices if row == y)
        starts = [x for x in columns if (y, x - 1) not in indices]
        ends = [x for x in columns if (y, x + 1) not in indices]
        for start, end in zip(starts, ends, strict=True):
            runs.setdefault((start, end + 1), []).append(y)
    for (start, end), rows in runs.items():
        max_rows = max(1, _MAX_PIECE_PIXELS // (_BLOCK**2 * (end - start)))
        first = rows[0]
        for y, following in zip(rows, [*rows[1:], None], strict=True):
            if following != y + 1 or y + 1 - first == max_rows:
                yield Region(first, start, y + 1 - first, end - start)
                first = following if following is not None else first


def _covered_blocks(start: int, length: int, big: int, n: int, block: int) -> tuple[int, int]:
    """Return the half-open range of slide blocks that output pixels touch along one axis."""
    return start * n // (big * block), _ceil_div((start + length) * n, big * block)


def _padded_region(blocks: list[tuple[int, int]], size: Size, native: Size, block: int) -> Region:
    """Return the output region of a range of slide blocks, with one more block on each side."""
    box = []
    for (first, last), big, n in zip(blocks, size, native, strict=True):
        begin, end = max(0, (first - 1) * block), min(n, (last + 1) * block)
        low, high = begin * big // n, _ceil_div(end * big, n)
        box.append((low, high - low))
    return Region(box[0][0], box[1][0], box[0][1], box[1][1])


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
