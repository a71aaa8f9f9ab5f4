"""Tables as CSV, Markdown, or LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from monai_iste.io.files import make_folder, open_output

#: Cell text where there is no number by definition.
NONE = "-"

#: Cell text where a number is possible but was not measured.
NOT_MEASURED = "not measured"


class Cell(NamedTuple):
    """Cell of a table: formatted text, bold or not."""

    text: str
    bold: bool = False


class Line(NamedTuple):
    """Line of a table: naming columns and number cells."""

    names: list[str]
    cells: list[Cell]


class TableSpec(NamedTuple):
    """Description of a table: groups of columns under headings, and panels of lines under titles.

    Args:
        caption: text above the table.
        notes: text below the table.
        names: headings of the naming columns.
        groups: heading of each group, with the headings of its columns.
        panels: title of each panel, with its lines.
    """

    caption: str
    notes: str
    names: list[str]
    groups: list[tuple[str, list[str]]]
    panels: list[tuple[str, list[Line]]]


def format_number(value: float | None, digits: int, deviation: float | None = None, absent: str = NONE) -> Cell:
    """Format a number with the given decimals and, if given, its standard deviation.

    Example:
        >>> format_number(31.256, 2).text, format_number(31.256, 2, 0.1).text, format_number(None, 2).text
        ('31.26', '31.26 ± 0.10', '-')
    """
    if value is None:
        return Cell(absent)
    return Cell(f"{value:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}"))


def csv_text(header: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """Format rows as CSV with the columns of ``header``; None becomes an empty field.

    Example:
        >>> print(csv_text(["scale", "fid"], [{"scale": 2, "fid": None, "more": 1}]), end="")
        scale,fid
        2,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown_text(table: TableSpec) -> str:
    """Format as Markdown, one table per panel. Columns of all groups but the first carry the heading of their group."""
    header = list(table.names)
    for i, (group, columns) in enumerate(table.groups):
        header += [f"{group} {column}" if i else column for column in columns]
    rule = [":--"] * len(table.names) + ["--:"] * (len(header) - len(table.names))
    parts = [table.caption, ""]
    for title, lines in table.panels:
        body = [[*line.names, *(f"**{c.text}**" if c.bold else c.text for c in line.cells)] for line in lines]
        parts += [f"{title}:", "", *map(_markdown_line, [header, rule, *body]), ""]
    return "\n".join([*parts, table.notes, ""])


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex_text(table: TableSpec, name: str) -> str:
    """Format as a LaTeX ``table*``, to be included with ``\\input``; its label is ``tab:<name>``."""
    first, last = len(table.names), len(table.names) + sum(len(columns) for _, columns in table.groups)
    heads, rules, scales, start = "", "", [*map(_escape, table.names)], first + 1
    for group, columns in table.groups:
        heads += rf" & \multicolumn{{{len(columns)}}}{{c}}{{{_escape(group)}}}"
        rules += rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}"
        scales += [re.sub(r"^x(?=\d)", r"$\\times$", _escape(column)) for column in columns]
        start += len(columns)
    body = []
    for title, lines in table.panels:
        body += [r"\midrule", rf"\multicolumn{{{last}}}{{l}}{{\emph{{{_escape(title)}}}}} \\"]
        body += [" & ".join([*map(_escape, line.names), *_latex_cells(line.cells)]) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{_escape(table.caption)} {_escape(table.notes)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{'l' * first}{'r' * (last - first)}}}",
            r"\toprule",
            " & " * (first - 1) + heads.lstrip() + r" \\",
            rules,
            " & ".join(scales) + r" \\",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_cells(cells: Sequence[Cell]) -> list[str]:
    """Format cells; adjacent cells that were not measured are merged."""
    written = []
    for text, run in groupby(cells, key=lambda cell: cell.text):
        same = list(run)
        if text == NOT_MEASURED:
            written.append(rf"\multicolumn{{{len(same)}}}{{c}}{{{text}}}")
        else:
            shown = "--" if text == NONE else _escape(text)
            written += [rf"\textbf{{{shown}}}" if cell.bold else shown for cell in same]
    return written


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _escape(text: str) -> str:
    return re.sub(r"-(?=\d+\.)", "$-$", text.translate(_ESCAPES))  # a minus, not a hyphen, before a number


def write_files(folder: Path, name: str, texts: Mapping[str, str]) -> list[Path]:
    """Write texts as ``<name><suffix>``, replacing existing files.

    Args:
        folder: output folder; created if missing.
        name: name of the files.
        texts: texts by suffix, such as ``.md``.
    Returns:
        the paths of the files.
    Raises:
        OutputError: the folder or a file cannot be written.
    """
    make_folder(folder)
    for suffix, text in texts.items():
        with open_output(folder / f"{name}{suffix}", overwrite=True) as file:
            file.write(text.encode())
    return [folder / f"{name}{suffix}" for suffix in texts]


def write_table(folder: Path, name: str, table: TableSpec, rows: str) -> list[Path]:
    """Write ``<name>.csv``, ``<name>.md`` and ``<name>.tex``, replacing existing files.

    Args:
        folder: output folder; created if missing.
        name: name of the files, and the table's label in LaTeX (``tab:<name>``).
        table: the table of the Markdown and the LaTeX file.
        rows: text of the CSV file.
    Returns:
        the paths of the three files.
    Raises:
        OutputError: the folder or a file cannot be written.
    """
    return write_files(folder, name, {".csv": rows, ".md": markdown_text(table), ".tex": latex_text(table, name)})
