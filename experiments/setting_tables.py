"""Writer of Tables III and IV: the scores of every setting, beside those that the paper reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments.downstream import PROTOCOL
from experiments.reported import SOURCE
from experiments.table_text import Line, TableSpec, csv_text, format_number, write_table
from experiments.tables import Metric

Row = Mapping[str, Any]


def scores_of(
    seeds: Sequence[Mapping[str, float]], metrics: Mapping[str, Metric], printed: Mapping[str, float] | None
) -> dict[str, Any]:
    """Compute the numbers of a row, not rounded.

    Args:
        seeds: scores of each training.
        metrics: metrics of the row.
        printed: numbers that the paper reports for this row; None if there are none.
    Returns:
        ``seeds`` (number of trainings) and, for each metric, its mean, ``<metric>_std`` (n - 1 in the denominator; None
        for a single training) and ``reported_<metric>``.

    Example:
        >>> scores_of([{"f1": 0.5}, {"f1": 1.0}], {"f1": Metric("F1", "", 3, True)}, None)
        {'seeds': 2, 'f1': 0.75, 'f1_std': 0.3535533905932738, 'reported_f1': None}
    """
    row: dict[str, Any] = {"seeds": len(seeds)}
    for key in metrics:
        values = [scores[key] for scores in seeds]
        row |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else None}
        row[f"reported_{key}"] = (printed or {}).get(key)
    return row


def write_setting_tables(
    panels: Sequence[tuple[str, Sequence[Row]]],
    names: Mapping[str, str],
    metrics: Mapping[str, Metric],
    folder: Path,
    name: str,
    caption: str,
    notes: Sequence[str],
) -> list[Path]:
    """Write ``<name>.csv``, ``<name>.md`` and ``<name>.tex``.

    The table has a panel for each test set, a line for each setting and a column for each metric. If the paper reports
    any of these numbers, there are as many columns headed "reported". The CSV has a line for each row, unrounded.

    Args:
        panels: title and rows of each panel; a row has the numbers of :func:`scores_of` and the keys of ``names``.
        names: keys of the naming columns, with their headings.
        metrics: metrics in the order of the columns.
        folder: output folder; created if missing.
        name: name of the files, and the table's label in LaTeX (``tab:<name>``).
        caption: caption of the table.
        notes: sentences that follow those on seeds, direction and source.
    Returns:
        the paths of the three files.
    Raises:
        OutputError: a file cannot be written.
    """
    rows = [row for _, part in panels for row in part]
    columns = [metric.heading for metric in metrics.values()]
    printed = any(row[f"reported_{key}"] is not None for row in rows for key in metrics)
    groups = [("measured", columns), *([("reported", columns)] if printed else [])]
    filled = [(title, [_line(row, names, metrics, printed) for row in part]) for title, part in panels]
    text = " ".join([*_notes(rows, metrics, printed), *notes])
    table = TableSpec(caption, text, list(names.values()), groups, filled)
    return write_table(folder, name, table, csv_text(list(rows[0]), rows))


def _line(row: Row, names: Mapping[str, str], metrics: Mapping[str, Metric], printed: bool) -> Line:
    cells = [format_number(row[key], metric.digits, row[f"{key}_std"]) for key, metric in metrics.items()]
    if printed:
        cells += [format_number(row[f"reported_{key}"], metric.digits) for key, metric in metrics.items()]
    return Line([row[key] for key in names], cells)


def _notes(rows: Sequence[Row], metrics: Mapping[str, Metric], printed: bool) -> list[str]:
    seeds = rows[0]["seeds"]
    spread = "1 seed" if seeds == 1 else f"{seeds} seeds (mean ± standard deviation over seeds)"
    lower = [metric.name for metric in metrics.values() if not metric.higher_is_better]
    return [
        f"Measured here: protocol {PROTOCOL}, {spread}.",
        *([f"Reported: {SOURCE}, on its data and training."] if printed else []),
        f"Higher is better{f', but for {lower[0]}' if lower else ''}.",
    ]
