"""The benchmark of the viewer: its parts are those of the page, and its seconds are in the order of what happens."""

import json
import subprocess

import pytest
from benchmark_inputs import table_rows
from browser import needs_node, node
from reference import assert_teaches
from slide_files import picture, write_slide_file

from benchmarks import viewer
from benchmarks.viewer import View, parse_view, parts_of
from monai_iste.errors import ConfigError
from monai_iste.networks import Bicubic
from monai_iste.viewer import server
from monai_iste.viewer.rendering import Renderer

PROGRAM = """
import { readFileSync } from "node:fs";
const code = encodeURIComponent(readFileSync(process.argv[1], "utf8"));
const { partsOf } = await import(`data:text/javascript,${code}`);
const [request, image, grid] = JSON.parse(process.argv[2]);
console.log(JSON.stringify(partsOf(request, image, grid)));
"""


@needs_node
@pytest.mark.parametrize("view", [View(1600, 1000, 3.37), View(700, 700, 1.5), View(900, 500, 8), View(90, 50, 2)])
def test_parts_are_those_of_the_page(view):
    sides = 2967, 2220
    size = [round(n * view.scale) for n in sides]
    steps = sides[0] / size[0], sides[1] / size[1]
    corner = (size[0] - view.height) // 2, (size[1] - view.width) // 2
    whole = {**viewer._request(view, corner, steps), "scale": view.scale}
    code = server._STATIC / "geometry.js"
    grid = Renderer(Bicubic).grid
    given = json.dumps([whole, {"height": sides[0], "width": sides[1]}, grid])
    done = subprocess.run(
        [node, "--input-type=module", "-e", PROGRAM, str(code), given], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    page, ours = json.loads(done.stdout), parts_of(view, corner, steps, grid)
    assert len(page) == len(ours)
    for its, own in zip(page, ours, strict=True):
        assert own == pytest.approx({name: its[name] for name in own})


def test_a_server_is_measured(tmp_path, capsys):
    pytest.importorskip("uvicorn")
    slide = write_slide_file(tmp_path / "a.tif", picture(500, 600), mpp=0.5)
    file = tmp_path / "found.json"
    (row,) = viewer.viewer(slide, "300x200@2", threads=1, repeats=1, json_file=file)
    assert 0 < row["start"][0] <= row["page"][0] <= row["picture"][0] <= row["network"][0]
    assert 0 < row["part"][0] <= row["view"][0]
    assert row["pan"][0] > 0
    assert json.loads(file.read_text())["rows"][0]["view"] == row["view"]
    (shown,) = table_rows(capsys.readouterr().out, "Viewer")
    assert (shown["view"], shown["scale"], shown["runs"]) == ("300x200", "x2", "1")


@pytest.mark.parametrize("views", ["700@2", "700x700", "0x700@2", "700x700@1", "700x700@0.5", ""])
def test_what_is_no_view_is_refused(tmp_path, views):
    with pytest.raises(ConfigError) as error:
        viewer.viewer(tmp_path / "a.tif", views)
    assert_teaches(error.value, views.split(",")[0].split("@")[-1])


def test_a_view_is_parsed():
    assert parse_view("1600x1000@3.37") == View(1600, 1000, 3.37)
