"""A viewer of one small image: in the tests' process, behind a real server, and with a renderer that waits."""

import socket
import threading

import pytest
from PIL import Image
from tiny_preset import add_tiny_preset, save_tiny_weights
from viewer_requests import PIXELS, until

from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer, create_app


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A preset named tiny, its weights, and an image."""
    add_tiny_preset(monkeypatch)
    (tmp_path / "slides").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "slides" / "Tissue A.png")
    return save_tiny_weights(tmp_path / "tiny.safetensors")


@pytest.fixture
def viewer(weights):
    catalog = Catalog([weights.parent / "slides"], input_mpp=0.5)
    about = {"preset": "tiny", "weights": "sha256 0", "precision": "fp32", "device": "cpu"}
    return Viewer(catalog, Renderer(network_loader("tiny", weights, "cpu", "fp32")), about, max_queued=8)


@pytest.fixture
def client(viewer):
    testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")
    app = create_app(viewer)
    with testclient.TestClient(app, base_url="http://127.0.0.1:8765", follow_redirects=False) as client:
        pool = viewer.responses.network_pool
        until(lambda: pool.running == pool.queued == 0)  # the network is loaded
        yield client


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
