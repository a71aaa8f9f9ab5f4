"""The viewer over HTTP: addresses, pixels, headers, refusals."""

import hashlib
import io
import json
import logging
import re

import numpy as np
import pytest
from PIL import Image
from viewer_requests import PIXELS, VIEW, fetch, pixels, upscaled

from monai_iste.networks.learned_range import LearnedRange
from monai_iste.viewer import server
from monai_iste.viewer.viewport import snap_viewport

pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")


# --- IIIF -------------------------------------------------------------------------------------------------------------


def test_images_and_status(client, tmp_path):
    (image,) = client.get("/api/images").json()
    assert image == {
        "id": "tissue-a",
        "name": "Tissue A.png",
        "width": 75,
        "height": 60,
        "mpp": [0.5, 0.5],
        "mpp_source": "--input-mpp",
        "mpp_remark": None,
        "note": "",
        "objective": None,
        "levels": [[75, 60]],
    }
    pixels(client.get("/iiif/tissue-a/full/^300,/0/default.png"))
    status = client.get("/api/status").json()
    assert status["preset"] == "tiny"
    assert status["device"] == "cpu"
    assert (status["running"], status["queued"], status["error"]) == (0, 0, None)
    assert status["cache_bytes"] > 300 * 240 * 3


def test_the_identity_of_a_slide_is_that_of_its_content(client, viewer):
    (image,) = viewer.catalog
    digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
    assert client.get("/api/identity/tissue-a").json() == {"identity": digest}
    assert client.get("/api/identity/nothing").status_code == 404


def test_the_page_learns_which_pixel_sizes_were_trained(client, viewer):
    assert client.get("/api/status").json()["learned_mpp"] is None
    viewer.learned = LearnedRange((0.25, 5.0), (0.011, 0.32), 1.35)
    assert client.get("/api/status").json()["learned_mpp"] == [0.25, 5.0]


def test_information(client):
    redirected = client.get("/iiif/tissue-a-sr")
    assert redirected.status_code == 303
    assert redirected.headers["location"] == "http://127.0.0.1:8765/iiif/tissue-a-sr/info.json"
    response = client.get("/iiif/tissue-a/info.json", headers={"accept": "*/*"})
    assert response.headers["content-type"] == ('application/ld+json;profile="http://iiif.io/api/image/3/context.json"')
    assert response.json()["id"] == "http://127.0.0.1:8765/iiif/tissue-a"
    assert (response.json()["width"], response.json()["height"]) == (75, 60)
    plain = client.get("/iiif/tissue-a/info.json", headers={"accept": "application/json"})
    assert plain.headers["content-type"] == "application/json"
    for ending in ("-sr", "-bicubic"):
        found = client.get(f"/iiif/tissue-a{ending}/info.json").json()
        assert (found["width"], found["height"]) == (600, 480)
    assert "access-control-allow-origin" not in client.get("/api/images").headers


def test_native_pixels(client):
    found = client.get("/iiif/tissue-a/10,20,50,30/max/0/default.png")
    np.testing.assert_array_equal(pixels(found), PIXELS[20:50, 10:60])
    assert found.headers["x-inferred"] == "false"
    assert "x-preset" not in found.headers
    turned = client.get("/iiif/tissue-a/10,20,50,30/max/270/default.png")
    np.testing.assert_array_equal(pixels(turned), np.rot90(PIXELS[20:50, 10:60]))
    reduced = Image.fromarray(PIXELS).resize((37, 30), Image.Resampling.LANCZOS)
    found = client.get("/iiif/tissue-a/full/37,/0/default.png")
    assert np.abs(pixels(found).astype(int) - np.asarray(reduced)).max() <= 1
    assert found.headers["x-method"] == "resampled"


def test_the_virtual_images_have_the_pixels_of_the_whole_slide(client, weights):
    whole = upscaled(weights, (480, 600))
    found = client.get("/iiif/tissue-a-sr/200,150,256,200/max/0/default.png")
    np.testing.assert_array_equal(pixels(found), whole[150:350, 200:456])
    assert found.headers["x-inferred"] == "true"
    assert found.headers["x-preset"] == "tiny"
    assert found.headers["x-scale"] == "8"
    half = upscaled(weights, (240, 300))
    found = client.get("/iiif/tissue-a-sr/512,0,88,480/44,240/0/default.png")
    np.testing.assert_array_equal(pixels(found), half[:, 256:])
    bicubic = client.get("/iiif/tissue-a-bicubic/200,150,256,200/max/0/default.png")
    assert bicubic.headers["x-inferred"] == "false"
    assert 0 < np.abs(pixels(bicubic).astype(int) - whole[150:350, 200:456]).mean() < 20
    np.testing.assert_array_equal(
        pixels(client.get("/iiif/tissue-a-sr/0,0,400,400/50,50/0/default.png")), PIXELS[:50, :50]
    )


