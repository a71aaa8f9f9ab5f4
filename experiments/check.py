"""Numbers of the pages, compared with the files of scores that they come from: ``python -m experiments check``.

A comment directly above a table names the files, what makes the table from them, and its words:

    <!-- from weights/main.csv weights/scales.csv: quality atlas iste-rgb -->

Above a paragraph or a list, such a comment makes phrases that it must contain. Several comments may stand above one
another. A table without a file says why:

    <!-- no source: printed by a command that keeps no file -->

Makers are functions of :mod:`experiments.page_tables`, :mod:`experiments.page_studies` and
:mod:`experiments.page_phrases`.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from experiments import page_phrases, page_studies, page_tables  # noqa: F401  (they register their makers)
from experiments.page_sources import PHRASES, TABLES, Maker, Source, read_source
from monai_iste.errors import ConfigError, DataError, ISTEError

#: Repository.
ROOT = Path(__file__).resolve().parents[1]

#: Folder of the files of scores.
SCORES = "docs/results"

#: Pages in which every table with numbers has a file, or says why it has none.
PAGES = ("README.md", "docs/results/*.md", "docs/choices.md", "bundles/iste/models/*.md")

#: Pages whose comments are checked. Most of their tables hold settings.
PAGES_OF_SETTINGS = ("bundles/iste/docs/README.md", "benchmarks/README.md")

_COMMENT = re.compile(r"<!--\s*(from|no source)\b.*")
_FROM = re.compile(r"<!-- from ([^:]+): (.+) -->")
_NO_SOURCE = re.compile(r"<!-- no source: (\S.*) -->")
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
_NUMBER = re.compile(r"[+\-−±~≈<>=]*\s?\.?\d.*")


class Block(NamedTuple):
    """Lines of a page up to the next empty one, with the comments directly above.

    Args:
        line: number of the first line below the comments.
        comments: the comments.
        lines: the other lines.
    """

    line: int
    comments: list[str]
    lines: list[str]

    @property
    def is_table(self) -> bool:
        return _header(self.lines) == 0

    @property
    def cells(self) -> list[list[str]]:
        """Cells of a table, the header first, without marks of emphasis and code."""
        rows = [self.lines[0], *self.lines[2:]]
        inner = [row.strip().removeprefix("|").removesuffix("|") for row in rows]
        return [[_plain(cell) for cell in re.split(r"(?<!\\)\|", row)] for row in inner]


class Report(NamedTuple):
    """Result of a check.

    Args:
        differences: one line for each difference.
        tables: number of compared tables.
        without: number of tables that say why they have no file.
    """

    differences: list[str]
    tables: int
    without: int


def check(
    folder: Annotated[Path, typer.Option("--folder", help="Root of the repository.", hidden=True)] = ROOT,
) -> None:
    """Compare the numbers of README, results, choices and model cards with the files of scores beside them."""
    found = check_pages(folder)
    for line in found.differences:
        typer.echo(line)
    counts = f"{len(found.differences)} differences, {found.tables} tables compared"
    typer.echo(f"{counts}, {found.without} without a file.")
    if found.differences:
        raise typer.Exit(1)


def check_pages(folder: Path = ROOT) -> Report:
    """Check all pages.

    Raises:
        ConfigError: the folder has no pages to check.
    """
    read = cache(lambda name: read_source(folder / SCORES / name))
    differences: list[str] = []
    tables = without = 0
    pages = [(page, patterns is PAGES) for patterns in (PAGES, PAGES_OF_SETTINGS) for page in _pages(folder, patterns)]
    if not pages:
        raise ConfigError("a clone of the repository", str(folder), "Name its root.")
    for page, needs_sources in pages:
        name = page.relative_to(folder).as_posix()
        for block in blocks(_read_page(page)):
            where = f"{name}:{block.line}"
            if block.is_table:
                tables += any(_FROM.fullmatch(comment) for comment in block.comments)
                without += any(_NO_SOURCE.fullmatch(comment) for comment in block.comments)
                if needs_sources and not block.comments and _has_numbers(block):
                    differences.append(
                        f"{where}: a table with numbers names no file. Add a comment: from, or no source."
                    )
            for comment in block.comments:
                differences += [f"{where}: {text}" for text in _check_block(block, comment, read)]
    return Report(differences, tables, without)


def _read_page(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"text in UTF-8 in {page}", str(error), "Restore the page.") from error


def _pages(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(page for pattern in patterns for page in folder.glob(pattern))


def blocks(text: str) -> Iterator[Block]:
    """Split a page into blocks; programs and indented commands are left out.

    A table ends the paragraph before it, as it does where pages are shown.
    """
    for block in _paragraphs(text):
        start = _header(block.lines)
        if start:
            yield block._replace(lines=block.lines[:start])
            yield Block(block.line + start, [], block.lines[start:])
        else:
            yield block


def _header(lines: Sequence[str]) -> int | None:
    """Find the header of a table: the line above the first rule; None if there is none."""
    for i, (head, rule) in enumerate(pairwise(lines)):
        if "|" in head and "|" in rule and _RULE.fullmatch(rule):
            return i
    return None


def _paragraphs(text: str) -> Iterator[Block]:
    comments: list[str] = []
    lines: list[str] = []
    is_code = False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif is_code or (line.startswith("    ") and not lines):
            pass
        elif _COMMENT.match(line.strip()):
            if lines:
                yield Block(number - len(lines), comments, lines)
                comments, lines = [], []
            comments.append(line.strip())
        elif line.strip():
            lines.append(line)
        elif comments or lines:
            yield Block(number - len(lines), comments, lines)
            comments, lines = [], []


def _check_block(block: Block, comment: str, read: Callable[[str], Source]) -> Iterator[str]:
    """Yield the differences between a block and what a comment makes of its files."""
    if not block.lines:
        yield f"nothing stands directly below {comment}"
    elif _NO_SOURCE.fullmatch(comment):
        if not block.is_table:
            yield f"no table stands directly below {comment}"
    elif _FROM.fullmatch(comment) is None:
        yield f"{comment} is not understood. Write <!-- from FILE...: NAME WORD... --> or <!-- no source: REASON -->."
    else:
        try:
            made = _make(comment, TABLES if block.is_table else PHRASES, read)
        except ISTEError as error:
            yield str(error)
        else:
            yield from _compare_tables(block, made) if block.is_table else _compare_phrases(block, made)


def _make(comment: str, makers: dict[str, Maker], read: Callable[[str], Source]) -> Sequence[Any]:
    """Make the lines of a table, or phrases.

    Raises:
        DataError: a file is missing or damaged, or lacks what is needed.
        ConfigError: the comment names no maker, or has the wrong words.
    """
    try:
        files, words = (shlex.split(part) for part in _FROM.fullmatch(comment).groups())  # type: ignore[union-attr]
    except ValueError as error:  # quotation marks
        raise ConfigError("files and words of a comment", f"{comment} ({error})", "Correct the comment.") from error
    if not words:
        raise ConfigError(f"one of {', '.join(makers)}", "none", "Correct the comment.")
    name, *rest = words
    if name not in makers:
        raise ConfigError(f"one of {', '.join(makers)}", repr(name), "Correct the comment.")
    sources = [read(file) for file in files]
    try:
        inspect.signature(makers[name]).bind(*sources, *rest)
    except TypeError as error:
        raise ConfigError(f"files and words of {name}", f"{comment} ({error})", "Correct the comment.") from error
    try:
        made = makers[name](*sources, *rest)
        texts = made if makers is PHRASES else [cell for line in made for cell in line]
        if not all(isinstance(text, str) for text in texts):  # a truncated row lacks its last columns
            raise TypeError("a cell that is no text")
        return made
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = error if isinstance(error, ISTEError) else repr(error)
        remedy = "Correct the comment, or measure again."
        raise DataError(f"scores for {name}", f"{', '.join(files)} ({reason})", remedy) from error


def _compare_tables(block: Block, made: Sequence[Sequence[str]]) -> Iterator[str]:
    found, wanted = block.cells, [[_plain(cell) for cell in line] for line in made]
    for own, line in zip_longest(found, wanted):
        if own is None or line is None:
            what, lacks = ((line or own), "the page" if own is None else "the file")
            yield f"the line {' | '.join(what)} is not in {lacks}"
        elif len(own) != len(line):
            yield f"the line {own[0]} has {len(own)} cells, from the file {len(line)}"
        else:
            for column, a, b in zip(found[0], own, line, strict=False):
                if a != b:
                    place = f"{own[0] or 'first line'}, {column or 'first column'}"
                    yield f"{place}: {a!r} in the page, {b!r} from the file"


def _compare_phrases(block: Block, made: Sequence[str]) -> Iterator[str]:
    text = _plain(" ".join(" ".join(block.lines).split()))
    for phrase in made:
        if not re.search(rf"(?<![\d.,+-]){re.escape(phrase)}(?![\d]|[.,]\d)", text):
            yield f"{phrase!r}, from the file, is not in the paragraph"


def _plain(text: str) -> str:
    """Leave out marks of emphasis and code, and spaces at both ends.

    Example:
        >>> _plain(" **`iste_light2`** ")
        'iste_light2'
    """
    return re.sub(r"\*\*|`", "", text).strip()


def _has_numbers(block: Block) -> bool:
    return any(_NUMBER.fullmatch(cell) for row in block.cells[1:] for cell in row[1:] or row)
