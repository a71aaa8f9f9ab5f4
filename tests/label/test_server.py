"""The MONAI Label app in MONAI Label's own server, over HTTP.

It builds a separate environment, which takes some minutes: MONAI Label requires older packages.
``LABEL_PYTHON`` names the Python of one that is there already.
"""

import io
import json
import signal
import socket
import urllib.parse
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
from label_server import TILES, ask, ask_as_qupath, form, wait
from PIL import Image

import monai_iste
from monai_iste import DEFAULT_PRESET
from monai_iste.inferers import Region
from monai_iste.label import client

pytestmark = pytest.mark.slow


def infer(server, image, output="image", **params):
    query = urllib.parse.urlencode({"image": image, "output": output})
    body = urllib.parse.urlencode({"params": json.dumps({"device": "cpu", **params})}).encode()
    return ask(server, f"/infer/iste?{query}", body, "application/x-www-form-urlencoded")


def infer_wsi(server, image, output=None, **body):
    query = urllib.parse.urlencode({"image": image, **({"output": output} if output else {})})
    return ask(server, f"/infer/wsi/iste?{query}", json.dumps(body).encode())


def pixels(response):
    assert response.status == 200, response.body
    return np.asarray(Image.open(io.BytesIO(response.body)))


@pytest.fixture(scope="module")
def whole(server):
    """The whole slide at x3.7, computed by the library."""
    with monai_iste.slides.Slide(server.folder / "studies" / "slide.ome.tiff") as slide:
        return monai_iste.upscale(slide.read(Region(0, 0, 300, 700)), 3.7, device="cpu")


def test_info_describes_the_app(server):
    info = json.loads(ask(server, "/info/").body)
    assert info["name"] == "monai_iste"
    assert info["version"] == monai_iste.__version__
    assert info["models"]["iste"]["type"] == "others"
    assert info["models"]["iste"]["config"] == {"scale": 2.0, "result_extension": ".png"}
    assert info["trainers"]["iste"]["config"]["max_epochs"] == 10
    assert info["datastore"]["total"] == 4


def test_it_listens_on_loopback_and_other_sites_may_not_ask(server):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
    response = ask(server, "/info/", headers={"Origin": "http://example.org"})
    assert response.headers["Access-Control-Allow-Origin"] is None
    assert ask(server, "/info/", headers={"Host": "example.org"}).status == 400


def test_an_image_is_what_upscale_makes_of_it(server):
    expected = monai_iste.upscale(TILES["tile"], 2.5, device="cpu")
    assert expected.shape == (325, 375, 3)
    assert np.array_equal(pixels(infer(server, "tile", scale=2.5)), expected)
    assert np.array_equal(pixels(infer(server, "tile.png", scale=2.5)), expected)
    told = monai_iste.upscale(TILES["tile"], 2.5, device="cpu", input_blur=0.25)
    assert np.array_equal(pixels(infer(server, "tile", scale=2.5, input_blur=0.25)), told)


def test_a_region_of_a_slide_is_cut_out_of_the_whole_result(server, whole):
    region = pixels(infer(server, "slide", scale=3.7, location=[170, 180], size=[60, 40]))
    left, top = round(170 * 3.7), round(180 * 3.7)
    assert region.shape == (148, 222, 3)
    assert np.array_equal(region, whole[top : top + 148, left : left + 222])


def test_the_record_tells_how_it_was_made(server):
    record = json.loads(infer(server, "slide", "json", mpp=0.125, location=[0, 0], size=[20, 10]).body)
    assert record["image"] == "slide"
    assert record["image_size"] == [700, 300]
    assert record["result_size"] == [40, 20]
    assert record["mpp"] == pytest.approx([0.125, 0.125], rel=2e-3)
    assert record["provenance"]["preset"] == DEFAULT_PRESET
    assert record["provenance"]["weights"].startswith("sha256 ")


def test_the_address_for_slides_sends_images_too(server, whole):
    region = pixels(infer_wsi(server, "slide", location=[170, 180], size=[60, 40], params={"scale": 3.7}))
    left, top = round(170 * 3.7), round(180 * 3.7)
    assert np.array_equal(region, whole[top : top + 148, left : left + 222])
    assert np.array_equal(pixels(infer_wsi(server, "tile")), monai_iste.upscale(TILES["tile"], 2.0, device="cpu"))
    record = json.loads(infer_wsi(server, "slide", "json", location=[690, 290], params={"scale": 3.7}).body)
    assert record["result_size"] == [37, 37]
    refused = infer_wsi(server, "slide", "dsa")
    assert refused.status == 400
    assert "no annotations" in refused.body.decode()


