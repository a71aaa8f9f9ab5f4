"""Tutorials as Jupyter notebooks: made from the same files, and run."""

import importlib
import json
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("[0-9]*.py"))


@pytest.fixture
def render():
    for package in ("jupytext", "nbformat"):
        pytest.importorskip(package, reason="needs the extra docs")
    return importlib.import_module("tutorials.render")


def sources(text):
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def test_every_tutorial_becomes_a_notebook_with_its_cells(render, tmp_path):
    render.main(None, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == [path.stem for path in TUTORIALS]
    nbformat = importlib.import_module("nbformat")
    for tutorial in TUTORIALS:
        text = (tmp_path / f"{tutorial.stem}.ipynb").read_text()
        nbformat.validate(nbformat.reads(text, as_version=4))
        code = [source for kind, source in sources(text) if kind == "code"]
        assert code
        assert all(line in tutorial.read_text() for source in code for line in source.splitlines())
        assert json.loads(text)["metadata"]["kernelspec"]["name"] == "python3"
        assert text == render.notebook(tutorial)


@pytest.mark.slow
def test_a_notebook_that_was_run_holds_what_it_prints(render, tmp_path):
    pytest.importorskip("nbclient", reason="needs the extra docs")
    file = tmp_path / "09_sum.py"
    file.write_text("# %% [markdown]\n# # A sum\n\n# %%\nprint(6 * 7)\n")
    render.main([file], tmp_path / "out", execute=True)
    cells = json.loads((tmp_path / "out" / "09_sum.ipynb").read_text())["cells"]
    assert "".join(cells[1]["outputs"][0]["text"]) == "42\n"
    assert not list(tmp_path.glob("*.ipynb"))
