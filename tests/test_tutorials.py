"""Every tutorial runs from beginning to end, with its own assertions as checks; its page is up to date."""

import importlib.util
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorials"
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.py"))
PICTURES = sorted((PAGES / "images").iterdir())

#: Those that take seconds; the others are of the slow tier.
FAST = {"01_quickstart", "02_whole_slide", "06_serve_and_view"}

#: Packages of extras without which a tutorial is skipped.
NEEDS = {
    "02_whole_slide": ["imagecodecs"],
    "04_a_network_at_its_own_resolution": ["imagecodecs"],
    "05_reproduce_a_table": ["matplotlib"],
    "06_serve_and_view": ["imagecodecs", "fastapi", "uvicorn"],
    "08_scale_out": ["imagecodecs", "zarr", "distributed"],
}


def each(run):
    """The tutorials as parameters, the long ones marked as slow where they are run."""
    return pytest.mark.parametrize(
        "tutorial",
        [
            pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if run and path.stem not in FAST else [])
            for path in TUTORIALS
        ],
    )


def is_installed(package):
    return importlib.util.find_spec(package) is not None


@each(run=True)
def test_tutorial_runs(tutorial, tmp_path, monkeypatch):
    missing = [package for package in NEEDS.get(tutorial.stem, []) if not is_installed(package)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if tutorial.stem == "07_monai_label" and not (os.environ.get("LABEL_PYTHON") or is_installed("monailabel")):
        pytest.skip("needs MONAI Label, or LABEL_PYTHON, the Python of an environment that has it")
    if tutorial.stem in FAST:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(tutorial))
    else:
        run_alone(tutorial, tmp_path)


def run_alone(tutorial, folder):
    """A separate process, of which nothing is left when it has ended or failed: some start servers and workers."""
    with (folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, tutorial], cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(timeout=1800)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        assert code == 0, output.read()[-3000:]


# --- pages ------------------------------------------------------------------------------------------------------------


def page_of(tutorial):
    return (PAGES / f"{tutorial.stem}.md").read_text()


def cells(tutorial):
    """The cells of a percent-format file: (whether it is prose, its text)."""
    for head, text in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", tutorial.read_text(), re.M):
        prose = "[markdown]" in head
        yield prose, (re.sub(r"^# ?", "", text, flags=re.M) if prose else text).strip()


def test_there_are_tutorials():
    assert [path.stem[:2] for path in TUTORIALS] == [f"{number:02}" for number in range(1, 9)]
    assert [prose for prose, _ in cells(TUTORIALS[0])][:3] == [True, False, True]


@each(run=False)
def test_page_is_that_of_the_tutorial(tutorial):
    """After a change: python -m tutorials.render tutorials/NAME.py (extra docs)."""
    page = page_of(tutorial)
    code = [block.strip() for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)]
    assert code == [text for prose, text in cells(tutorial) if not prose]
    for prose, text in cells(tutorial):
        assert not prose or text in page, text


@each(run=False)
def test_page_shows_results_and_nothing_of_the_machine(tutorial):
    page = page_of(tutorial)
    shown = re.sub(r"^```python\n.*?^```$", "", page, flags=re.M | re.S)
    assert re.search(r"^    \S", shown, re.M), "nothing is printed"
    assert not re.search(r"(^|[\s'\"(])/(home|root|tmp|usr|var|opt|work|Users)/", shown, re.M)
    assert not re.search(r"\d\d:\d\d:\d\d", shown), "a time of day"
    assert not re.search(r"127\.0\.0\.1:(?!8000\b)\d", shown), "a port that was free on one day"


def test_pictures_are_shown_and_small():
    shown = {name for path in TUTORIALS for name in re.findall(r"^!\[.+\]\(images/(.+)\)$", page_of(path), re.M)}
    assert shown == {path.name for path in PICTURES}
    assert {name.split("_")[0] for name in shown} == {path.stem[:2] for path in TUTORIALS}
    for path in PICTURES:
        assert path.stat().st_size < 200_000, path
        assert min(Image.open(path).size) >= 100, path
    assert sum(path.stat().st_size for path in PICTURES) < 3_000_000


def test_the_index_names_every_tutorial_in_order():
    index = (PAGES / "index.md").read_text()
    assert re.findall(r"^\d\. \[.+\]\((.+)\.md\)", index, re.M) == [path.stem for path in TUTORIALS]


# --- the renderer -----------------------------------------------------------------------------------------------------

TUTORIAL = """\
# %% [markdown]
# # A title

# %%
from PIL import Image


def color():
    # a comment
    return (200, 0, 0)


Image.new("RGB", (120, 100), color())

# %%
print("first")
print("second")
"""


@pytest.fixture
def render(tmp_path, monkeypatch):
    for package in ("jupytext", "nbclient", "nbconvert", "ipykernel"):
        pytest.importorskip(package, reason="needs the extra docs")
    found = importlib.import_module("tutorials.render")
    monkeypatch.setattr(found, "PAGES", tmp_path / "pages")
    return found.render


@pytest.mark.slow
def test_a_page_has_code_prints_and_pictures(render, tmp_path):
    file = tmp_path / "09_red.py"
    file.write_text(TUTORIAL)
    page = render(file)
    assert page == tmp_path / "pages" / "09_red.md"
    code = [text for prose, text in cells(file) if not prose]
    picture = "![A title](images/09_red_1.jpg)"
    assert page.read_text().split("\n\n", 1)[1] == (
        f"# A title\n\n```python\n{code[0]}\n```\n\n{picture}\n\n```python\n{code[1]}\n```\n\n    first\n    second\n"
    )
    red, green, _ = Image.open(tmp_path / "pages" / "images" / "09_red_1.jpg").getpixel((50, 50))
    assert red > 190
    assert green < 10


@pytest.mark.slow
def test_a_page_with_a_path_of_this_machine_is_refused(render, tmp_path):
    file = tmp_path / "09_red.py"
    file.write_text("# %%\nimport os\n\nprint(os.path.join(os.getcwd(), 'a'))\n")
    with pytest.raises(ValueError, match="prints a path of this machine"):
        render(file)
    assert not (tmp_path / "pages" / "09_red.md").exists()