def qupath_annotations(body):
    """What QuPath's extension reads of a response: name, color and corners of each annotation."""
    found = []
    for annotation in minidom.parseString(body).getElementsByTagName("Annotation"):
        color = int(annotation.getAttribute("Color").replace("#", "", 1), 16)
        for child in annotation.childNodes:
            if child.nodeType == child.ELEMENT_NODE:
                corners = [
                    (float(c.getAttribute("X")), float(c.getAttribute("Y"))) for c in child.childNodes if c.attributes
                ]
                found.append((annotation.getAttribute("Name"), color, corners))
    return found


def test_qupath_gets_one_annotation_that_names_the_image(server, whole):
    """The request of QuPath's MONAI Label extension, parsed as it parses the answer."""
    assert ask(server, "/datastore/image?image=slide", method="HEAD").status == 200
    body = {"level": 0, "location": [170, 180], "size": [60, 40], "tile_size": [1024, 1024], "min_poly_area": 30}
    body["params"] = {"foreground": [], "background": [], "max_workers": 1}
    response = ask_as_qupath(server, "/infer/wsi/iste?output=asap&image=slide", json.dumps(body))
    assert response.status == 200, response.body
    ((name, color, corners),) = qupath_annotations(response.body)
    assert color == 0xFFB000
    assert corners == [(170, 180), (230, 180), (230, 220), (170, 220)]
    file = Path(name.partition(" (")[0])
    assert "x2, inferred" in name
    assert file.parent == server.folder / "app" / "results"
    with monai_iste.slides.Slide(server.folder / "studies" / "slide.ome.tiff") as slide:
        expected = monai_iste.upscale(slide.read(Region(0, 0, 300, 700)), 2, device="cpu")
    assert np.array_equal(np.asarray(Image.open(file)), expected[360:440, 340:460])


def test_qupath_sends_a_part_of_a_slide_that_the_server_does_not_have(server):
    assert ask(server, "/datastore/image?image=mine", method="HEAD").status == 404
    stream = io.BytesIO()
    Image.fromarray(TILES["tile"]).save(stream, "PNG")
    wsi = {"level": 0, "location": [0, 0], "size": [0, 0], "tile_size": [1024, 1024], "min_poly_area": 30}
    fields = {"wsi": (None, json.dumps(wsi).encode()), "file": ("patch12.png", stream.getvalue())}
    response = ask(server, "/infer/wsi_v2/iste?output=asap", *form(fields))
    assert response.status == 200, response.body
    ((name, _, corners),) = qupath_annotations(response.body)
    assert corners[2] == (150, 130)
    found = np.asarray(Image.open(name.partition(" (")[0]))
    assert np.array_equal(found, monai_iste.upscale(TILES["tile"], 2, device="cpu"))


@pytest.mark.parametrize(
    ("image", "params", "status", "words"),
    [
        ("unknown", {}, 404, "the name of a study, got 'unknown'"),
        ("/etc/hostname", {}, 404, "the name of a study"),
        ("broken", {}, 400, "a readable image in broken"),
        ("tile", {"scale": 0}, 400, "a finite scale above 0, got 0.0"),
        ("tile", {"scale": 1e9}, 400, "an output of at most"),
        ("slide", {"scale": 17}, 400, "a magnification of at most 16"),
        ("tile", {"scale": "NaN"}, 400, "a finite scale above 0"),
        ("tile", {"scael": 2}, 400, "Did you mean 'scale'"),
        ("slide", {"location": [690, 0], "size": [11, 5]}, 400, "a region inside the image, 700 x 300 pixels"),
        ("slide", {"location": [0, 0], "size": [10**12, 5]}, 400, "two whole numbers for size"),
        ("tile", {"full_size": [60000, 2000]}, 400, "a magnification that makes at most 33,554,432 pixels"),
        ("tile", {"mpp": 0.1}, 400, "the pixel size of tile"),
        ("tile", {"result_extension": ".exe"}, 400, "a result_extension"),
        ("tile", {"input_blur": "soft"}, 400, "a number for input_blur"),
        ("tile", {"input_blur": -1}, 400, "an input_blur of at least 0 pixels"),
        ("tile", {"input_blur": 0.8}, 400, "an input_blur from 0 to 0.55 pixels"),
    ],
)
def test_refusals_are_one_sentence(server, image, params, status, words):
    response = infer(server, image, **params)
    sentence = json.loads(response.body)["detail"]
    assert (response.status, words in sentence) == (status, True), sentence
    assert "\n" not in sentence
    assert str(server.folder) not in sentence


