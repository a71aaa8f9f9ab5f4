"""Result tables in the paper's layout, as CSV, Markdown and LaTeX (booktabs).

Measured and reported numbers are in separate columns. Numbers are compared before rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from experiments.methods import ABLATIONS, CHOICES, IDEAS, METHODS, VARIANTS
from experiments.reported import SOURCE, reported
from experiments.statistics import Comparison
from experiments.table_text import (
    NONE,
    NOT_MEASURED,
    Cell,
    Line,
    TableSpec,
    csv_text,
    format_number,
    write_table,
)
from monai_iste.errors import DataError


class Row(TypedDict):
    """Scores of one method at one scale, means over images (and seeds). Other keys are ignored.

    Required: ``method``, ``scale``, ``psnr`` (dB), ``ssim`` and ``images`` (their number). Optional: ``label``, shown
    instead of ``method``; ``note``, the size or encoder; ``fid``, None where it was not measured; ``seeds``, the number
    of trainings, and ``<metric>_std``, the standard deviation over them; ``protocol``, one for the whole table.
    """

    method: str
    scale: float
    psnr: float
    ssim: float
    images: int
    label: NotRequired[str]
    note: NotRequired[str]
    fid: NotRequired[float | None]
    lr_psnr: NotRequired[float | None]
    spectrum: NotRequired[float | None]
    seeds: NotRequired[int]
    psnr_std: NotRequired[float | None]
    ssim_std: NotRequired[float | None]
    fid_std: NotRequired[float | None]
    protocol: NotRequired[str]


class Metric(NamedTuple):
    """Display of a metric: name, unit, decimals, and direction."""

    name: str
    unit: str
    digits: int
    higher_is_better: bool

    @property
    def heading(self) -> str:
        """Name with unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


#: Metrics in the order of a table. The paper has the first three; the others are shown where a row has them.
METRICS = {
    "psnr": Metric("PSNR", "dB", 2, True),
    "fid": Metric("FID", "", 2, False),
    "ssim": Metric("SSIM", "", 4, True),
    "lr_psnr": Metric("PSNR of the result reduced again", "dB", 2, True),
    "spectrum": Metric("distance of the power spectra", "dB", 2, False),
}

_WITHOUT_FID = "FID is left out: its Inception weights were not on the machine."

_OF_THE_PAPER = ("psnr", "fid", "ssim")

_REQUIRED = ("method", "scale", "psnr", "ssim", "images")

_KNOWN = {**METHODS, **ABLATIONS, **CHOICES, **IDEAS, **VARIANTS}  # in the paper's order


def write_tables(
    rows: Sequence[Mapping[str, Any]],
    folder: str | Path,
    name: str,
    caption: str,
    reported_dataset: str | None = None,
    reported_table: int = 1,
) -> list[Path]:
    """Write ``<name>.csv``, ``<name>.md`` and ``<name>.tex``.

    Markdown and LaTeX have a panel for each metric, a line for each method in the paper's order (others follow), and a
    column for each scale in two groups, measured and reported. The best number of a column is bold, several
    if equal before rounding; a column with one number has none. "-" means that the method has no network for the scale,
    "not measured" that it has one. FID has no panel where no number of it is known, and a note says so. The CSV has one
    line per row, unrounded, with empty fields for missing numbers.

    Args:
        rows: rows of the form of :class:`Row`.
        folder: output folder; created if missing.
        name: name of the files, and the table's label in LaTeX (``tab:<name>``).
        caption: caption of the table.
        reported_dataset: data set whose numbers from the paper are shown, as in
            :func:`~experiments.reported.reported`; None shows none.
        reported_table: number of the paper's table, 1 or 2.
    Returns:
        the paths of the three files.
    Raises:
        DataError: a row lacks a key, two rows are of one method and scale, or protocols or, at one scale, numbers of
            images differ.
        ConfigError: the paper has no such table.
        OutputError: a file cannot be written.
    """
    _check(rows)
    lookup = _reported(reported_table, reported_dataset)
    table = _table_spec(rows, caption, lookup)
    return write_table(Path(folder), name, table, _csv(rows, lookup))


