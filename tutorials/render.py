"""Run tutorials and write them as pages with their output: ``python -m tutorials.render [FILE...]``.

With ``--notebooks DIR`` they are written as Jupyter notebooks instead, without being run; ``--execute`` runs them.

Each file is run by a Jupyter kernel in an empty folder and becomes ``docs/tutorials/<name>.md`` with pictures in
``docs/tutorials/images``. Without names it renders all of them. Needs the extra ``docs``. Pages are not edited by hand.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

TUTORIALS = Path(__file__).parent
PAGES = TUTORIALS.parent / "docs" / "tutorials"
SECONDS = 1800  # time limit of one cell
MAX_BYTES = 200_000  # largest size of a picture


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Tutorials; default: all.")] = None,
    notebooks: Annotated[
        Path | None, typer.Option("--notebooks", metavar="DIR", help="Write Jupyter notebooks into DIR, and no pages.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Run the notebooks first.")] = False,
) -> None:
    """Render tutorials."""
    if execute and notebooks is None:
        raise typer.BadParameter("it needs --notebooks DIR", param_hint="--execute")
    for file in files or sorted(TUTORIALS.glob("[0-9]*.py")):
        if notebooks is None:
            typer.echo(render(file.resolve()).relative_to(TUTORIALS.parent))
        else:
            notebooks.mkdir(parents=True, exist_ok=True)
            target = notebooks / f"{file.stem}.ipynb"
            target.write_text(notebook(file, execute), encoding="utf-8")
            typer.echo(target)


def notebook(file: Path, execute: bool = False) -> str:
    """Return a tutorial as a Jupyter notebook; the same file gives the same text.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import jupytext
    import nbformat

    cells = jupytext.read(file)
    cells.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(cells.cells):
        cell["id"] = f"cell-{number}"  # random ones would differ every time
    if execute:
        with tempfile.TemporaryDirectory() as folder:
            _run(cells, folder)
    return nbformat.writes(cells) + "\n"


def _run(cells: Any, folder: str) -> None:
    """Run all cells in a folder, and put what they print and draw beside them."""
    from nbclient import NotebookClient

    options = {"timeout": SECONDS, "coalesce_streams": True, "kernel_name": "python3"}
    NotebookClient(cells, resources={"metadata": {"path": folder}}, **options).execute()


def render(file: Path) -> Path:
    """Run a tutorial and replace its page and pictures.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the old page is kept.
        ValueError: the output contains a path of this machine.
    """
    import jupytext  # the module is imported without the extra where its command is looked up
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    cells = jupytext.read(file)
    with tempfile.TemporaryDirectory() as folder:
        _run(cells, folder)
        private = [folder, tempfile.gettempdir(), str(TUTORIALS.parent), str(Path.home()), sys.prefix]
    for cell in cells.cells:
        cell["outputs"] = [_compress(output) for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    names = {"output_filename_template": "images/{unique_key}_{cell_index}{extension}"}
    exporter = MarkdownExporter(config=Config({"ExtractOutputPreprocessor": names}))
    text, resources = exporter.from_notebook_node(cells, {"unique_key": file.stem})
    for line in text.splitlines():
        if any(f"{path}/" in line for path in private):
            raise ValueError(f"{file.name} prints a path of this machine: {line.strip()}. Let it print names alone.")
    (PAGES / "images").mkdir(parents=True, exist_ok=True)
    for old in (PAGES / "images").glob(f"{file.stem}_*"):
        old.unlink()
    for name, data in resources["outputs"].items():
        (PAGES / name).write_bytes(data)
    page = PAGES / f"{file.stem}.md"
    page.write_text(f"<!-- Written by python -m tutorials.render tutorials/{file.name} -->\n\n{_tidy(text)}")
    return page


def _compress(output: Any) -> Any:
    """Convert the picture of an output to JPEG, a tenth of PNG's size, without chroma subsampling."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        for quality in (92, 85, 75, 60):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
            if buffer.tell() < MAX_BYTES:
                break
        output["data"] = {"image/jpeg": base64.b64encode(buffer.getvalue()).decode()}
    return output


def _tidy(text: str) -> str:
    """Name pictures after the heading above them, and merge blank lines."""
    lines, heading, code = [], "", False
    for line in text.strip().split("\n"):
        line = line.rstrip()
        code ^= line.startswith("```")
        heading = line.lstrip("# ") if not code and re.match(r"#+ ", line) else heading
        if code or line or lines[-1:] != [""]:
            lines.append(re.sub(r"^!\[\w+\]\(", f"![{heading}](", line))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
