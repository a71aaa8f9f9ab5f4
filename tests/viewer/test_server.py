"""The viewer over HTTP: addresses, headers, refusals, order of requests, and the command that starts it."""

import http.client
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.torch
import torch
import typer
from PIL import Image
from slide_files import picture
from typer.testing import CliRunner

import monai_iste
from monai_iste.cli import view as command
from monai_iste.cli.options import sentences
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.functional import upscale_bands
from monai_iste.networks import PRESETS, EDSREncoder, create_iste, presets
from monai_iste.viewer import server
from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer, create_app
from monai_iste.viewer.sockets import is_loopback
from monai_iste.viewer.viewport import snap_viewport

testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")

PIXELS = picture(60, 75)
VIEW = {"x": 20.3, "y": 30.1, "w": 16.0, "h": 16.0, "width": 54, "height": 54}  # x3.37


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A preset named tiny, its weights, and an image."""
    arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
    monkeypatch.setitem(PRESETS, "tiny", presets.Preset("for tests", lambda: EDSREncoder(8, 1), arguments))
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(create_iste("tiny").state_dict(), path)
    (tmp_path / "slides").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "slides" / "Tissue A.png")
    return path


@pytest.fixture
def viewer(weights):
    catalog = Catalog([weights.parent / "slides"], input_mpp=0.5)
    about = {"preset": "tiny", "weights": "sha256 0", "precision": "fp32", "device": "cpu"}
    return Viewer(catalog, Renderer(network_loader("tiny", weights, "cpu", "fp32")), about, max_queued=8)


@pytest.fixture
def client(viewer):
    app = create_app(viewer)
    with testclient.TestClient(app, base_url="http://127.0.0.1:8765", follow_redirects=False) as client:
        pool = viewer.responses.network_pool
        until(lambda: pool.running == pool.queued == 0)  # the network is loaded
        yield client


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pixels(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def upscaled(weights, size):
    lr = torch.from_numpy(PIXELS).permute(2, 0, 1)
    bands = list(upscale_bands(lr, monai_iste.load("tiny", weights), size))
    return torch.cat(bands, dim=1).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


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
        "objective": None,
        "levels": [[75, 60]],
    }
    pixels(client.get("/iiif/tissue-a/full/^300,/0/default.png"))
    status = client.get("/api/status").json()
    assert status["preset"] == "tiny"
    assert status["device"] == "cpu"
    assert (status["running"], status["queued"], status["error"]) == (0, 0, None)
    assert status["cache_bytes"] > 300 * 240 * 3


def test_information(client):
    redirected = client.get("/iiif/tissue-a-sr")
    assert redirected.status_code == 303
    assert redirected.headers["location"] == "http://127.0.0.1:8765/iiif/tissue-a-sr/info.json"
    response = client.get("/iiif/tissue-a/info.json", headers={"accept": "*/*"})
    assert response.headers["content-type"] == ('application/ld+json;profile="http://iiif.io/api/image/3/context.json"')
    assert response.headers["access-control-allow-origin"] == "*"
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


def test_a_browser_with_a_current_copy_gets_not_modified(client, viewer):
    address = "/iiif/tissue-a-sr/0,0,64,64/max/0/default.png"
    first = client.get(address)
    assert "no-cache" in first.headers["cache-control"]
    other = client.get(
        "/iiif/tissue-a-sr/0,0,65,64/max/0/default.png", headers={"if-none-match": first.headers["etag"]}
    )
    assert other.status_code == 200
    viewer.renderer.render = None  # nothing is computed again
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(address).content == first.content


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
    assert np.asarray(overlay)[..., 3].max() > 0


def test_export(client):
    found = client.get("/api/export/tissue-a", params=VIEW)
    assert found.headers["content-disposition"] == 'attachment; filename="tissue-a_sr_x3.373_68_101.png"'
    opened = Image.open(io.BytesIO(found.content))
    assert opened.info["dpi"] == pytest.approx((25_400 / (0.5 * 75 / 253), 25_400 / (0.5 * 60 / 202)), rel=1e-4)
    said = json.loads(opened.text["Provenance"])
    assert (said["preset"], said["weights"], said["inferred"]) == ("tiny", "sha256 0", True)
    assert said["size"] == [202, 253]
    assert "Tissue" not in opened.text["Provenance"]
    np.testing.assert_array_equal(np.asarray(opened), pixels(client.get("/api/view/tissue-a", params=VIEW)))
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


def test_a_network_that_cannot_be_loaded_leaves_the_slides(weights):
    weights.write_bytes(b"damaged")
    catalog = Catalog([weights.parent / "slides"])
    about = {"preset": "tiny", "weights": "sha256 0", "precision": "fp32", "device": "cpu"}
    app = create_app(Viewer(catalog, Renderer(network_loader("tiny", weights, "cpu", "fp32")), about))
    with testclient.TestClient(app, base_url="http://localhost") as client:
        assert pixels(client.get("/iiif/tissue-a/full/max/0/default.png")).shape == (60, 75, 3)
        deadline = time.monotonic() + 10
        while client.get("/api/status").json()["error"] is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "tiny.safetensors" in client.get("/api/status").json()["error"]
        refused = client.get("/api/view/tissue-a", params=VIEW)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers


# --- turns ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(viewer):
    """The renderer waits for an event, and checks regularly whether it is cancelled."""
    gate, render = threading.Event(), viewer.renderer.render

    def wait(image, viewport, method, check_cancelled=lambda: None):
        while method == "sr" and viewport.is_upscaled(image.size) and not gate.wait(0.01):
            check_cancelled()
        return render(image, viewport, method, check_cancelled)

    viewer.renderer.render = wait
    yield gate
    gate.set()


@contextmanager
def clients(gate):
    """Clients in separate threads; they are always released in the end."""
    with ThreadPoolExecutor(16) as pool:
        try:
            yield pool
        finally:
            gate.set()


def test_newer_views_overtake_older_ones(client, viewer, slow):
    with clients(slow) as pool:

        def ask(x, token):
            return pool.submit(client.get, "/api/view/tissue-a", params={**VIEW, "x": x, "token": token})

        first = ask(1, "page-1")
        until(lambda: viewer.responses.network_pool.running == 1)
        second, other = ask(2, "page-2"), ask(3, "another-1")
        until(lambda: viewer.responses.network_pool.queued + viewer.responses.network_pool.running == 2)
        assert first.result(10).status_code == 409
        beside = client.get("/api/view/tissue-a", params={**VIEW, "method": "bicubic", "token": "page-2"})
        assert beside.status_code == 200  # the other half of a comparison
        assert client.delete("/api/requests/another-1").json() == {"cancelled": 1}
        assert other.result(10).status_code == 409
        slow.set()
        assert second.result(10).status_code == 200


def test_when_too_much_waits(client, viewer, slow):
    with clients(slow) as pool:

        def ask(x):
            return pool.submit(client.get, "/api/view/tissue-a", params={**VIEW, "x": x, "token": f"page{x}-1"})

        asked = [ask(0)]
        until(lambda: viewer.responses.network_pool.running == 1)
        asked += [ask(x) for x in range(1, 9)]
        until(lambda: viewer.responses.network_pool.queued == 8)
        refused = client.get("/api/view/tissue-a", params={**VIEW, "x": 99})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/api/status").json()["queued"] == 8
        assert pixels(client.get("/iiif/tissue-a/full/max/0/default.png")).shape == (60, 75, 3)  # not behind them
        assert sum(client.delete(f"/api/requests/page{x}-1").json()["cancelled"] for x in range(1, 9)) == 8
        slow.set()
        assert sorted(one.result(10).status_code for one in asked) == [200] + 8 * [409]


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def served(viewer):
    """The viewer behind a real server: its port."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra viewer")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(create_app(viewer), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: running.started)
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join(10)


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_work_stops_when_the_client_has_gone(served, viewer, slow):
    path = "/api/view/tissue-a?" + "&".join(f"{key}={value}" for key, value in VIEW.items())
    with socket.create_connection(("127.0.0.1", served)) as gone:
        gone.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        until(lambda: viewer.responses.network_pool.running == 1)
    until(lambda: viewer.responses.network_pool.running == 0)


