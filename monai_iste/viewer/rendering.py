"""Where the viewer's pixels come from: the slide itself, bicubic interpolation, or the network.

Magnified pixels are those of the canonical windows of :class:`~monai_iste.inferers.ArbitraryScaleInferer`, the same
that ``monai-iste upscale`` writes. Of a window only the part that is looked at is decoded; that changes no bit of it
where this was measured (CPU, fp32), and one 8-bit level at most by the inferer's contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_iste.coordinates import cell_size
from monai_iste.errors import ConfigError
from monai_iste.functional import to_range
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.inferers.arbitrary_scale import AxisWindow
from monai_iste.networks import load_network
from monai_iste.networks.caching import ByteCache, CachingEncoder
from monai_iste.networks.runtime import at_precision
from monai_iste.slides.compute import Interpolation
from monai_iste.slides.consistency import comparable, consistency_map
from monai_iste.slides.resampling import Size
from monai_iste.viewer.catalog import ViewedImage
from monai_iste.viewer.viewport import Frame

#: How a slide is magnified: by the network, by interpolation, or not at all (its pixels become squares).
METHODS = ("sr", "bicubic", "native")

#: Side of the squares of the consistency map, in pixels of the slide: finer than that of whole slides.
CONSISTENCY_BLOCK = 8

# Output pixels along the side of the squares that are kept: small, because whole ones are computed.
_BLOCK = 128

# Output pixels that are decoded at once: between two such pieces work can be stopped, and memory is bounded by it.
_AT_ONCE = 2**19

_PIXEL_BYTES, _FEATURE_BYTES = 256 * 2**20, 256 * 2**20

Check = Callable[[], None]


Key = tuple[int, int]


class Renderer:
    """Pixels of slides at any size, with a memory for those that were computed last.

    May be called from several threads; the network should be asked from one of them alone.

    Args:
        load: gives the network, on its device and in evaluation mode; called once, when it is first needed.
        limit: bytes of magnified pixels, and of encoded pictures, that are kept.
        inferer: whose windows these are.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (60, 40), "pink").save(file)
        >>> renderer = Renderer(lambda: Interpolation())
        >>> pixels = renderer.render(ViewedImage("a", file), Frame((148, 222), 100, -10, 60, 50), "sr")
        >>> pixels.shape, pixels[0, 0].tolist(), pixels[0, 10].tolist()
        ((60, 50, 3), [255, 255, 255], [255, 192, 203])
    """

    def __init__(
        self,
        load: Callable[[], nn.Module],
        limit: int = _PIXEL_BYTES,
        inferer: ArbitraryScaleInferer | None = None,
    ) -> None:
        self._load, self._loading = load, Lock()
        self._network: nn.Module | None = None
        self._bicubic = Interpolation()
        self.inferer = inferer or ArbitraryScaleInferer()
        self.cache = ByteCache(limit, lambda value: value.nbytes if isinstance(value, np.ndarray) else len(value))

    @property
    def network(self) -> nn.Module:
        """The network, loaded by whoever comes first."""
        with self._loading:
            if self._network is None:
                self._network = self._load()
            return self._network

    @property
    def nbytes(self) -> int:
        """Bytes that are kept: pixels, encoded pictures, feature maps."""
        modules = () if self._network is None else self._network.modules()
        return self.cache.nbytes + sum(m.cache.nbytes for m in modules if isinstance(m, CachingEncoder))

    def render(self, image: ViewedImage, frame: Frame, method: str, check: Check = lambda: None) -> np.ndarray:
        """The pixels of a frame, white where there is no slide.

        A frame that does not magnify (:meth:`~monai_iste.viewer.viewport.Frame.magnifies`) shows the slide resampled,
        whatever the method.

        Args:
            check: called between two pieces of work; what it raises ends the work.
        Shape:
            returns (height, width, 3) uint8.
        """
        if method not in METHODS:
            raise ConfigError(f"a method: {', '.join(METHODS)}", repr(method[:100]), "Choose one of these.")
        pixels = np.full((frame.height, frame.width, 3), 255, np.uint8)
        inside = frame.inside()
        if inside is None:
            return pixels
        if not frame.magnifies(image.size):
            found = image.read_at(frame.size, *inside).transpose(1, 2, 0)
        elif method == "native":
            found = _squares(image, frame.size, inside)
        else:
            found = self.magnified(image, frame.size, inside, method, check)
        top, left = inside.top - frame.top, inside.left - frame.left
        pixels[top : top + inside.height, left : left + inside.width] = found
        return pixels

    def magnified(
        self, image: ViewedImage, size: Size, region: Region, method: str, check: Check = lambda: None
    ) -> np.ndarray:
        """A region of the slide magnified to ``size``, whose lattice of squares is computed and kept.

        Shape:
            returns (height, width, 3) uint8.
        """
        rows, columns = (
            range(start // _BLOCK, _ceil(start + length, _BLOCK))
            for start, length in ((region.top, region.height), (region.left, region.width))
        )

        def name(key: Key) -> tuple[Any, ...]:
            return image.id, tuple(size), method, *key

        known = {key: self.cache.get(name(key)) for key in ((y, x) for y in rows for x in columns)}
        missing = {key for key, block in known.items() if block is None}
        for box in _boxes(missing):
            for key, block in self._compute(image, size, box, method, check):
                known[key] = block
                self.cache.put(name(key), block)
        joined = np.concatenate([np.concatenate([known[y, x] for x in columns], axis=1) for y in rows])
        top, left = region.top - rows.start * _BLOCK, region.left - columns.start * _BLOCK
        return joined[top : top + region.height, left : left + region.width]

    def _compute(
        self, image: ViewedImage, size: Size, box: Region, method: str, check: Check
    ) -> Iterator[tuple[Key, np.ndarray]]:
        """The squares of a box, which is counted in squares."""
        top, left = box.top * _BLOCK, box.left * _BLOCK
        height, width = (
            min(start + n * _BLOCK, whole) - start
            for start, n, whole in ((top, box.height, size[0]), (left, box.width, size[1]))
        )
        pixels = to_range(self._blend(image, size, Region(top, left, height, width), method, check), torch.uint8)
        array = pixels.permute(1, 2, 0).numpy()
        for y in range(box.height):
            for x in range(box.width):
                square = array[y * _BLOCK : (y + 1) * _BLOCK, x * _BLOCK : (x + 1) * _BLOCK]
                yield (box.top + y, box.left + x), np.ascontiguousarray(square)

    @torch.no_grad()
    def _blend(self, image: ViewedImage, size: Size, region: Region, method: str, check: Check) -> Tensor:
        """A region from the windows that have a share in it, summed up in the order of the inferer's bands."""
        network = self.network if method == "sr" else self._bicubic
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        cell = cell_size(image.size, size, device).unsqueeze(0)

        def read(top: int, left: int, bottom: int, right: int) -> Tensor:
            return torch.from_numpy(image.read(top, left, bottom - top, right - left)).float() / 255

        total = torch.zeros(3, region.height, region.width)
        bottom, right = region.top + region.height, region.left + region.width
        for row in self._parts(image.size[0], size[0], region.top, bottom):
            for column in self._parts(image.size[1], size[1], region.left, right):
                check()
                share = self.inferer.window_output(read, network, row, column, cell)
                y, x = (slice(s.start - a, s.stop - a) for s, a in ((row, region.top), (column, region.left)))
                total[:, y, x] += share
        return total

    def _parts(self, length: int, magnified: int, begin: int, end: int) -> list[AxisWindow]:
        """The windows' spans along an axis, cut to what is wanted."""
        parts = []
        for span in self.inferer.axis_windows(length, magnified, begin, end):
            start, stop = max(span.start, begin), min(span.stop, end)
            kept = slice(start - span.start, stop - span.start)
            parts.append(span._replace(start=start, stop=stop, coord=span.coord[kept], weight=span.weight[kept]))
        return parts

    # --- consistency --------------------------------------------------------------------------------------------------

    def consistency(
        self, image: ViewedImage, frame: Frame, check: Check = lambda: None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """How far the magnified slide, reduced again, departs from the slide in a frame, square by square.

        The values are those of :func:`~monai_iste.slides.consistency.consistency_map` of the whole slide: a margin of
        squares is computed and left out.

        Returns:
            the squares in 8-bit levels, (n, m), and the slide's pixel (y, x) at which they begin. There are none where
            nothing was inferred: beside the slide, and where the frame does not magnify.
        """
        inside, side = frame.inside(), CONSISTENCY_BLOCK
        if inside is None or not frame.magnifies(image.size):
            return np.zeros((0, 0), np.float32), (0, 0)
        wanted = [
            _covered(start, length, big, n, side)
            for start, length, big, n in zip(inside[:2], inside[2:], frame.size, image.size, strict=True)
        ]
        origin = wanted[0][0] * side, wanted[1][0] * side
        made = _made(wanted, frame.size, image.size, side)
        pixels = self.magnified(image, frame.size, made, "sr", check)

        def read_output(top: int, left: int, height: int, width: int) -> np.ndarray:
            y, x = top - made.top, left - made.left
            return pixels[y : y + height, x : x + width]

        levels = consistency_map(image.read, read_output, image.size, frame.size, side, region=made)
        begin = comparable(image.size, frame.size, made)[:2]
        rows, columns = (
            slice(first - start // side, last - start // side)
            for (first, last), start in zip(wanted, begin, strict=True)
        )
        return levels[rows, columns], origin


def network_loader(
    preset: str, weights: Any, device: str, precision: str, allow_untrained: bool = False
) -> Callable[[], nn.Module]:
    """What :class:`Renderer` loads: a preset whose encoder remembers the windows that it saw last.

    Raises:
        ConfigError, CheckpointError: when it is called, as :func:`monai_iste.load` does.
    """

    def load() -> nn.Module:
        network = load_network(preset, weights, device, allow_untrained)
        encoder = getattr(network, "encoder", None)
        if isinstance(encoder, nn.Module) and hasattr(encoder, "out_channels"):
            network.encoder = CachingEncoder(encoder, _FEATURE_BYTES).eval()
        return at_precision(network, precision)

    return load


def _squares(image: ViewedImage, size: Size, region: Region) -> np.ndarray:
    """The slide's own pixels as squares: nothing is added to what was measured."""
    rows, columns = (
        (2 * np.arange(start, start + length) + 1) * n // (2 * big)
        for start, length, n, big in zip(region[:2], region[2:], image.size, size, strict=True)
    )
    pixels = image.read(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    return pixels.transpose(1, 2, 0)[(rows - rows[0])[:, None], columns - columns[0]]


def _boxes(keys: set[Key]) -> Iterator[Region]:
    """Squares as rectangles: runs of a row, together with the same runs of the rows below, none too large."""
    runs: dict[tuple[int, int], list[int]] = {}
    for y in sorted({y for y, _ in keys}):
        columns = sorted(x for row, x in keys if row == y)
        starts = [x for x in columns if (y, x - 1) not in keys]
        ends = [x for x in columns if (y, x + 1) not in keys]
        for start, end in zip(starts, ends, strict=True):
            runs.setdefault((start, end + 1), []).append(y)
    for (start, end), rows in runs.items():
        most = max(1, _AT_ONCE // (_BLOCK**2 * (end - start)))
        first = rows[0]
        for y, following in zip(rows, [*rows[1:], None], strict=True):
            if following != y + 1 or y + 1 - first == most:
                yield Region(first, start, y + 1 - first, end - start)
                first = following if following is not None else first


def _covered(start: int, length: int, big: int, n: int, side: int) -> tuple[int, int]:
    """The first square of the slide that output pixels touch along an axis, and the one after the last."""
    return start * n // (big * side), _ceil((start + length) * n, big * side)


def _made(wanted: list[tuple[int, int]], size: Size, native: Size, side: int) -> Region:
    """The output pixels that these squares and one more on each side are made of."""
    box = []
    for (first, last), big, n in zip(wanted, size, native, strict=True):
        begin, end = max(0, (first - 1) * side), min(n, (last + 1) * side)
        low, high = begin * big // n, _ceil(end * big, n)
        box.append((low, high - low))
    return Region(box[0][0], box[1][0], box[0][1], box[1][1])


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
