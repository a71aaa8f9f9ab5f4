"""Style, layout and files of the figures.

Figures are drawn with matplotlib (extra ``experiments``), which is imported inside the functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_iste.errors import ConfigError, OutputError, require_extra
from monai_iste.io.files import open_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

#: Widths of one column and of a page with two columns in journals, in inches.
COLUMN, PAGE = 3.5, 7.0

DPI = 300

#: Perceptually uniform color maps, readable with red-green color blindness and in grayscale print.
ERRORS, MAPS = "inferno", "viridis"

ACCENT = "#F0E442"  # yellow of Okabe and Ito: contrasts with hematoxylin and with eosin

#: Gap between panels in inches.
GAP = 0.05

#: Height of a line of text in inches.
LINE = 0.15

_SIZE = 7.0  # font size in points

_FONT = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib, so the same on every machine
    "font.size": _SIZE,
    "axes.titlesize": _SIZE,
    "axes.labelsize": _SIZE,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "mathtext.default": "it",
    "axes.titlepad": 2.5,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType: text stays text, as publishers require
}


@contextmanager
def style() -> Iterator[None]:
    """Apply matplotlib's defaults with our fonts, within the context; the user's settings are ignored.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_extra("matplotlib", "experiments")
    from matplotlib.style import context

    with context(["default", _FONT]):
        yield


class FigureGrid:
    """Figure with panels at positions in inches from the top left corner.

    Args:
        width: width in inches, from 2 to 20 (see :data:`COLUMN`, :data:`PAGE`).
        height: height in inches.
    Raises:
        ConfigError: the width is out of range.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        if not 2 <= width <= 20:
            raise ConfigError("a width between 2 and 20 inches", f"{width:g}", "One column is 3.5, a page 7.")
        self.width, self.height = width, height
        self.figure: Figure = Figure(figsize=(width, height), dpi=DPI)

    @classmethod
    def with_rows(
        cls,
        aspects: Sequence[float],
        columns: int,
        width: float,
        above: Sequence[int],
        below: Sequence[int],
        left: float = 0.0,
        right: float = 0.0,
    ) -> tuple[FigureGrid, list[list[Axes]]]:
        """Create a figure with rows of equally wide panels.

        Args:
            aspects: height / width of the panels, one number per row.
            columns: panels per row.
            width: width of the figure in inches.
            above, below: lines of text above and below each row.
            left, right: space beside the panels in inches.
        Returns:
            the figure, and its panels by row.
        """
        side = (width - left - right - (columns - 1) * GAP) / columns
        rooms = [(a * LINE, side * aspect, b * LINE + GAP) for aspect, a, b in zip(aspects, above, below, strict=True)]
        grid = cls(width, sum(sum(room) for room in rooms) - GAP + 0.02)
        rows, top = [], 0.01
        for over, height, under in rooms:
            lefts = (left + i * (side + GAP) for i in range(columns))
            rows.append([grid.panel(x, top + over, side, height) for x in lefts])
            top += over + height + under
        return grid, rows

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add a panel: axes without ticks and spines."""
        axes = self._axes(left, top, width, height)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def box(self, axes: Axes) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a panel in inches."""
        place = axes.get_position()
        top = (1 - place.y1) * self.height
        return place.x0 * self.width, top, place.width * self.width, place.height * self.height

    def color_bar(
        self,
        box: tuple[float, float, float, float],
        colors: str,
        limits: tuple[float, float],
        label: str,
        extend: str = "neither",
    ) -> None:
        """Add a color bar along the longer side of a box (left, top, width, height)."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        bar = self.figure.colorbar(
            ScalarMappable(Normalize(*limits), colors),
            cax=self._axes(*box),
            orientation="horizontal" if box[2] > box[3] else "vertical",
            extend=extend,
            extendfrac=0.04,
            label=label,
        )
        bar.ax.tick_params(width=0.5, length=2, pad=1.5)
        bar.outline.set_linewidth(0.5)

    def color_bar_beside(self, upper: Axes, lower: Axes, colors: str, limits: tuple[float, float], label: str,
                          extend: str) -> None:  # fmt: skip
        """Add a color bar to the right of a column of panels, with the same height."""
        left, top, width, _ = self.box(upper)
        _, below, _, height = self.box(lower)
        self.color_bar((left + width + 0.08, top, 0.08, below + height - top), colors, limits, label, extend)

    def finish(self) -> Figure:
        """Shrink text to fit the panels, down to 5 points, and return the figure.

        All titles get one size, and so do all labels below panels and all labels beside them.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        renderer = FigureCanvasAgg(self.figure).get_renderer()
        texts: dict[str, list[tuple[Text, float]]] = {"above": [], "below": [], "beside": []}
        for axes in self.figure.axes:
            room = axes.get_window_extent(renderer)
            for where, text, ratio in (
                ("above", axes.title, axes.title.get_window_extent(renderer).width / room.width),
                ("below", axes.xaxis.label, axes.xaxis.label.get_window_extent(renderer).width / room.width),
                ("beside", axes.yaxis.label, axes.yaxis.label.get_window_extent(renderer).height / room.height),
            ):
                texts[where].append((text, ratio))
        for group in texts.values():
            size = max(5.0, _SIZE / max(1.0, *(ratio for _, ratio in group)))
            for text, _ in group:
                text.set_fontsize(size)
        return self.figure

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes((left / self.width, bottom, width / self.width, height / self.height))


def check_figure_file(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Check the path of a figure before it is drawn.

    Raises:
        OutputError: the suffix is not .png or .pdf, the folder does not exist, or the file exists and ``overwrite`` is
            False.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf"):
        raise OutputError("a figure that ends in .png or .pdf", str(path), "PDF keeps the text as text.")
    if not path.parent.is_dir():
        raise OutputError("an existing folder for the figure", str(path.parent), "Make it first.")
    if path.exists() and not overwrite:
        raise OutputError("the name of a new file", f"{path}, which exists", "Choose another, or add --overwrite.")


def save_figure(figure: Figure, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a figure as PNG (300 dpi) or PDF; the same figure gives the same bytes.

    Raises:
        OutputError: see :func:`check_figure_file`, or the file cannot be written.
    """
    check_figure_file(path, overwrite)
    kind = Path(path).suffix.lower()
    # No date and no version, which would make files differ.
    unsigned: dict[str, Any] = {"CreationDate": None, "Producer": None, "Creator": None}
    with style(), open_output(path, overwrite) as file:
        figure.savefig(
            file,
            format=kind[1:],
            dpi=DPI,
            facecolor="white",
            metadata=unsigned if kind == ".pdf" else {"Software": None},
        )
