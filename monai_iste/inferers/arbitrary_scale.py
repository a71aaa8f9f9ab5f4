"""Tiled inference at any scale: the output owns the grid, and canonical windows answer for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_iste.coordinates import LATTICE_PERIOD, cell_size, output_size
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.networks.checks import check_image

_STRIP = 16  # rows that are handed out at once

Reader = Callable[[int, int, int, int], Tensor]


class Region(NamedTuple):
    """A rectangle of the output: first row and column, height and width, in output pixels."""

    top: int
    left: int
    height: int
    width: int


class AxisWindow(NamedTuple):
    """One canonical window along one axis, the ``number``-th of the slide.

    ``start:stop`` are the output pixels it contributes to, ``first:last`` the low-resolution pixels it is computed
    from, ``coord`` where those output pixels lie in that input (in [-1, 1]), ``weight`` its share in each (float64).
    """

    number: int
    start: int
    stop: int
    first: int
    last: int
    coord: Tensor
    weight: Tensor


class ArbitraryScaleInferer(Inferer):
    """Magnify images of any size by any scale, in bounded memory, without seams.

    The output of an h x w image has ``round(h * scale) x round(w * scale)`` pixels, or any size that is given as
    ``scale=(H, W)``: then each axis has a scale of its own. Pixel i lies at
    ``(i + 0.5) * h / H - 0.5`` low-resolution pixels, computed in float64 from its global index. The image is covered
    by a fixed lattice of windows: every ``window`` pixels one begins, each is computed from its own fixed input (the
    window, half the overlap and the halo around it), and neighbors are blended over ``overlap`` pixels by weights that
    rise smoothly and sum to one. What a pixel's value is depends on the image, the scale and the weights alone, never
    on which region was asked for.

    Args:
        window: distance between windows; a multiple of 8, the period of the key lattice and the encoder's window.
        overlap: width of the zone in which two windows are blended.
        halo: further pixels that a window sees but does not answer for; half the overlap plus the halo is a multiple
            of 8, so that every input begins on the encoder's lattice.
    Shape:
        inputs: (B, 3, h, w); returns (B, 3, round(h * scale), round(w * scale)), or the region's height and width.
    Units: low-resolution pixels; intensities in [0, 1], the result not clamped.
    Raises:
        ConfigError: the sizes do not fit together. ShapeError: not an image, or a region outside the output.
        ScaleError: the scale is neither a finite number above 0 nor a size of at least 1 x 1.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
        >>> ArbitraryScaleInferer(window=16)(torch.rand(1, 3, 30, 26), network, scale=3.7).shape
        torch.Size([1, 3, 111, 96])
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

    def __call__(  # type: ignore[override]  # the network must be a module: its device is needed
        self,
        inputs: Tensor,
        network: nn.Module,
        *args: Any,
        scale: float | tuple[int, int] = 2.0,
        region: Region | None = None,
        **kwargs: Any,
    ) -> Tensor:
        check_image(inputs)
        size = (int(inputs.shape[2]), int(inputs.shape[3]))

        def reader(image: Tensor) -> Reader:
            return lambda top, left, bottom, right: image[:, top:bottom, left:right]

        return torch.stack(
            [torch.cat(list(self.bands(reader(image), size, network, scale, region)), dim=1) for image in inputs]
        )

    @torch.no_grad()
    def bands(
        self,
        read: Reader,
        size: tuple[int, int],
        network: nn.Module,
        scale: float | tuple[int, int],
        region: Region | None = None,
    ) -> Iterator[Tensor]:
        """The output from top to bottom, some rows at a time: what is held are ``window * scale`` rows of it.

        Args:
            read: (top, left, bottom, right) -> that part of the image, (3, h, w) in [0, 1].
            size: (h, w) of the whole image.
            scale: magnification, or the size (H, W) of the whole output.
        Shape:
            yields (3, rows, W), float32, on the CPU; the rows of all bands make up the region.
        """
        full = _output_size(size, scale)
        box = Region(0, 0, *full) if region is None else inside(region, full)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        cell = cell_size(size, full, device).unsqueeze(0)
        rows = self.axis_windows(size[0], full[0], box.top, box.top + box.height)
        columns = self.axis_windows(size[1], full[1], box.left, box.left + box.width)
        left, width = columns[0].start, columns[-1].stop - columns[0].start
        band = torch.zeros(3, max(row.stop - row.start for row in rows), width)  # one buffer, rows move up in it
        for row, end in zip(rows, [row.start for row in rows[1:]] + [rows[-1].stop], strict=True):
            for column in columns:
                share = self.window_output(read, network, row, column, cell)
                band[:, : share.shape[1], column.start - left : column.stop - left] += share
            finished, blended = end - row.start, row.stop - end
            wanted = range(max(0, box.top - row.start), min(finished, box.top + box.height - row.start))
            for top in range(wanted.start, wanted.stop, _STRIP):
                part = band[:, top : min(top + _STRIP, wanted.stop), box.left - left : box.left - left + box.width]
                yield part.clone()
            band[:, :blended] = band[:, finished : finished + blended].clone()
            band[:, blended:] = 0

    @torch.no_grad()
    def window_output(
        self, read: Reader, network: nn.Module, row: AxisWindow, column: AxisWindow, cell: Tensor
    ) -> Tensor:
        """A window's weighted share of the output: always the whole window, so that every request gets the same.

        Args:
            cell: of the whole output, on the network's device (:func:`~monai_iste.coordinates.cell_size`).
        Shape:
            cell: (1, 2); returns (3, row.stop - row.start, column.stop - column.start), float32, on the CPU.
        """
        crop = read(row.first, column.first, row.last, column.last).unsqueeze(0).to(cell.device)
        crop = crop.contiguous()  # the order of its bytes decides which kernels run, and so the last bit of the result
        grid = torch.meshgrid(row.coord, column.coord, indexing="ij")
        coord = torch.stack(grid, dim=-1).view(1, -1, 2).to(cell.device)
        rgb: Tensor = network(crop, coord=coord, cell=cell)
        rgb = rgb[0].float().T.reshape(3, len(row.coord), len(column.coord)).cpu()
        return rgb * (row.weight.unsqueeze(1) * column.weight).float()

    def axis_windows(self, lr_size: int, hr_size: int, begin: int = 0, end: int | None = None) -> list[AxisWindow]:
        """The canonical windows of one axis that contribute to the output pixels ``begin:end`` (default: all)."""
        end = hr_size if end is None else end
        count = max(1, -(-(lr_size - self.overlap) // self.window))  # no window is narrower than the overlap
        first, last = (int(i * lr_size / hr_size) // self.window for i in (begin, end - 1))
        near = range(max(0, first - 1), min(count, last + 2))
        return [
            span for k in near if (span := self._span(k, count, lr_size, hr_size)).start < end and span.stop > begin
        ]

    def _span(self, k: int, count: int, lr_size: int, hr_size: int) -> AxisWindow:
        """Window k of ``count``; what it costs does not depend on the size of the image."""
        edges = (k * self.window - self.overlap, (k + 1) * self.window + self.overlap)
        low, high = (min(max(0, edge * hr_size // lr_size), hr_size) for edge in edges)
        if k == count - 1:
            high = hr_size
        position = (torch.arange(low, high, dtype=torch.float64) + 0.5) * lr_size / hr_size - 0.5

        def beyond(border: int) -> Tensor:
            """The share of the output that lies beyond the border before a window: 0, then a smooth rise, then 1."""
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


def _output_size(size: tuple[int, int], scale: float | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(scale, tuple):
        return output_size(size, scale)
    if len(scale) != 2 or not all(isinstance(n, int) and n >= 1 for n in scale):
        raise ScaleError("an output size (H, W) of at least 1 x 1", repr(scale), "Give two whole numbers.")
    return scale


def inside(region: Region, size: tuple[int, int]) -> Region:
    """The region, if it lies inside an image of ``size`` (h, w); else a ShapeError."""
    numbers = list(region)
    if len(numbers) != 4 or not all(isinstance(n, Integral) for n in numbers):
        raise ShapeError(
            "a region of four whole numbers (top, left, height, width)", repr(region), "Ask for a part of the image."
        )
    top, left, height, width = region
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ShapeError(
            f"a region (top, left, height, width) inside {size[0]} x {size[1]} pixels",
            str(tuple(region)),
            "Ask for a part of the image.",
        )
    return Region(*region)
