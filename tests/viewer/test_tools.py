"""Ruler, annotations, link, export and thumbnails of the viewer's page, in a headless Chromium on the real server."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from browser import drive, in_a_browser, serving
from PIL import Image
from slide_files import picture, write_slide_file

HERE = Path(__file__).parent
MPP = 0.5

# As QuPath exports it: a polygon with a hole, a cell, and a line without a name.
QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "7f3a6c1e-3f2a-4a7e-9a55-0f0b5c2d1e00",
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[300, 200], [500, 210], [400, 380], [300, 200]],
                    [[380, 250], [420, 250], [400, 300], [380, 250]],
                ],
            },
            "properties": {
                "objectType": "annotation",
                "name": "Gland",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "isLocked": True,
                "measurements": {"Area": 3.5},
            },
        },
        {
            "type": "Feature",
            "id": "11111111-2222-4333-8444-555555555555",
            "geometry": {"type": "LineString", "coordinates": [[310, 330], [360, 390]]},
            "properties": {"objectType": "detection"},
        },
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    files = [
        write_slide_file(folder / "A.tif", picture(600, 800), mpp=MPP),
        write_slide_file(folder / "B.tif", picture(600, 800)[::-1], mpp=MPP),
    ]
    Image.fromarray(picture(500, 400)).save(folder / "Unknown.png")
    with serving(*files, folder / "Unknown.png") as found:
        yield (*found, folder)


@pytest.fixture(scope="module")
def seen(server, tmp_path_factory):
    """Results of one run in a browser: see viewer_tools.mjs."""
    out, files = tmp_path_factory.mktemp("screenshots"), tmp_path_factory.mktemp("files")
    outside = {**QUPATH["features"][1], "id": "0" * 8 + "-1111-4111-8111-" + "1" * 12}
    outside["geometry"] = {"type": "LineString", "coordinates": [[9000, 9000], [9999, 9999]]}
    (files / "qupath.geojson").write_text(json.dumps(QUPATH))
    (files / "outside.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [outside]}))
    (files / "broken.geojson").write_text(json.dumps(QUPATH)[:-20])
    (files / "picture.geojson").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    found = drive(HERE / "viewer_tools.mjs", server[:2], out, image="a", other="b", unknown="unknown", files=str(files))
    print(f"screenshots in {out}")
    return {**found, "out": out, "folder": server[2]}


def micrometers(words):
    return float(words.removeprefix("Ruler: ").removesuffix(".").removesuffix(" µm"))


@in_a_browser
def test_the_ruler_measures_what_is_dragged_clicked_and_set_by_keys(seen):
    ruler = seen["ruler"]
    assert "Enter" in ruler["hint"]
    assert "Esc" in ruler["hint"]
    assert micrometers(ruler["dragged"]["status"]) == pytest.approx(250 * MPP, abs=1)  # 200 and 150 pixels
    assert ruler["dragged"]["status"] == f"Ruler: {ruler['dragged']['label']}."
    assert micrometers(ruler["clicked"]) == pytest.approx(120 * MPP, abs=1)
    assert ruler["keys"] == "Ruler: 25 µm."  # 30 and 40 pixels, exactly
    assert ruler["gone"] == 0
    assert ruler["stood"]
    assert ruler["pans"]
    length, unit = ruler["unknown"].removeprefix("Ruler: ").split(" ", 1)
    assert (unit, float(length)) == ("px of the slide.", pytest.approx(50, abs=2))


@in_a_browser
def test_annotations_are_geojson_in_pixels_of_the_slide(seen):
    annotations = seen["annotations"]
    ((key, kept),) = annotations["kept"]
    assert key == "monai_iste:annotations:" + hashlib.sha256((seen["folder"] / "A.tif").read_bytes()).hexdigest()
    saved = json.loads((seen["out"] / "saved.geojson").read_text())
    assert annotations["name"] == "a.geojson"
    assert saved == {"type": "FeatureCollection", "features": kept}
    first, second, *points = saved["features"]
    for feature, corners in ((first, (300, 200, 400, 260)), (second, (420, 240, 480, 330))):
        assert feature["type"] == "Feature"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx(corners, abs=1)
    assert first["properties"] == {
        "objectType": "annotation",
        "name": "Crypt 3c",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
    }
    assert second["properties"] == {"objectType": "annotation"}
    assert [point["geometry"]["type"] for point in points] == ["Point", "Point"]
    assert points[0]["geometry"]["coordinates"] == pytest.approx([350, 350], abs=1)
    assert points[1]["geometry"]["coordinates"] == pytest.approx([390, 300], abs=1)  # 10 left of the middle
    assert annotations["mode"] == "single"  # the letter c was typed, and no shortcut
    assert len(annotations["marks"]) == 4


@in_a_browser
def test_annotations_are_deleted_undone_and_kept_for_their_slide(seen):
    annotations = seen["annotations"]
    assert (annotations["left"], annotations["undone"]) == (2, 4)
    assert annotations["reloaded"] == annotations["kept"][0][1]
    assert annotations["shown"] == 4
    assert annotations["other"] == 0


@in_a_browser
def test_files_are_loaded_back_and_refused_in_a_sentence(seen):
    loading = seen["loading"]
    assert loading["back"] == loading["saved"]
    assert loading["again"] == {"status": "Loaded 2 from qupath.geojson.", "count": 6}
    assert loading["twice"]["count"] == 6
    assert loading["all"][-2:] == QUPATH["features"]
    for name in ("broken.geojson", "picture.geojson"):
        assert loading[name]["status"] == (
            "Expected a GeoJSON file, got one that is no JSON. Export the objects as GeoJSON."
        )
        assert loading[name]["count"] == 6
    assert "1 outside of this slide" in loading["outside.geojson"]["status"]
    assert loading["inBoth"] == 2 * 7
    assert "x=350" in loading["went"]  # the middle of the first rectangle


@in_a_browser
def test_the_link_is_copied_where_the_browser_allows_it(seen):
    link = seen["link"]
    assert link["copied"] == link["address"]
    assert "zoom=2" in link["address"]
    assert link["status"] == link["plain"] == "Link to this view copied."
    assert "address bar" in link["refused"]
    assert link["focus"] == "link"


@in_a_browser
def test_exported_pictures_have_the_view_and_a_strip_below(seen):
    with Image.open(seen["out"] / "export.png") as exported:
        size, provenance = exported.size, json.loads(exported.text["Provenance"])
        pixels = np.asarray(exported)
    height, width = provenance["pixels"]
    assert (width, height) == (seen["exported"]["width"], seen["exported"]["height"])
    assert size == (width, pixels.shape[0])
    assert 15 < size[1] - height < 60
    strip = pixels[height:]
    assert (strip == (20, 20, 20)).all(2).mean() > 0.7
    assert (strip > 250).all(2).any()


@in_a_browser
def test_a_thumbnail_lies_where_the_slide_will_be(seen):
    found = seen["placeholder"]
    assert not found["hidden"]
    assert "/iiif/b/full/" in found["src"]
    stage, box = found["stage"], found["box"]
    assert (box["width"], box["height"]) == (800, 600)  # at 1:1
    assert box["left"] == pytest.approx(stage["left"] + stage["width"] / 2 - 300, abs=1)
    assert box["top"] == pytest.approx(stage["top"] + stage["height"] / 2 - 250, abs=1)


@in_a_browser
def test_the_map_names_both_means_and_the_mark_far_pixel_sizes(seen):
    words = seen["words"]
    assert words["consistency"].startswith("Here: network ")
    assert words["consistency"].endswith(" levels.")
    assert "trained" not in words["near"]  # 0.25 um
    assert "0.111 µm/px, less than half the trained 0.25" in words["fine"]


@in_a_browser
def test_fingers_draw_without_dragging(seen):
    point, box = seen["touch"]
    assert point["coordinates"] == pytest.approx([400, 250], abs=2)
    x, y = np.array(box["coordinates"][0]).T
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((360, 210, 420, 240), abs=2)


@in_a_browser
def test_nothing_complained(seen):
    assert seen["complaints"] == []
