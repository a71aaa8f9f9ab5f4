"""Accessibility of the viewer's page: axe-core, keyboard focus, forced colors, in a headless Chromium.

``AXE_CORE`` names the folder of npm's ``axe-core``; without it axe is left out.
"""

import os
import re
from pathlib import Path

import pytest
from browser import drive, in_a_browser, serving
from slide_files import picture, write_slide_file

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "monai_iste" / "viewer" / "static"
LOOKS = [f"{size}-{look}" for size in ("desktop", "phone") for look in ("dark", "light", "forced")]
STATES = ["map", "annotations", "help", "slides"]


def axe():
    folder = os.environ.get("AXE_CORE")
    return f"{folder}/axe.min.js" if folder else None


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Results of one run in a browser: see viewer_axe.mjs."""
    folder, out = tmp_path_factory.mktemp("slides"), tmp_path_factory.mktemp("screenshots")
    files = [write_slide_file(folder / name, picture(300, 400), mpp=0.5) for name in ("A.tif", "B.tif")]
    with serving(*files) as server:
        found = drive(HERE / "viewer_axe.mjs", server, out, image="a", axe=axe())
        print(f"screenshots in {out}")
        yield found


@in_a_browser
@pytest.mark.skipif(axe() is None, reason="axe-core is not installed; AXE_CORE names its folder")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(seen, look, state):
    assert seen["findings"][f"{look}-{state}"] == []


@in_a_browser
def test_nothing_is_wider_than_the_window(seen):
    assert set(seen["overflow"]) == {f"{look}-{state}" for look in LOOKS for state in STATES}
    assert {name: excess for name, excess in seen["overflow"].items() if excess > 0} == {}


@in_a_browser
@pytest.mark.parametrize("look", LOOKS)
def test_pressed_buttons_look_different(seen, look):
    on, off = seen["pressed"][look]["on"], seen["pressed"][look]["off"]
    assert on["backgroundColor"] != off["backgroundColor"]
    assert on["color"] != off["color"]


@in_a_browser
def test_tab_reaches_every_control_and_the_focus_is_visible(seen):
    stops, wanted = seen["stops"]["found"], seen["stops"]["wanted"]
    names = [stop["name"] for stop in stops]
    assert len(wanted) > 20
    assert set(wanted) - set(names) == set()
    assert len(names) == len(set(names))
    assert [stop["name"] for stop in stops if not stop["ring"]] == []
    assert [stop["name"] for stop in stops if min(stop["size"]) < 24] == []  # WCAG 2.2, target size


@in_a_browser
def test_the_help_lists_every_key(seen):
    keys = set(re.findall(r"^    (\w|\"[^\"]\"): (?:actions|\(\))", (STATIC / "keys.js").read_text(), re.MULTILINE))
    assert len(keys) > 14
    missing = {key.strip('"') for key in keys} - {"="} - set(seen["listed"])  # = is + without shift
    assert missing == set()
    assert {"Enter", "Esc", "Tab", "Shift"} <= set(seen["listed"])


@in_a_browser
def test_nothing_complained(seen):
    assert seen["complaints"] == []
