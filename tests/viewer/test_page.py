"""The viewer's page: its arithmetic by node's test runner, and all of it in a headless Chromium on the real server.

Needs node, and for the browser Chromium (``CHROMIUM`` names it, else it is looked for) and npm's ``playwright-core``
(``PLAYWRIGHT_CORE`` names its folder, else it is looked for among the global packages).
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from browser import drive, in_a_browser, needs_node, node, serving
from PIL import Image
from slide_files import picture, write_slide_file

from monai_iste import DEFAULT_PRESET

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "monai_iste" / "viewer" / "static"
SIZE = 800, 1000  # 3.37 times that is whole: the scale of the log is then exactly what was asked for
VIEW_LOG = re.compile(r"view png (\S+) (\w+) x([\d.]+) \(y ([\d.]+)\) grid (\d+)x(\d+) at")


# --- without a browser ------------------------------------------------------------------------------------------------


def test_the_page_asks_nothing_of_other_hosts_and_has_no_inline_code():
    html = (STATIC / "index.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(addresses) == 4
    for address in addresses:
        assert address.startswith("/static/")
        assert (STATIC / address.removeprefix("/static/")).is_file()
    assert not re.findall(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", html)
    for file in [*STATIC.glob("*.js"), *STATIC.glob("*.css")]:
        assert not re.findall(r"https?://|@import|\beval\(|innerHTML", file.read_text()), file


def test_every_element_that_the_page_looks_for_is_there():
    code = "".join(file.read_text() for file in STATIC.glob("*.js"))
    wanted = set(re.findall(r'(?:\$|put)\("([\w-]+)"', code))
    assert len(wanted) > 15
    assert wanted <= set(re.findall(r'\bid="([\w-]+)"', (STATIC / "index.html").read_text()))


def test_the_library_that_is_sent_along_has_its_license():
    folder = STATIC / "vendor" / "openseadragon"
    assert (folder / "openseadragon.min.js").read_text()[:40].startswith("//! openseadragon 6.1.1")
    assert "Redistributions in binary form must reproduce the above" in (folder / "LICENSE.txt").read_text()


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("name", ["viewer_geometry.mjs", "viewer_annotations.mjs"])
def test_the_modules_that_need_no_browser(name):
    done = subprocess.run([node, "--test", HERE / name], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The viewer as its command starts it, on a free port: (address, log)."""
    folder = tmp_path_factory.mktemp("viewer")
    with serving(write_slide_file(folder / "Tissue.tif", picture(*SIZE), mpp=0.5)) as found:
        yield found


@pytest.fixture(scope="module")
def seen(server, tmp_path_factory):
    """Results of one run in a browser: see viewer_page.mjs."""
    out = tmp_path_factory.mktemp("screenshots")
    found = drive(HERE / "viewer_page.mjs", server, out, image="tissue", moves=200)
    print(f"heap {found['endurance']['heap']} bytes, screenshots in {out}")
    return {**found, "out": out, "log": server[1].read_text()}


@in_a_browser
def test_both_panes_show_the_same_place_at_exactly_the_scale(seen):
    side = seen["side"]
    assert side["bicubic"]["region"] == side["sr"]["region"]
    for pane, method in (("left", "bicubic"), ("right", "sr")):
        assert side[pane]["size"] == side[pane]["expected"]
        assert side[pane]["max"] == 0, side[pane]  # on the screen is what the server sent, pixel by pixel
        assert side[method]["scale"] == "3.37"
    assert side["apart"]["mean"] > 0.5  # and the two are not one and the same
    assert ("tissue", "sr", "3.37", "3.37", "3370", "2696") in VIEW_LOG.findall(seen["log"])
    assert f"{DEFAULT_PRESET} ×3.37" in side["badge"]
    assert "Not for diagnosis" in side["badge"]