def test_the_path_is_not_resolved_before_it_is_checked(served):
    for path in ("/static/../server.py", "/../../../etc/passwd", "/static/%2e%2e/%2e%2e/cli.py", "//etc/passwd"):
        status, body = fetch(served, path)
        assert status == 404, path
        assert b"import" not in body


@pytest.mark.slow
def test_twenty_clients_at_once(served, viewer):
    """Every request succeeds, and the caches stay within their limits."""
    viewer.renderer.cache.limit = 4_000_000
    viewer.responses.network_pool.max_queued = 64
    generator = np.random.default_rng(0)

    def one(seed):
        responses = []
        for step in range(5):
            x, y, scale = *generator.uniform(0, 80, 2), generator.uniform(1, 12)
            w = 256 / scale
            responses.append(
                fetch(served, f"/api/view/tissue-a?x={x}&y={y}&w={w}&h={w}&width=256&height=256&token=c{seed}-{step}")
            )
        return responses

    before = _resident()
    with ThreadPoolExecutor(20) as pool:
        responses = [response for found in pool.map(one, range(20)) for response in found]
    assert [status for status, _ in responses] == [200] * 100
    assert all(Image.open(io.BytesIO(body)).size == (256, 256) for _, body in responses)
    assert viewer.renderer.cache.nbytes <= 4_000_000
    assert _resident() - before < 400e6


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(sentences()(command.view))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "kind", "word"),
    [
        (["missing.svs"], DataError, "missing.svs"),
        (["{slides}", "--preset", "huge"], ConfigError, "huge"),
        (["{slides}", "--preset", "tiny"], ConfigError, "tiny"),
        (["{slides}", "--preset", "tiny", "--weights", "none.pt"], ConfigError, "none.pt"),
        (["{slides}", "--precision", "fp8"], ConfigError, "fp8"),
        (["{slides}", "--host", "203.0.113.7"], OutputError, "203.0.113.7"),
        (["{slides}", "--host", ""], OutputError, "127.0.0.1"),
        (["{slides}", "--host", "\u00e9" * 70], OutputError, "\u00e9"),
        (["{slides}", "--device", "warp"], ConfigError, "'warp'"),
    ],
)
def test_what_the_command_refuses(weights, arguments, kind, word):
    result = run(*(argument.replace("{slides}", str(weights.parent / "slides")) for argument in arguments))
    assert result.exit_code == kind.exit_code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Expected ")
    assert word in last


def test_a_port_that_is_taken(weights):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run(weights.parent / "slides", "--port", other.getsockname()[1])
    assert result.exit_code == OutputError.exit_code
    assert "--port 0" in result.stderr


def test_without_the_extra_the_error_names_the_command(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run(weights.parent / "slides")
    assert result.exit_code == ConfigError.exit_code
    assert 'pip install "monai_iste[viewer]"' in result.stderr


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_are_this_machine_alone(host, loopback):
    assert is_loopback(host) == loopback


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(weights):
    code = (
        "import typer; from monai_iste.cli.options import sentences; from monai_iste.cli.view import view; "
        "app = typer.Typer(); app.command()(sentences()(view)); app()"
    )
    arguments = [str(weights.parent / "slides"), "--port", "0", "--no-browser"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        port = int(re.search(r"1 image at http://127\.0\.0\.1:(\d+)/", said)[1])
        status, body = fetch(port, "/iiif/tissue-a/full/max/0/default.png")
        assert status == 200
        assert Image.open(io.BytesIO(body)).size == (75, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
