"""Plan of a super-resolved slide: size, windows, and everything else that its pixels depend on.

A plan holds no open files. Two plans with the same :attr:`SlidePlan.digest` give the same pixels, by which interrupted
work is recognized (:mod:`monai_iste.slides.window_store`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from monai_iste.errors import ScaleError
from monai_iste.inferers.output_size import OutputSize
from monai_iste.inferers.tiling import AxisWindow, Region, Tiler, input_region, inside
from monai_iste.networks.weights import network_digest
from monai_iste.slides.reader import Slide
from monai_iste.slides.source import Source

#: Largest width * height of a super-resolved slide, 200 gigapixels: 600 GB before compression.
MAX_OUTPUT_PIXELS = 200_000_000_000

#: Largest magnification of a slide. Memory grows with its square: a window of 208 pixels becomes 3,328. Networks add
#: nothing to interpolation far below it.
MAX_SCALE = 16.0

_FORMAT = 3  # incremented when the pixels of a plan or the format of the window store change


class Window(NamedTuple):
    """One canonical window of a slide."""

    row: AxisWindow
    column: AxisWindow

    @property
    def key(self) -> tuple[int, int]:
        """Row and column in the lattice of the whole slide."""
        return self.row.number, self.column.number

    @property
    def source(self) -> Region:
        """Region of the slide that it is computed from."""
        return input_region(*self)


@dataclass(frozen=True)
class SlidePlan:
    """Description of the super-resolution of one slide.

    Attributes:
        source: files of the slide. Their content is part of the digest, their names are not: a slide may be moved
            between two runs.
        size: (h, w) of the slide.
        output: (H, W) of the whole super-resolved slide.
        region: part of the output to compute, in output pixels.
        mpp: micrometers per pixel of the slide, (y, x), if known.
        tissue_only: whether the background is interpolated instead of super-resolved.
        precision: ``fp32`` or ``bf16``.
        network_digest: digest of the network.
    """

    source: Source
    size: tuple[int, int]
    output: tuple[int, int]
    region: Region
    mpp: tuple[float, float] | None
    tissue_only: bool
    precision: str
    network_digest: str

    @cached_property
    def tiler(self) -> Tiler:
        return Tiler()

    @property
    def scale(self) -> tuple[float, float]:
        """Effective magnification, (y, x)."""
        return self.output[0] / self.size[0], self.output[1] / self.size[1]

    @property
    def output_mpp(self) -> tuple[float, float] | None:
        """Micrometers per pixel of the result, (y, x), if known."""
        return None if self.mpp is None else (self.mpp[0] / self.scale[0], self.mpp[1] / self.scale[1])

    @cached_property
    def rows(self) -> list[AxisWindow]:
        """Rows of windows that contribute to the region."""
        return self._axis_windows(0, self.region.top, self.region.height)

    @cached_property
    def columns(self) -> list[AxisWindow]:
        """Columns of windows that contribute to the region."""
        return self._axis_windows(1, self.region.left, self.region.width)

    def _axis_windows(self, axis: int, begin: int, length: int) -> list[AxisWindow]:
        return self.tiler.axis_windows(self.size[axis], self.output[axis], begin, begin + length)

    @property
    def windows(self) -> list[Window]:
        """All windows that contribute to the region, row by row."""
        return [Window(row, column) for row in self.rows for column in self.columns]

    def window(self, key: tuple[int, int]) -> Window:
        """Return the window with a :attr:`Window.key`."""
        return Window(self.rows[key[0] - self.rows[0].number], self.columns[key[1] - self.columns[0].number])

    def pixels(self, window: Window) -> int:
        """Count the pixels of the region that a window finishes; overlaps count for the following window.

        The counts of all windows sum up to the region.
        """
        box = self.region
        height = _finished(window.row, self.rows, box.top, box.top + box.height)
        return height * _finished(window.column, self.columns, box.left, box.left + box.width)

    def positions(self, window: AxisWindow, axis: int) -> Tensor:
        """Compute the positions of a window's output pixels along an axis, in pixels of the slide; float64."""
        index = torch.arange(window.start, window.stop, dtype=torch.float64)
        return (index + 0.5) * self.size[axis] / self.output[axis] - 0.5

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that the pixels depend on.

        The kind of device and the number of threads are not part of it: across them pixels may differ by one 8-bit
        level.
        """
        record = self._values() | {"format": _FORMAT, "windows": vars(self.tiler), "slide_digest": self.source.digest}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Return the plan as plain values, with its digest."""
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in self._values().items()}
        return plain | {"source": self.source.path.name, "slide_digest": self.source.digest, "digest": self.digest}

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "source"}


def _finished(window: AxisWindow, windows: list[AxisWindow], begin: int, end: int) -> int:
    following = windows[window.number - windows[0].number + 1 :]
    stop = following[0].start if following else window.stop
    return max(0, min(stop, end) - max(window.start, begin))


def plan_slide(
    slide: Slide,
    network: nn.Module,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    mpp: float | None = None,
    region: Region | None = None,
    tissue_only: bool = False,
    precision: str = "fp32",
) -> SlidePlan:
    """Plan the super-resolution of a slide by one of a scale, a size and a pixel size.

    Args:
        network: network of the job; its weights are part of the digest.
        scale: magnification, at least 1.
        size: (H, W) of the whole super-resolved slide.
        mpp: micrometers per pixel of the result (:class:`~monai_iste.inferers.output_size.OutputSize`).
        region: part of the slide, in its pixels; default: all of it.
        tissue_only: whether the background is interpolated.
        precision: ``fp32`` or ``bf16``.
    Raises:
        ScaleError: the magnification is below 1, above :data:`MAX_SCALE`, or gives more than :data:`MAX_OUTPUT_PIXELS`.
        DataError: ``mpp`` is given, but the slide's own is unknown.
        ShapeError: the region is not inside the slide.
    """
    output = OutputSize(scale, size, mpp).resolve_upscaled(
        slide.size, slide.mpp, slide.path, MAX_OUTPUT_PIXELS, slide.pixel_size.remark
    )
    largest = max(n / m for n, m in zip(output, slide.size, strict=True))
    if largest > MAX_SCALE:
        raise ScaleError(f"a magnification of at most {MAX_SCALE:g}", f"{largest:.4g}", "Ask for less.")
    return SlidePlan(
        source=slide.source,
        size=slide.size,
        output=output,
        region=_on_output(region, slide.size, output),
        mpp=slide.mpp,
        tissue_only=tissue_only,
        precision=precision,
        network_digest=network_digest(network),
    )


def _on_output(region: Region | None, size: tuple[int, int], output: tuple[int, int]) -> Region:
    """Convert a region of the slide to output pixels: those whose centers lie in it."""
    if region is None:
        return Region(0, 0, *output)
    top, left, height, width = inside(region, size)
    (y0, y1), (x0, x1) = (
        [round(edge * m / n) for edge in edges]
        for edges, n, m in zip(((top, top + height), (left, left + width)), size, output, strict=True)
    )
    return Region(y0, x0, y1 - y0, x1 - x0)
