"""MkDocs hooks: show pages and files that lie outside ``docs/``, and resolve links that are written for the repository.

Every text has one home. Pages beside the code (the bundle's README, the model card, the changelog) are read from there.
Links are written as they work in the repository, ``../monai_iste/networks/iste.py``. On the site such a link leads to
the API if its text names something that is documented there, else to a page with the file's text.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

#: Pages whose home is elsewhere in the repository.
OUTSIDE = {
    "bundles/iste/docs/README.md": "bundle.md",
    "bundles/iste/models/iste_light2.md": "model_card.md",
    "bundles/iste/models/iste_light.md": "model_card_iste_light.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
}
#: Pages whose tables need the room of the side bars.
WIDE = ("paper.md", "benchmarks.md", "experiments.md")
#: Pages that another page of the site replaces.
INSTEAD = {"README.md": "index.md"}
LANGUAGES = {".py": "python", ".json": "json", ".yml": "yaml", ".sh": "bash", ".md": "markdown", ".mjs": "js"}

#: Code, in which nothing is a link, or a link: text and target.
_LINK = re.compile(r"^```.*?^```|^ {4}.*?$|(\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+)\)|`[^`\n]+`", re.M | re.S)
#: ``::: monai_iste.slides.*``: the modules of a package that no page of the API names.
_REST = re.compile(r"^::: ([\w.]+)\.\*$", re.M)
_MODULE = re.compile(r"^::: ([\w.]+)$", re.M)
#: A comment before the heading, which would keep MkDocs from finding the page's title.
_NOTE = re.compile(r"\A<!--.*?-->\s*", re.S)
#: Pages of source text: as wide as the lines of a program, and not to be found in place of a page that explains it.
_ASIDE = "---\nhide: [navigation, toc]\nsearch: {exclude: true}\n---\n\n"
_SYMBOL = re.compile(r"\[`([A-Za-z_][\w.]*)`\]")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand ``*.md`` and ``folder/*.md`` in the navigation to the folder's pages that have no entry of their own."""
    placed = set(re.findall(r"'([^'*]+\.md)'", repr(config.nav)))
    config.nav = _expanded(config.nav, placed)
    return config


def _expanded(nav: Any, placed: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(part, placed) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    expanded = []
    for part in nav:
        if isinstance(part, str) and "*" in part:
            files = sorted((ROOT / "docs").glob(part), key=lambda file: (file.name != "index.md", file))
            pages = [file.relative_to(ROOT / "docs").as_posix() for file in files]
            expanded += [page for page in pages if page not in placed]
        else:
            expanded.append(_expanded(part, placed))
    return expanded


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of :data:`OUTSIDE`, the notebooks, then a page for every other file that a page links to."""
    for path, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for tutorial in sorted((ROOT / "tutorials").glob("[0-9]*.py")):
        files.append(File.generated(config, _notebook_uri(tutorial), content=_notebook(tutorial)))
    known = _uris(files)
    wanted = {path for file in files.documentation_pages() for path in _targets(file) if path not in known}
    wanted.update([name for path in wanted for name in _files_in(path)])
    for path in sorted(wanted - known.keys()):
        level = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, _source_uri(path), content=_source(path), inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Replace the repository's relative links by the site's, and ``::: package.*`` by the package's modules."""
    known = _uris(files)
    home = _home(page.file)
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["navigation", "toc"]

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, anchor = _resolve(home, target or "#")
        if path is None:
            return match[0]
        symbol = _SYMBOL.fullmatch(text)
        if path.startswith("monai_iste/") and symbol and symbol[1] != posixpath.basename(path):
            return f"{text}[{_module(path)}.{symbol[1]}]"
        if path not in known:
            return match[0]  # MkDocs reports it as broken
        return f"{text}({posixpath.relpath(known[path], posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    if files.get_file_from_path(f"{page.file.src_uri.removesuffix('.md')}.ipynb"):
        markdown = f"{markdown}\n[Download this page as a Jupyter notebook]({page.file.name}.ipynb)\n"
    markdown = _REST.sub(lambda rest: _modules(rest[1]), _NOTE.sub("", markdown))
    return _LINK.sub(link, markdown)


def _modules(package: str) -> str:
    """List the modules of a package that no page of the API names, as ``::: module`` lines."""
    named = {name for file in (ROOT / "docs" / "api").glob("*.md") for name in _MODULE.findall(file.read_text())}
    files = sorted((ROOT / package.replace(".", "/")).glob("*.py"))
    found = [f"{package}.{file.stem}" for file in files if file.stem not in ("__init__", "__main__", "conftest")]
    return "\n\n".join(f"::: {name}" for name in found if name not in named)


def _uris(files: Files) -> dict[str, str]:
    """Map each file of the repository to its page; programs in ``docs/`` are shown, not copied."""
    shown = (file for file in files if _home(file) and not file.src_uri.endswith(".py"))
    return {**{_home(file): file.src_uri for file in shown}, **INSTEAD}


def _home(file: File) -> str:
    """Return a file's path in the repository, or "" for a file of the theme."""
    if file.src_uri.startswith("source/"):
        return file.src_uri.removeprefix("source/").removesuffix(".md")
    path = Path(file.abs_src_path) if file.abs_src_path else None
    return path.relative_to(ROOT).as_posix() if path and path.is_relative_to(ROOT) else ""


def _resolve(home: str, target: str) -> tuple[str | None, str]:
    """Return a link's path in the repository (None if it stays on its page or leaves the repository) and its anchor."""
    if re.match(r"[a-z]+:|#", target):
        return None, ""
    path, hash_, anchor = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), path)), hash_ + anchor


def _targets(file: File) -> Iterator[str]:
    """Yield the files of the repository that a page links to."""
    for match in _LINK.finditer(file.content_string):
        path, _anchor = _resolve(_home(file), match[2] or "#")
        if path is not None and (ROOT / path).exists():
            yield path


def _files_in(path: str) -> list[str]:
    """List the text files of a folder."""
    folder = ROOT / path
    return [f"{path}/{file.name}" for file in sorted(folder.iterdir()) if _is_text(file)] if folder.is_dir() else []


def _is_text(file: Path) -> bool:
    return file.suffix in LANGUAGES and file.is_file()


def _notebook_uri(tutorial: Path) -> str:
    return f"tutorials/{tutorial.stem}.ipynb"


def _notebook(tutorial: Path) -> str:
    sys.path.insert(0, str(ROOT))  # the repository's packages beside the library are not installed
    try:
        from tutorials.render import notebook
    finally:
        sys.path.remove(str(ROOT))
    return notebook(tutorial)


def _source_uri(path: str) -> str:
    return f"source/{path}.md"


def _source(path: str) -> str:
    """Return the page that shows a file, or the list of a folder's files."""
    file = ROOT / path
    if file.is_dir():
        listed = "\n".join(f"- [{posixpath.basename(name)}]({_relative(path, name)})" for name in _files_in(path))
        return f"{_ASIDE}# {path}/\n\n{listed}\n"
    return f"{_ASIDE}# {path}\n\n``````{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}\n``````\n"


def _relative(path: str, name: str) -> str:
    return posixpath.relpath(name, posixpath.dirname(path))


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