def test_an_unknown_model_and_parameters_that_are_no_json(server):
    assert ask(server, "/infer/other?image=tile", b"", "application/x-www-form-urlencoded").status == 400
    response = ask(server, "/infer/iste?image=tile", b"params=scale", "application/x-www-form-urlencoded")
    assert response.status == 400
    assert "params in JSON" in json.loads(response.body)["detail"]


def test_the_client_sends_a_file_and_saves_what_comes(server, tmp_path):
    Image.fromarray(TILES["tile"][:50]).save(tmp_path / "mine.v1.png")
    assert (
        client.main([server.url, str(tmp_path / "mine.v1.png"), "--scale", "1.3", "--out", str(tmp_path / "a.tif")])
        == 0
    )
    expected = monai_iste.upscale(np.ascontiguousarray(TILES["tile"][:50]), 1.3, device="cpu")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.tif")), expected)


def label(server, name):
    return pixels(ask(server, f"/datastore/label?label={name}&tag=original"))


def test_a_batch_upscales_every_study_and_names_the_bad_one(server):
    response = ask(server, "/batch/infer/iste?run_sync=true", json.dumps({"scale": 1.5, "device": "cpu"}).encode())
    result = json.loads(response.body)
    assert "a readable image" in result["broken"]["error"]
    for name, tile in TILES.items():
        assert result[name]["params"]["scale"] == pytest.approx([1.5, 1.5])
        assert np.array_equal(label(server, name), monai_iste.upscale(np.ascontiguousarray(tile), 1.5, device="cpu"))


def finished(server, address):
    wait(lambda: json.loads(ask(server, address).body)["status"] not in ("SUBMITTED", "RUNNING"), 600)
    return json.loads(ask(server, address).body)


def test_a_batch_in_the_background(server):
    ask(server, "/batch/infer/iste?images=unlabeled", json.dumps({"scale": 1.25, "device": "cpu"}).encode())
    task = finished(server, "/batch/infer")
    assert task["status"] == "DONE", task
    tile = TILES["tile"]
    wait(lambda: label(server, "tile").shape == (162, 188, 3), 60)
    assert np.array_equal(label(server, "tile"), monai_iste.upscale(tile, 1.25, device="cpu"))


def test_training_on_the_studies_changes_what_inference_uses(server):
    before = json.loads(infer(server, "tile", "json").body)["provenance"]["weights"]
    small = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "device": "cpu"}
    refused = ask(server, "/train/iste?run_sync=true", json.dumps({**small, "max_epochs": 0}).encode())
    assert refused.status == 400
    ask(server, "/train/iste", json.dumps({**small, "batch_size": 0}).encode())
    task = finished(server, "/train/")
    assert task["status"] == "ERROR"
    assert "a whole number above 0 for batch_size" in task["details"][-1]
    assert not any("Traceback" in line for line in task["details"])

    started = ask_as_qupath(server, "/train/iste", json.dumps(small))
    assert started.status == 200, started.body
    task = finished(server, "/train/")
    assert task["status"] == "DONE", task
    images = sorted(path.name for path in (server.folder / "app" / "model" / "iste-images").iterdir())
    assert images == ["another.png", "slide.ome.tiff", "tile.png"]
    after = json.loads(infer(server, "tile", "json").body)["provenance"]["weights"]
    assert after != before
    rows = json.loads(ask(server, "/info/").body)["train_stats"]["iste"]["rows"]
    assert {row["method"] for row in rows} == {"bicubic", "iste, initial", "iste"}


def test_nothing_is_left_behind_and_it_ends_with_the_signal(server):
    wait(lambda: not list(server.temporary.glob("*_x*")), 30)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=120) == 0, server.log.read_text()[-3000:]
    with socket.create_server(("127.0.0.1", server.port)):
        pass
    assert sorted(path.name for path in (server.folder / "app").iterdir() if path.is_file()) == ["main.py"]