def write_comparisons(comparisons: Sequence[Comparison], folder: str | Path, name: str, caption: str) -> list[Path]:
    """Write differences of methods (:func:`~experiments.statistics.compare`) in the same three forms.

    The interval is over cases if the comparisons have them, else over images.

    The table has a panel for each metric, a line for each pair and a column for each scale. A cell has the mean
    difference and its 95 % interval, with one decimal more than the scores. It is bold if the interval does not contain
    0.

    Args:
        comparisons: comparisons at the default level of confidence.
        folder: output folder; created if missing.
        name: name of the files, and the table's label in LaTeX (``tab:<name>``).
        caption: caption of the table.
    Raises:
        DataError: there are no comparisons.
        OutputError: a file cannot be written.
    """
    if not comparisons:
        raise DataError("comparisons of two methods at least", "none", "Score both on the same images.")
    scales = sorted({c.scale for c in comparisons})
    panels = []
    for metric in dict.fromkeys(c.metric for c in comparisons):
        pairs: dict[str, dict[float, Comparison]] = {}
        for c in comparisons:
            if c.metric == metric:
                pairs.setdefault(f"{_label(c.method)} minus {_label(c.other)}", {})[c.scale] = c
        lines = [Line([pair], [_difference(found.get(s)) for s in scales]) for pair, found in pairs.items()]
        panels.append((_title(metric, difference=True), lines))
    numbers = f"{_count('image', comparisons, 'images')}, {_count('seed', comparisons, 'seeds')}"
    over = "images"
    if all(c.cases is not None for c in comparisons):
        over, numbers = "cases", f"{_count('case', comparisons, 'cases')}, {numbers}"
    notes = (
        f"Mean difference and its 95 % interval over {over} (paired bootstrap); {numbers}. "
        "Bold: the interval does not contain 0."
    )
    table = TableSpec(caption, notes, ["Methods"], [("difference", [f"x{s:g}" for s in scales])], panels)
    flat = [{**c._asdict(), **c.difference._asdict()} for c in comparisons]
    header = ["metric", "method", "other", "scale", "mean", "low", "high", "images", "seeds"]
    header += ["cases"] if over == "cases" else []
    return write_table(Path(folder), name, table, csv_text(header, flat))


# --- contents of the table --------------------------------------------------------------------------------------------

_Lookup = Callable[[str, float, str], float | None]


def _reported(table: int, dataset: str | None) -> _Lookup:
    """Look up the paper's number, or None."""

    def lookup(method: str, scale: float, metric: str) -> float | None:
        scores = None if dataset is None else reported(table, dataset, method, scale)
        return None if scores is None else scores.get(metric)

    return lookup


