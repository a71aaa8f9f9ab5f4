"""Responses of the viewer: from the browser's copy, in turn, cancelled, and of a server under load."""

import io
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from viewer_requests import VIEW, fetch, pixels, until

from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer, create_app

testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")


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


@pytest.mark.parametrize(
    "address", ["/iiif/tissue-a-sr/0,0,64,64/max/0/default.png", "/iiif/tissue-a/0,0,64,60/max/0/default.png"]
)
def test_a_slide_that_was_replaced_under_its_old_date_is_shown(client, viewer, address):
    image = viewer.catalog["tissue-a"]
    first, stat = client.get(address), os.stat(image.path)
    assert client.get(address, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    with Image.open(image.path) as old:
        turned = old.rotate(180)
    turned.save(image.path)
    os.utime(image.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 200
    assert again.headers["etag"] != first.headers["etag"]
    assert (pixels(again) != pixels(first)).any()
    assert client.get(address).content == again.content
    old.resize((40, 30)).save(image.path)
    assert client.get("/iiif/tissue-a/info.json").json()["width"] == 40
    image.path.unlink()
    removed = client.get(address)
    assert removed.status_code == 404
    assert "Tissue A.png, which the viewer shows, got none: it was removed" in removed.json()["error"]


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


def test_work_stops_when_the_client_has_gone(served, viewer, slow):
    path = "/api/view/tissue-a?" + "&".join(f"{key}={value}" for key, value in VIEW.items())
    with socket.create_connection(("127.0.0.1", served)) as gone:
        gone.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        until(lambda: viewer.responses.network_pool.running == 1)
    until(lambda: viewer.responses.network_pool.running == 0)


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
