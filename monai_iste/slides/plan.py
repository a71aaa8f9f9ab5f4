"""What a magnified slide is to be: its size, its windows, and everything else that its pixels depend on.

A plan is a description without open files. Two plans with one :attr:`SlidePlan.digest` give the same pixels, which is
how interrupted work is recognized (:mod:`monai_iste.slides.window_store`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from monai_iste.errors import ScaleError
from monai_iste.inferers.output_size import OutputSize
from monai_iste.inferers.tiling import AxisWindow, Region, Tiler, inside
from monai_iste.slides.reader import Slide

#: Largest width * height of a magnified slide: 600 GB before compression.
MAX_OUTPUT_PIXELS = 200_000_000_000

#: Largest magnification of a slide. Memory grows with its square (a window of 208 pixels becomes 3,328), and far below
#: it a network has nothing left to add to interpolation.
MAX_SCALE = 16.0

_FORMAT = 1  # raised when the pixels of a plan change, or the way in which they are kept


_SAMPLE = 2**20  # bytes at either end of a file by which it is told from another


class Window(NamedTuple):
    """One canonical window of a slide."""

    row: AxisWindow
    column: AxisWindow

    @property
    def key(self) -> tuple[int, int]:
        """Its (row, column) in the lattice of the whole slide."""
        return self.row.number, self.column.number

    @property
    def source(self) -> Region:
        """Region of the slide that it is computed from."""
        row, column = self
        return Region(row.first, column.first, row.last - row.first, column.last - column.first)


@dataclass(frozen=True)
class SlidePlan:
    """The magnification of one slide.

    Attributes:
        source: the slide's file. Not part of the digest: a slide may be moved between two runs.
        size: (h, w) of the slide.
        output: (H, W) of the whole slide, magnified.
        region: the part of the output that is wanted, in output pixels.
        mpp: micrometers per pixel of the slide, (y, x), if known.
        tissue_only: whether bare glass is interpolated instead of being shown to the network.
        precision: ``fp32`` or ``bf16``.
        slide_digest, network_digest: fingerprints of the slide's file and of the network.
    """

    source: Path
    size: tuple[int, int]
    output: tuple[int, int]
    region: Region
    mpp: tuple[float, float] | None
    tissue_only: bool
    precision: str
    slide_digest: str
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
        """The rows of windows that the region needs."""
        return self._spans(0, self.region.top, self.region.height)

    @cached_property
    def columns(self) -> list[AxisWindow]:
        """The columns of windows that the region needs."""
        return self._spans(1, self.region.left, self.region.width)

    def _spans(self, axis: int, begin: int, length: int) -> list[AxisWindow]:
        return self.tiler.axis_windows(self.size[axis], self.output[axis], begin, begin + length)

    @property
    def windows(self) -> list[Window]:
        """Every window that the region needs, row by row."""
        return [Window(row, column) for row in self.rows for column in self.columns]

    def window(self, key: tuple[int, int]) -> Window:
        """The window with this :attr:`Window.key`."""
        return Window(self.rows[key[0] - self.rows[0].number], self.columns[key[1] - self.columns[0].number])

    def pixels(self, window: Window) -> int:
        """How many pixels a window adds to the region; what it shares with the next is counted there.

        Over all windows they sum up to the region.
        """
        box = self.region
        height = _new(window.row, self.rows, box.top, box.top + box.height)
        return height * _new(window.column, self.columns, box.left, box.left + box.width)

    def positions(self, span: AxisWindow, axis: int) -> Tensor:
        """Where a window's output pixels lie along an axis of the slide, in its pixels; float64."""
        index = torch.arange(span.start, span.stop, dtype=torch.float64)
        return (index + 0.5) * self.size[axis] / self.output[axis] - 0.5

    @cached_property
    def digest(self) -> str:
        """A hash of everything that the pixels depend on, but the kind of device and its number of threads, across
        which they may differ by one 8-bit level."""
        record = dataclasses.asdict(self) | {"format": _FORMAT, "windows": vars(self.tiler)}
        del record["source"]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """The plan as plain values, with its digest."""
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}
        return plain | {"source": self.source.name, "digest": self.digest}


def _new(span: AxisWindow, spans: list[AxisWindow], begin: int, end: int) -> int:
    following = spans[span.number - spans[0].number + 1 :]
    stop = following[0].start if following else span.stop
    return max(0, min(stop, end) - max(span.start, begin))


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
    """Plan the magnification of a slide by one of a scale, a size and a pixel size.

    Args:
        network: what the windows will be shown to; its weights become part of the plan.
        scale: magnification, at least 1.
        size: (H, W) of the magnified slide.
        mpp: micrometers per pixel of the result.
        region: the part that is wanted, (top, left, height, width) in pixels of the slide; default: all of it.
    Raises:
        ScaleError: the magnification is below 1, above :data:`MAX_SCALE`, or gives more than
            :data:`MAX_OUTPUT_PIXELS`. DataError: ``mpp`` is given, but the slide's own is unknown.
        ShapeError: the region is not inside the slide.
    """
    output = OutputSize(scale, size, mpp).resolve_upscaled(slide.size, slide.mpp, slide.path, MAX_OUTPUT_PIXELS)
    largest = max(n / m for n, m in zip(output, slide.size, strict=True))
    if largest > MAX_SCALE:
        raise ScaleError(f"a magnification of at most {MAX_SCALE:g}", f"{largest:.4g}", "Ask for less.")
    return SlidePlan(
        source=slide.path.resolve(),
        size=slide.size,
        output=output,
        region=_magnified(region, slide.size, output),
        mpp=slide.mpp,
        tissue_only=tissue_only,
        precision=precision,
        slide_digest=slide_digest(slide),
        network_digest=network_digest(network),
    )


def _magnified(region: Region | None, size: tuple[int, int], output: tuple[int, int]) -> Region:
    """A region of the slide in pixels of the output: every output pixel whose center lies in it."""
    if region is None:
        return Region(0, 0, *output)
    top, left, height, width = inside(region, size)
    (y0, y1), (x0, x1) = (
        [round(edge * m / n) for edge in edges]
        for edges, n, m in zip(((top, top + height), (left, left + width)), size, output, strict=True)
    )
    return Region(y0, x0, y1 - y0, x1 - x0)


def slide_digest(slide: Slide) -> str:
    """A fingerprint of a slide's file: its length and the bytes at its ends; hashing gigabytes would take minutes."""
    found = hashlib.sha256(str(slide.size).encode())
    with open(slide.path, "rb") as file:
        length = file.seek(0, 2)
        for start in (0, max(0, length - _SAMPLE)):
            file.seek(start)
            found.update(file.read(_SAMPLE))
    found.update(str(length).encode())
    return found.hexdigest()


def network_digest(network: nn.Module) -> str:
    """A fingerprint of a network: its class, and the names and values of its tensors."""
    found = hashlib.sha256(type(network).__name__.encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