def _check(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        raise DataError("rows for a table", "none", "Evaluate at least one method.")
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        missing = [key for key in _REQUIRED if row.get(key) is None]
        if missing:
            raise DataError(f"rows with {', '.join(_REQUIRED)}", f"one without {', '.join(missing)}", "Add it.")
        place = (*_identity(row), row["scale"])
        if place in seen:
            what = f"two of {row['method']} at x{row['scale']:g}"
            raise DataError("one row for each method and scale", what, "Average over seeds, or give each a note.")
        seen.add(place)
    protocols = {row["protocol"] for row in rows if row.get("protocol")}
    if len(protocols) > 1:
        raise DataError("one protocol in a table", ", ".join(sorted(protocols)), "Write a table for each.")
    for scale in sorted({row["scale"] for row in rows}):
        images = {row["images"] for row in rows if row["scale"] == scale}
        if len(images) > 1:
            numbers = " and ".join(str(n) for n in sorted(images))
            raise DataError(f"methods scored on the same images at x{scale:g}", f"{numbers} images", "Evaluate again.")


def _identity(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["method"], row.get("label") or _label(row["method"]), row.get("note") or ""


def _label(method: str) -> str:
    return _KNOWN[method].label if method in _KNOWN else method


def _in_order(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """List the methods of the rows with label and note, in the paper's order."""
    order = list(_KNOWN)
    found = dict.fromkeys(_identity(row) for row in rows)
    return sorted(found, key=lambda it: order.index(it[0]) if it[0] in order else len(order))


def _table_spec(rows: Sequence[Mapping[str, Any]], caption: str, lookup: _Lookup) -> TableSpec:
    methods = _in_order(rows)
    scales = sorted({row["scale"] for row in rows})
    printed = [s for s in scales if any(lookup(method, s, "psnr") is not None for method, _, _ in methods)]
    at = {(*_identity(row), row["scale"]): row for row in rows}
    panels = []
    for key, metric in METRICS.items():
        if all(row.get(key) is None for row in rows) and (key not in _OF_THE_PAPER or (key == "fid" and not printed)):
            continue
        columns = [[_measured(at.get((*it, s)), it[0], s, key) for it in methods] for s in scales]
        columns += [[format_number(lookup(method, s, key), metric.digits) for method, _, _ in methods] for s in printed]
        numbers: list[list[float | None]] = [[at.get((*it, s), {}).get(key) for it in methods] for s in scales]
        numbers += [[lookup(method, s, key) for method, _, _ in methods] for s in printed]
        for cells, values in zip(columns, numbers, strict=True):
            cells[:] = [c._replace(bold=b) for c, b in zip(cells, _best(values, metric), strict=True)]
        lines = [Line([it[1], it[2]], [cells[i] for cells in columns]) for i, it in enumerate(methods)]
        panels.append((_title(key), lines))
    groups = [("measured", [f"x{s:g}" for s in scales]), ("reported", [f"x{s:g}" for s in printed])]
    return TableSpec(caption, _notes(rows, bool(printed)), ["Method", "Size"], [g for g in groups if g[1]], panels)


def _title(key: str, difference: bool = False) -> str:
    metric = METRICS[key]
    better = "higher" if metric.higher_is_better else "lower"
    return f"Difference of {metric.heading}" if difference else f"{metric.heading} ({better} is better)"


def _measured(row: Mapping[str, Any] | None, method: str, scale: float, key: str) -> Cell:
    if row is None and method in _KNOWN and not _KNOWN[method].scales((scale,)):
        return Cell(NONE)
    row = row or {}
    return format_number(row.get(key), METRICS[key].digits, row.get(f"{key}_std"), absent=NOT_MEASURED)


def _best(values: Sequence[float | None], metric: Metric) -> list[bool]:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return [False] * len(values)
    best = max(known) if metric.higher_is_better else min(known)
    return [value == best for value in values]


def _difference(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(NOT_MEASURED)
    mean, low, high = comparison.difference
    digits = METRICS[comparison.metric].digits + 1
    return Cell(f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]", bold=low > 0 or high < 0)


def _notes(rows: Sequence[Mapping[str, Any]], printed: bool) -> str:
    spread = any(row.get(f"{key}_std") is not None for row in rows for key in METRICS)
    protocol = next((f"protocol {row['protocol']}, " for row in rows if row.get("protocol")), "")
    parts = [
        f"Measured here: {protocol}{_count('image', rows, 'images')}, {_count('seed', rows, 'seeds', 1)}"
        + (" (mean ± standard deviation over seeds)." if spread else "."),
        f"Reported: {SOURCE}, on its data and training." if printed else "",
        "" if printed or any(row.get("fid") is not None for row in rows) else _WITHOUT_FID,
        f'Bold: best of its column. "-": no network for that scale{", or not in the paper" if printed else ""}.',
    ]
    return " ".join(part for part in parts if part)


def _count(what: str, rows: Iterable[Any], key: str, default: int | None = None) -> str:
    """Format a count: "20 images", or "8 to 20 images" if rows differ."""
    numbers = sorted({row.get(key, default) if isinstance(row, Mapping) else getattr(row, key) for row in rows})
    many = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"{many} {what}{'' if numbers == [1] else 's'}"


def _csv(rows: Sequence[Mapping[str, Any]], lookup: _Lookup) -> str:
    order = _in_order(rows)
    listed = sorted(rows, key=lambda row: (order.index(_identity(row)), row["scale"]))
    shown = [key for key in METRICS if key in _OF_THE_PAPER or any(row.get(key) is not None for row in rows)]
    printed = {key: f"reported_{key}" for key in _OF_THE_PAPER}
    header = ["method", "label", "note", "scale", "images", "seeds", *(k for m in shown for k in (m, f"{m}_std"))]
    lines = [
        {
            **{key: row.get(key) for key in header},
            **dict(zip(("method", "label", "note"), _identity(row), strict=True)),
            "seeds": row.get("seeds", 1),
            **{column: lookup(row["method"], row["scale"], key) for key, column in printed.items()},
        }
        for row in listed
    ]
    return csv_text([*header, *printed.values()], lines)
