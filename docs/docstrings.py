"""Griffe extension that converts docstrings, written for an editor, to the Markdown of mkdocstrings.

It is named in ``mkdocs.yml`` and changes only the form: roles of Sphinx become links, sections unknown to Griffe
(``Shape``, ``Units``, ``Differs from the paper``) become paragraphs that begin in bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

#: Sections that Griffe reads itself, with Griffe's names for them.
SECTIONS = {"Args": "Args", "Raises": "Raises", "Returns": "Returns", "Attributes": "Attributes", "Example": "Examples"}
_HEADER = re.compile(r"(Args|Raises|Returns|Attributes|Example|Shape|Units|Differs from the paper):(?: (.*))?")
_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")


class ReadableDocstrings(griffe.Extension):
    """Convert the docstrings of a package after all of it is loaded, so that names can be looked up."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        objects = list(_objects(pkg))
        for obj in objects:
            if obj.is_attribute and obj.docstring is None:
                obj.docstring = _comment(obj)
        for obj in objects:
            if obj.docstring is not None:
                obj.docstring.value = readable(obj.docstring.value, obj)


def _objects(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if isinstance(member, griffe.Object):  # what is imported is an alias, and rewritten where it is defined
            yield from _objects(member)


def _comment(obj: griffe.Object) -> griffe.Docstring | None:
    """Return the comment lines ``#: ...`` before an attribute as its docstring."""
    if not isinstance(obj.filepath, Path):
        return None
    lines = obj.lines_collection[obj.filepath]
    first = last = (obj.lineno or 1) - 1
    while first > 0 and lines[first - 1].lstrip().startswith("#:"):
        first -= 1
    text = "\n".join(line.lstrip()[2:].removeprefix(" ") for line in lines[first:last])
    return griffe.Docstring(text, parent=obj) if text else None


def readable(text: str, obj: griffe.Object) -> str:
    """Return the docstring of ``obj`` as Markdown."""
    lines: list[str] = []
    paragraph = False  # inside a section that becomes one
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if header is not None:
            name, rest = header.groups()
            paragraph = name not in SECTIONS or rest is not None
            lines += ["", f"**{name}:** {rest or ''}".rstrip() if paragraph else f"{SECTIONS[name]}:"]
        elif paragraph and (not line or line.startswith(" ")):
            lines.append(line.strip())
        else:
            paragraph = False
            lines.append(line.removesuffix(":") if line.endswith("::") else line)
    return _ROLE.sub(lambda role: _link(role[1], obj), "\n".join(lines))


def _link(name: str, obj: griffe.Object) -> str:
    label = f"`{name.rpartition('.')[2]}`"
    path = _path(name, obj)
    return f"[{label}][{path}]" if path is not None else label


def _path(name: str, obj: griffe.Object) -> str | None:
    """Return the path of the object that a docstring calls ``name``, or None if the site does not show it."""
    package = obj.package
    try:
        if name.startswith(f"{package.name}."):
            found = package[name.removeprefix(f"{package.name}.")]
        else:
            first, _, rest = name.partition(".")
            path = obj.resolve(first).removeprefix(f"{package.name}.")
            found = package[f"{path}.{rest}" if rest else path]
        found = found.final_target if isinstance(found, griffe.Alias) else found
        return found.path if found.docstring is not None else None  # what has none is not shown
    except (griffe.GriffeError, KeyError):
        return None
