"""Contents of the repository's pages for their tests: links, headings, commands and programs."""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "bundles/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)

_FENCED = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.M | re.S)
_INDENTED = re.compile(r"(?:^ {4}.*\n(?:\n(?= {4}))*)+", re.M)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!\\)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_COMMAND = re.compile(r"(python3? -m |monai-iste |pip install )")
_SYMBOL = re.compile(r"`([A-Za-z_][\w.]*)`")


class Link(NamedTuple):
    """A relative link: its page, its text, the path in the repository, the anchor ("" for none)."""

    page: str
    text: str
    path: str
    anchor: str


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text()


@cache
def prose(page: str) -> str:
    """Without blocks of code."""
    return _INDENTED.sub("", _FENCED.sub("", text_of(page)))


def links(page: str) -> Iterator[Link]:
    for text, target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        folder = posixpath.dirname(page)
        yield Link(page, text, posixpath.normpath(posixpath.join(folder, path)) if path else page, anchor)


@cache
def anchors(page: str) -> list[str]:
    """The anchors of a page's headings, by the rules of the usual hosts of repositories."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", _FENCED.sub("", text_of(page)), re.M):
        words = _LINK.sub(r"\1", heading).replace("`", "").replace("*", "").lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


def programs(page: str) -> list[str]:
    """Blocks of Python; one with an ellipsis is a sketch, not a program."""
    blocks = [code for _, language, code in _FENCED.findall(text_of(page)) if language == "python"]
    return [code for code in blocks if not re.search(r"[{(\[] ?\.\.\.", code)]


def commands(page: str) -> list[list[str]]:
    """Every command that a page gives, in a block or within a line, as a list of words."""
    blocks = [code for _, language, code in _FENCED.findall(text_of(page)) if language in ("", "bash", "sh")]
    blocks += [code for code in _INDENTED.findall(_FENCED.sub("", text_of(page))) if _COMMAND.search(code)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in _INLINE.findall(prose(page)) if _COMMAND.match(code)]
    parts = [part.strip() for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&")]
    return [words for part in parts if (words := _words(part))]


def _words(part: str) -> list[str]:
    part = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", part)  # settings of the environment
    return [word for word in shlex.split(part) if word != "..."] if _COMMAND.match(part) else []


def symbols(page: str) -> list[Link]:
    """Links whose text names something that is defined in the Python file they lead to."""
    return [
        link
        for link in links(page)
        if link.path.endswith(".py") and (match := _SYMBOL.fullmatch(link.text)) and not match[1].endswith(".py")
    ]


@cache
def definitions(path: str) -> set[str]:
    """Names defined in a Python file: ``name`` and ``Class.name``."""
    return set(_defined(ast.parse((ROOT / path).read_text()).body))


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}.{name}" for name in _defined(node.body))
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def extras() -> set[str]:
    """The extras of ``setup.py``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Subscript):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == "EXTRAS" and isinstance(node.value, ast.Dict):
                found |= {ast.literal_eval(key) for key in node.value.keys if key is not None}
            elif isinstance(target, ast.Subscript) and ast.unparse(target.value) == "EXTRAS":
                found.add(ast.literal_eval(target.slice))
    return found