def test_upscaling_is_by_the_network_and_canonical(client, weights):
    found = client.get("/iiif/tissue-a/pct:0,0,100,100/^pct:337/0/color.png")
    assert pixels(found).shape == (202, 253, 3)
    np.testing.assert_array_equal(pixels(found), upscaled(weights, (202, 253)))
    canonical, profile = found.headers["link"].split(", ")
    assert profile == '<http://iiif.io/api/image/3/level2.json>;rel="profile"'
    address = re.fullmatch('<(.+)>;rel="canonical"', canonical)[1]
    assert address == "http://127.0.0.1:8765/iiif/tissue-a/full/^253,202/0/default.png"
    assert client.get(address).content == found.content


def test_formats_and_qualities(client):
    gray = Image.open(io.BytesIO(client.get("/iiif/tissue-a/full/max/0/gray.jpg").content))
    assert (gray.format, gray.mode) == ("JPEG", "L")
    for format, media_type in server.MEDIA_TYPES.items():
        response = client.get(f"/iiif/tissue-a/square/50,/0/default.{format}")
        assert response.headers["content-type"] == media_type
        assert pixels(response).shape == (50, 50, 3)


# --- exact views ------------------------------------------------------------------------------------------------------


def test_a_view_is_at_exactly_the_scale_of_the_screen(client, weights, caplog):
    with caplog.at_level(logging.INFO, "monai_iste.viewer"):
        found = client.get("/api/view/tissue-a", params=VIEW)
    viewport = snap_viewport((60, 75), *VIEW.values())
    whole = upscaled(weights, viewport.size)
    assert viewport.size == (202, 253)
    top, left = viewport.top, viewport.left
    np.testing.assert_array_equal(pixels(found), whole[top : top + 54, left : left + 54])
    x, y, w, h = (float(n) for n in found.headers["x-region"].split(","))
    assert (x, y, w, h) == pytest.approx(viewport.extent((60, 75)), abs=1e-6)
    assert (x, y) == pytest.approx((20.3, 30.1), abs=0.5 / 3.37)
    assert float(found.headers["x-scale"]) == pytest.approx(253 / 75)
    assert found.headers["x-inferred"] == "true"
    assert f"x{253 / 75:.10g} (y {202 / 60:.10g})" in caplog.text


@pytest.mark.parametrize(("method", "inferred"), [("bicubic", "false"), ("native", "false")])
def test_other_methods(client, method, inferred):
    found = client.get("/api/view/tissue-a", params={**VIEW, "method": method, "format": "png"})
    assert pixels(found).shape == (54, 54, 3)
    assert found.headers["x-inferred"] == inferred
    assert found.headers["x-method"] == method


def test_a_view_from_far_away_is_white_around_the_slide(client):
    found = client.get(
        "/api/view/tissue-a", params={"x": -50, "y": -40, "w": 250, "h": 200, "width": 125, "height": 100}
    )
    shown = pixels(found)
    assert (shown[:20] == 255).all()
    assert (shown[:, :25] == 255).all()
    assert shown[20:50, 25:62].mean() < 250
    assert found.headers["x-method"] == "resampled"


def test_consistency(client):
    found = client.get("/api/consistency/tissue-a", params=VIEW)
    overlay = Image.open(io.BytesIO(found.content))
    assert (overlay.mode, overlay.size) == ("RGBA", (54, 54))
    assert 0 < np.asarray(overlay)[..., 3].max() <= 128
    said = re.fullmatch(r"network (\d+\.\d), bicubic (\d+\.\d) levels", found.headers["x-consistency"])
    assert float(said[1]) > float(said[2])
    assert client.get("/api/consistency/tissue-a", params=VIEW).headers["x-consistency"] == said[0]  # from the cache
    outside = client.get("/api/consistency/tissue-a", params={**VIEW, "x": 500.0})
    assert "x-consistency" not in outside.headers


def test_export(client):
    found = client.get("/api/export/tissue-a", params=VIEW)
    assert found.headers["content-disposition"] == 'attachment; filename="tissue-a_sr_x3.373_68_101.png"'
    opened = Image.open(io.BytesIO(found.content))
    assert opened.info["dpi"] == pytest.approx((25_400 / (0.5 * 75 / 253), 25_400 / (0.5 * 60 / 202)), rel=1e-4)
    said = json.loads(opened.text["Provenance"])
    assert (said["preset"], said["weights"], said["inferred"]) == ("tiny", "sha256 0", True)
    assert said["size"] == [202, 253]
    assert "Tissue" not in opened.text["Provenance"]
    assert said["pixels"] == [54, 54]
    view = np.asarray(opened)[:54, :54]
    np.testing.assert_array_equal(view, pixels(client.get("/api/view/tissue-a", params=VIEW)))
    plain = client.get("/api/export/tissue-a", params={**VIEW, "method": "bicubic"})
    assert "preset" not in json.loads(Image.open(io.BytesIO(plain.content)).text["Provenance"])