@in_a_browser
def test_pixel_size_objective_and_scale_bar_are_those_of_the_view(seen):
    assert seen["side"]["readout"] == "0.148 µm/px · equivalent to 67.4× · ×3.37 of native"  # 0.5 / 3.37; 10 / that
    length, unit = seen["side"]["bar"].split()
    assert unit == "µm"
    assert seen["side"]["barWidth"] == pytest.approx(float(length) / 0.5 * 3.37, abs=0.05)


@in_a_browser
def test_at_one_to_one_the_pixels_are_the_slides_own(seen):
    native = seen["native"]
    assert native["size"] == native["expected"]
    assert native["mean"] < 3  # tiles are JPEG
    assert native["aside"] > 2 * native["mean"]
    assert native["views"] == 1  # only that of this comparison: nothing is upscaled
    assert not native["badge"]


@in_a_browser
def test_the_center_is_shown_first_as_it_stays(seen):
    parts = seen["parts"]
    assert parts["inside"] == 0
    assert parts["outside"] > 0, "the rest is bicubic until its parts come"
    assert "Inferred" in parts["badge"]
    assert "sharpening" in parts["badge"]
    assert len(parts["away"]) > 2
    assert parts["away"] == sorted(parts["away"])
    assert parts["whole"] == parts["size"]


@in_a_browser
def test_the_curtain_parts_bicubic_from_inferred_pixels(seen):
    curtain = seen["curtain"]
    assert curtain["places"] == [0.5, 0.4, pytest.approx(0.7, abs=0.011)]
    assert curtain["left"]["max"] == 0
    assert curtain["right"]["max"] == 0
    assert "x=512" in curtain["hash"]  # keys and mouse moved the line, not the picture


@in_a_browser
def test_keys(seen):
    keys = seen["keys"]
    assert keys["start"] == 2.5
    assert keys["in"] == pytest.approx(2.5 * 1.3, rel=1e-3)
    assert keys["out"] == pytest.approx(2.5, rel=1e-3)
    assert keys["one"] == pytest.approx(1, rel=1e-6)
    assert 0 < keys["fit"] < 1
    assert keys["legend"]
    assert keys["help"]
    assert keys["plainBadge"] == "Interpolated"
    assert keys["plain"]["max"] == 0


@in_a_browser
def test_an_exported_view_records_how_it_was_made(seen):
    assert seen["keys"]["exported"].startswith("tissue_sr_x2.5")
    with Image.open(seen["out"] / "export.png") as exported:
        assert json.loads(exported.text["Provenance"])["preset"] == DEFAULT_PRESET
        assert "Not for diagnosis" in exported.text["Description"]


@in_a_browser
def test_an_address_brings_the_same_view_back(seen):
    assert seen["shared"]["before"] == seen["shared"]["after"]
    assert "zoom=2.2&mode=side" in seen["shared"]["after"]["hash"]


@in_a_browser
def test_two_hundred_movements_leave_nothing_behind(seen):
    assert seen["complaints"] == []
    early, late = seen["endurance"]["heap"]
    assert late - early < 1_500_000, (early, late)
    assert seen["endurance"]["objects"] == 2  # bicubic and super-resolved, of the view that is seen


@in_a_browser
def test_the_page_speaks_to_its_server_alone(seen, server):
    assert seen["hosts"] == [server[0].removeprefix("http://")]


@in_a_browser
@pytest.mark.parametrize("mode", ["single", "curtain", "side"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_nothing_overlaps_leaves_the_window_or_tints_the_tissue(seen, device, mode):
    layout = seen["layout"][f"{device}-{mode}"]
    assert layout["count"] > 12
    assert layout["outside"] == []
    assert layout["covered"] == []
    assert layout["tinted"] == []


@in_a_browser
def test_a_refusal_is_a_sentence_and_the_next_view_comes_all_the_same(seen):
    failure = seen["failure"]
    assert failure["refused"] == "Too much waits."
    assert failure["after"] == ""
    assert "Inferred" in failure["badge"]
