"""Tiled inference at any scale: the output owns the grid, and canonical windows contribute to it.

Common core of the function, the command, slides and the viewer. It needs PyTorch, not MONAI;
:class:`~monai_iste.inferers.ArbitraryScaleInferer` is its MONAI interface.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from monai_iste.coordinates import LATTICE_PERIOD, cell_size, output_size
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.networks.grid_sampling import query_grid
from monai_iste.networks.parallel import map_in_order, worker_threads

_BAND_ROWS = 16  # output rows of one band

#: Bytes of the windows that are computed at once. Where windows are so large that fewer than one per worker fit in,
#: the other workers help with these.
MAX_WINDOW_BYTES = 2**31

# Bytes of a window while it is computed, per output pixel and per input pixel: float32 colors and copies of them, and
# the feature maps of a light encoder.
_OUTPUT_BYTES, _INPUT_BYTES = 48, 2048


class Region(NamedTuple):
    """Rectangle of an image: first row and column, height and width, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the region, as indices of an array (h, w, ...).

        Example:
            >>> Region(2, 3, 10, 20).slices
            (slice(2, 12, None), slice(3, 23, None))
        """
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


#: Function that reads a region of the input: (h, w, 3), array or tensor; uint8 from 0 to 255 or floats in [0, 1].
Read = Callable[[Region], Any]


class AxisWindow(NamedTuple):
    """One canonical window along one axis, the ``number``-th of the image.

    ``start:stop`` are the output pixels it contributes to. ``first:last`` are the low-resolution pixels it is computed
    from. ``coord`` are the coordinates of the output pixels in that input, in [-1, 1]. ``weight`` is its weight in each
    of them (float64).
    """

    number: int
    start: int
    stop: int
    first: int
    last: int
    coord: Tensor
    weight: Tensor

    def cut(self, begin: int, end: int) -> AxisWindow:
        """Restrict the window to the output pixels ``begin:end``; its input stays the same."""
        start, stop = max(self.start, begin), min(self.stop, end)
        kept = slice(start - self.start, stop - self.start)
        return self._replace(start=start, stop=stop, coord=self.coord[kept], weight=self.weight[kept])


class Tiler:
    """Upscale images of any size by any scale, in bounded memory, without seams.

    The output of an h x w image has ``round(h * scale) x round(w * scale)`` pixels, or any size that is given as
    ``scale=(H, W)``: then each axis has a scale of its own. Pixel i lies at ``(i + 0.5) * h / H - 0.5`` low-resolution
    pixels, computed in float64 from its global index. The image is covered by a fixed lattice of windows, one every
    ``window`` pixels. Each window is computed from its own fixed input: the window, half the overlap and the halo
    around it. Neighboring windows are blended over ``overlap`` pixels by weights that rise smoothly and sum to one. The
    value of a pixel depends on the image, the scale and the weights alone, never on the requested region.

    On the CPU several windows are computed at once, as many as PyTorch has threads, each by one of them
    (:mod:`monai_iste.networks.parallel`). The pixels do not depend on their number.

    Args:
        window: distance between windows; a multiple of 8, the period of the key lattice and the encoder's window.
        overlap: width of the zone in which two windows are blended.
        halo: further input pixels around a window to which it does not contribute; half the overlap plus the halo is a
            multiple of 8, so that every input begins on the encoder's lattice.
    Units: low-resolution pixels; intensities in [0, 1], results not clamped.
    Raises:
        ConfigError: the sizes do not fit together.

    Example:
        >>> from monai_iste.networks import Bicubic
        >>> pixels = torch.rand(30, 26, 3)
        >>> read = lambda region: pixels[region.slices]
        >>> Tiler(window=16).region(read, (30, 26), Bicubic(), (111, 96), Region(9, 0, 70, 96)).shape
        torch.Size([3, 70, 96])
    """

    def __init__(self, window: int = 192, overlap: int = 16, halo: int = 16) -> None:
        if (
            window % LATTICE_PERIOD
            or (overlap // 2 + halo) % LATTICE_PERIOD
            or overlap % 2
            or not 0 < overlap <= window
            or halo < 0
        ):
            raise ConfigError(
                f"window and overlap / 2 + halo in multiples of {LATTICE_PERIOD}, overlap even and at most window, "
                "halo of at least 0",
                f"window {window}, overlap {overlap}, halo {halo}",
                "The default is 192, 16, 16.",
            )
        self.window, self.overlap, self.halo = window, overlap, halo

    @torch.no_grad()
    def bands(
        self,
        read: Read,
        size: tuple[int, int],
        network: nn.Module,
        scale: float | tuple[int, int],
        region: Region | None = None,
    ) -> Iterator[Tensor]:
        """Yield the output from top to bottom, a few rows at a time; ``window * scale`` rows of it are held.

        Args:
            read: see :data:`Read`.
            size: (h, w) of the whole image.
            network: on its device, in evaluation mode.
            scale: magnification, or the size (H, W) of the whole output.
            region: part of the output, in its pixels; default: all of it.
        Shape:
            yields (3, rows, W), float32, on the CPU; the rows of all bands make up the region.
        Raises:
            ScaleError: the scale is neither a finite number above 0 nor a size of at least 1 x 1.
            ShapeError: the region is not inside the output.
        """
        output = _output_size(size, scale)
        box = Region(0, 0, *output) if region is None else inside(region, output)
        cell = self.cell(size, output, network)
        rows = self.axis_windows(size[0], output[0], box.top, box.top + box.height)
        columns = self.axis_windows(size[1], output[1], box.left, box.left + box.width)
        left, width = columns[0].start, columns[-1].stop - columns[0].start
        buffer = torch.zeros(3, max(row.stop - row.start for row in rows), width)  # reused: rows move up in it
        with closing(self.window_outputs(read, network, product(rows, columns), cell)) as outputs:
            for row, end in zip(rows, [row.start for row in rows[1:]] + [rows[-1].stop], strict=True):
                for column, window_output in zip(columns, outputs, strict=False):
                    buffer[:, : window_output.shape[1], column.start - left : column.stop - left] += window_output
                finished, blended = end - row.start, row.stop - end
                needed = range(max(0, box.top - row.start), min(finished, box.top + box.height - row.start))
                for top in range(needed.start, needed.stop, _BAND_ROWS):
                    bottom = min(top + _BAND_ROWS, needed.stop)
                    yield buffer[:, top:bottom, box.left - left : box.left - left + box.width].clone()
                buffer[:, :blended] = buffer[:, finished : finished + blended].clone()
                buffer[:, blended:] = 0

    @torch.no_grad()
    def region(
        self,
        read: Read,
        size: tuple[int, int],
        network: nn.Module,
        output: tuple[int, int],
        region: Region,
        between: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Compute one region of the output; of each window only the part inside the region is decoded.

        The pixels are those of :meth:`bands`: equal bit for bit on the CPU in fp32, within one 8-bit level elsewhere.

        Args:
            read, size, network: as for :meth:`bands`.
            output: size (H, W) of the whole output.
            region: in pixels of the output.
            between: called before each window and while one is awaited; an exception that it raises cancels the work.
        Shape:
            returns (3, height, width), float32, on the CPU.
        Raises:
            ShapeError: the region is not inside the output.
        """
        top, left, height, width = inside(region, output)
        cell = self.cell(size, output, network)
        rows = self.axis_windows(size[0], output[0], top, top + height)
        columns = self.axis_windows(size[1], output[1], left, left + width)
        total = torch.zeros(3, height, width)
        windows = list(
            product(
                [window.cut(top, top + height) for window in rows],
                [window.cut(left, left + width) for window in columns],
            )
        )
        with closing(self.window_outputs(read, network, windows, cell, between)) as outputs:
            for (row, column), window_output in zip(windows, outputs, strict=True):
                part = total[:, row.start - top : row.stop - top, column.start - left : column.stop - left]
                part += window_output
        return total

    def window_outputs(
        self,
        read: Read,
        network: nn.Module,
        windows: Iterable[tuple[AxisWindow, AxisWindow]],
        cell: Tensor,
        between: Callable[[], None] = lambda: None,
    ) -> Generator[Tensor, None, None]:
        """Yield the weighted contribution of each window, in order; see :meth:`window_output`.

        Windows are read in the calling thread and computed by worker threads.
        """
        threads = worker_threads(network)
        pending = list(windows)
        items = ((row, column, read(input_region(row, column))) for row, column in pending)
        at_once = min((windows_at_once(*window, threads) for window in pending), default=1)
        yield from map_in_order(
            lambda item: self.window_output(item[2], network, item[0], item[1], cell), items, threads, at_once, between
        )

    @torch.no_grad()
    def window_output(
        self, pixels: Any, network: nn.Module, row: AxisWindow, column: AxisWindow, cell: Tensor
    ) -> Tensor:
        """Compute the weighted contribution of one window to the output.

        Args:
            pixels: the window's input (:func:`input_region`), as :data:`Read` returns it.
            cell: of the whole output, see :meth:`cell`.
        Shape:
            cell: (1, 2); returns (3, row.stop - row.start, column.stop - column.start), float32, on the CPU.
        """
        image = network_input(pixels, cell.device)
        rgb = query_grid(network, image, row.coord.to(cell.device), column.coord.to(cell.device), cell)
        weight = (row.weight.unsqueeze(1) * column.weight).float()
        return rgb[0].float().cpu().contiguous() * weight

    @staticmethod
    def cell(size: tuple[int, int], output: tuple[int, int], network: nn.Module) -> Tensor:
        """Cell of the whole output on the network's device, (1, 2); see :func:`~monai_iste.coordinates.cell_size`."""
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        return cell_size(size, output, device).unsqueeze(0)

    def axis_windows(self, lr_size: int, hr_size: int, begin: int = 0, end: int | None = None) -> list[AxisWindow]:
        """Canonical windows of one axis that contribute to the output pixels ``begin:end`` (default: all)."""
        end = hr_size if end is None else end
        count = max(1, -(-(lr_size - self.overlap) // self.window))  # no window is narrower than the overlap
        first, last = (int(i * lr_size / hr_size) // self.window for i in (begin, end - 1))
        candidates = (
            self._axis_window(k, count, lr_size, hr_size) for k in range(max(0, first - 1), min(count, last + 2))
        )
        return [window for window in candidates if window.start < end and window.stop > begin]

    def _axis_window(self, k: int, count: int, lr_size: int, hr_size: int) -> AxisWindow:
        """Window k of ``count``; its cost does not depend on the size of the image."""
        edges = (k * self.window - self.overlap, (k + 1) * self.window + self.overlap)
        low, high = (min(max(0, edge * hr_size // lr_size), hr_size) for edge in edges)
        if k == count - 1:
            high = hr_size
        position = (torch.arange(low, high, dtype=torch.float64) + 0.5) * lr_size / hr_size - 0.5

        def beyond(border: int) -> Tensor:
            """Fraction of the output beyond the border before window ``border``: 0, then a smooth rise, then 1."""
            if border in (0, count):
                return torch.full_like(position, border == 0)
            ramp = ((position - (border * self.window - 0.5)) / self.overlap + 0.5).clamp(0, 1)
            return ramp * ramp * (3 - 2 * ramp)

        weight = beyond(k) - beyond(k + 1)
        index = weight.nonzero().flatten()
        inner = slice(int(index[0]), int(index[-1]) + 1)
        margin = self.overlap // 2 + self.halo
        first = max(0, k * self.window - margin)
        last = lr_size if k == count - 1 else min(lr_size, (k + 1) * self.window + margin)
        coord = (2 * (position[inner] - first) + 1) / (last - first) - 1
        return AxisWindow(k, low + inner.start, low + inner.stop, first, last, coord.float(), weight[inner])


def input_region(row: AxisWindow, column: AxisWindow) -> Region:
    """Return the part of the image that a window is computed from."""
    return Region(row.first, column.first, row.last - row.first, column.last - column.first)


def windows_at_once(row: AxisWindow, column: AxisWindow, threads: int) -> int:
    """Number of windows like this one that are computed at once, or wait to be blended.

    One per worker and one more, but no more than :data:`MAX_WINDOW_BYTES` hold.
    """
    outputs = (row.stop - row.start) * (column.stop - column.start)
    inputs = (row.last - row.first) * (column.last - column.first)
    return max(1, min(threads + 1, MAX_WINDOW_BYTES // (_OUTPUT_BYTES * outputs + _INPUT_BYTES * inputs)))


def network_input(pixels: Any, device: torch.device) -> Tensor:
    """Convert pixels, as :data:`Read` returns them, to the network's input.

    Shape:
        pixels: (h, w, 3); returns (1, 3, h, w), contiguous (the order in memory decides which kernels run).
    Units: uint8 from 0 to 255, or floating point in [0, 1], to float32 in [0, 1].

    Example:
        >>> import numpy as np
        >>> network_input(np.full((1, 2, 3), 255, np.uint8), torch.device("cpu")).shape
        torch.Size([1, 3, 1, 2])
    """
    image = torch.as_tensor(pixels).to(device).permute(2, 0, 1).unsqueeze(0).contiguous()
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def _output_size(size: tuple[int, int], scale: float | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(scale, tuple):
        return output_size(size, scale)
    if len(scale) != 2 or not all(isinstance(n, int) and n >= 1 for n in scale):
        raise ScaleError("an output size (H, W) of at least 1 x 1", repr(scale), "Give two whole numbers.")
    return scale


def inside(region: Region, size: tuple[int, int]) -> Region:
    """Return the region if it lies inside an image of ``size`` (h, w).

    Raises:
        ShapeError: it does not, or is not four whole numbers.
    """
    numbers = list(region)
    if len(numbers) != 4 or not all(isinstance(n, Integral) for n in numbers):
        raise ShapeError(
            "a region of four whole numbers (top, left, height, width)", repr(region), "Choose a part of the image."
        )
    top, left, height, width = region
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ShapeError(
            f"a region (top, left, height, width) inside {size[0]} x {size[1]} pixels",
            str(tuple(region)),
            "Choose a part of the image.",
        )
    return Region(*region)
