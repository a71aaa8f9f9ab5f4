"""Learning curve of Table IV's classifier: accuracy on originals against the number of training patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from experiments.figures.style import COLUMN, FigureGrid, save_figure, style
from experiments.table_text import csv_text, write_files

#: Accuracies in percent by number of training patches, one of each seed.
Curve = Mapping[int, Sequence[float]]


def write_curve(curve: Curve, folder: Path, chance: float) -> list[Path]:
    """Write ``learning-curve.csv`` and ``learning-curve.png``.

    Args:
        curve: accuracies of the trainings.
        folder: output folder.
        chance: accuracy of naming the more frequent class always, in percent; a dashed line.
    Raises:
        ConfigError: matplotlib is missing.
        OutputError: a file cannot be written.
    """
    counts = sorted(curve)
    means = [fmean(curve[count]) for count in counts]
    spreads = [stdev(curve[count]) if len(curve[count]) > 1 else None for count in counts]
    rows = [
        {
            "training_patches": count,
            "seeds": len(curve[count]),
            "accuracy": mean,
            "accuracy_std": spread,
            "more_frequent_class": chance,
        }
        for count, mean, spread in zip(counts, means, spreads, strict=True)
    ]
    paths = write_files(folder, "learning-curve", {".csv": csv_text(list(rows[0]), rows)})
    picture = folder / "learning-curve.png"
    with style():
        grid = FigureGrid(COLUMN, 2.4)
        axes = grid.figure.add_axes((0.14, 0.17, 0.83, 0.79))
        bars, label = [spread or 0.0 for spread in spreads], "mean and deviation over seeds"
        axes.errorbar(counts, means, bars, color="black", marker="o", ms=3, lw=1, capsize=2, label=label)
        axes.axhline(chance, color="gray", lw=0.8, ls="--", label="more frequent class")
        axes.set(xscale="log", xlabel="training patches", ylabel="accuracy on original test patches, %")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=6)
        save_figure(grid.figure, picture, overwrite=True)
    return [*paths, picture]