# --- refusals ---------------------------------------------------------------------------------------------------------


WRONG_VIEWS = [
    {"x": "a"}, {"x": ""}, {"x": None}, {"x": "nan"}, {"x": "inf"}, {"x": "-inf"}, {"x": "1e999"}, {"x": "1" * 50},
    {"w": 0}, {"w": -5}, {"w": "1e-300"}, {"w": 1}, {"h": "nan"}, {"width": 0}, {"width": -1}, {"width": "5.5"},
    {"width": 100_000}, {"width": "1e3"}, {"height": 4096, "width": 4096, "w": 4096, "h": 4096}, {"height": None},
    {"method": "magic"}, {"method": ""}, {"format": "exe"}, {"format": "../png"}, {"token": "a b"}, {"token": "x" * 99},
    {"y": "0x10"}, {"y": "1,5"},
]  # fmt: skip
WRONG_ADDRESSES = [
    ("/iiif/nothing/info.json", 404), ("/iiif/nothing", 404), ("/iiif/nothing-sr/full/max/0/default.jpg", 404),
    ("/iiif/tissue-a/full/max/0/default.tif", 400), ("/iiif/tissue-a/full/max/0/default", 400),
    ("/iiif/tissue-a/full/max/45/default.jpg", 400), ("/iiif/tissue-a/full/max/!0/default.jpg", 400),
    ("/iiif/tissue-a/150,0,10,10/max/0/default.jpg", 400), ("/iiif/tissue-a/0,0,0,0/max/0/default.jpg", 400),
    ("/iiif/tissue-a/full/300,/0/default.jpg", 400), ("/iiif/tissue-a/full/^99999,/0/default.jpg", 400),
    ("/iiif/tissue-a/full/^pct:99999/0/default.jpg", 400), ("/iiif/tissue-a/full/full/0/default.jpg", 400),
    ("/iiif/tissue-a/full/%5E%5Emax/0/default.jpg", 400), ("/iiif/tissue-a/full/max/0", 404),
    ("/iiif/tissue-a/full/max/0/default.jpg/more", 404), ("/iiif/..%2F..%2Fetc%2Fpasswd/info.json", 404),
    ("/iiif/%00/info.json", 404), ("/iiif/" + "x" * 3000 + "/info.json", 404), ("/iiif/tissue-a-sr-sr/info.json", 404),
    ("/iiif/Tissue%20A.png/info.json", 404), ("/api/view/nothing?x=0", 404), ("/api/view/tissue-a-sr?x=0", 404),
    ("/api/export/%2e%2e", 404), ("/static/../server.py", 404), ("/static/%2e%2e/server.py", 404),
    ("/static/..%2f..%2fcli.py", 404), ("/static/", 404), ("/docs", 404), ("/openapi.json", 404),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_VIEWS)
def test_views_that_cannot_be_asked(client, wrong):
    asked = {key: value for key, value in {**VIEW, **wrong}.items() if value is not None}
    for kind in ("view", "consistency", "export"):
        if kind != "view" and set(wrong) & {"format"}:
            continue
        response = client.get(f"/api/{kind}/tissue-a", params=asked)
        assert response.status_code == 400, (kind, response.status_code)
        assert re.fullmatch(r"Expected .+, got .+\. .+\.", response.json()["error"])


@pytest.mark.parametrize(("address", "status"), WRONG_ADDRESSES)
def test_addresses_that_are_none(client, address, status):
    response = client.get(address)
    assert response.status_code == status, response.text
    assert len(response.content) < 500


def test_other_methods_and_hosts_are_refused(client):
    assert client.post("/api/images").status_code == 405
    assert client.delete("/api/requests/a%20b").status_code == 400
    assert client.get("/api/images", headers={"host": "evil.example:8765"}).status_code == 400
    assert client.get("/api/images", headers={"host": "localhost:8765"}).status_code == 200
    assert client.get("/api/images", headers={"host": "[::1]:8765"}).status_code == 200
    assert client.get("/api/images").headers["x-content-type-options"] == "nosniff"


def test_the_path_is_not_resolved_before_it_is_checked(served):
    for path in ("/static/../server.py", "/../../../etc/passwd", "/static/%2e%2e/%2e%2e/cli.py", "//etc/passwd"):
        status, body = fetch(served, path)
        assert status == 404, path
        assert b"import" not in body
