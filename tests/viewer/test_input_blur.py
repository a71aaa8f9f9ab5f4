"""The viewer with a blur that the network was told: pixels, caches, addresses of copies, exports, refusals."""

import io
import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from told_preset import add_told_preset, save_told_weights, told_network
from typer.testing import CliRunner
from viewer_requests import PIXELS, VIEW, pixels, until

from monai_iste.cli import view as command
from monai_iste.cli.options import sentences
from monai_iste.errors import ConfigError
from monai_iste.functional import upscale
from monai_iste.io.byte_cache import ByteCache
from monai_iste.networks.caching import CachingEncoder
from monai_iste.slides import network_provenance
from monai_iste.viewer.catalog import Catalog, CatalogImage
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer, create_app
from monai_iste.viewer.viewport import Viewport

SIZE = (202, 253)  # of the whole slide, at the scale of VIEW
BLURS = (None, 0.0, 0.4)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A preset that can be told, its weights, and an image."""
    add_told_preset(monkeypatch)
    (tmp_path / "slides").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "slides" / "Tissue A.png")
    return save_told_weights(tmp_path / "told.safetensors")


def renderer(weights, blur, precision="fp32"):
    return Renderer(network_loader("told", weights, "cpu", precision, input_blur=blur))


def whole(weights, blur):
    image = CatalogImage("a", weights.parent / "slides" / "Tissue A.png")
    return renderer(weights, blur).render(image, Viewport(SIZE, 0, 0, *SIZE), "sr")


def test_the_pixels_are_those_of_upscale(told):
    found = {blur: whole(told, blur) for blur in BLURS}
    for blur in BLURS:
        expected = upscale(PIXELS, size=SIZE, model=told_network(), input_blur=blur)
        np.testing.assert_array_equal(found[blur], expected)
    assert np.abs(found[None].astype(int) - found[0.0]).mean() > 1
    assert np.abs(found[0.4].astype(int) - found[0.0]).mean() > 1


def test_in_half_precision_too(told):
    image = CatalogImage("a", told.parent / "slides" / "Tissue A.png")
    found = {
        blur: renderer(told, blur, "bf16").render(image, Viewport(SIZE, 0, 0, *SIZE), "sr").astype(int)
        for blur in (None, 0.4)
    }
    gap = np.abs(found[None] - found[0.4]).mean()
    assert gap > 1
    assert np.abs(found[0.4] - whole(told, 0.4)).mean() < gap / 2


def test_features_of_one_blur_are_not_taken_for_another():
    """Two networks of the same layers share the cache."""
    network, image = told_network(), torch.rand(1, 3, 20, 24)
    expected = {blur: network.with_input_blur(blur)(image, scale=2) for blur in (*BLURS, 0.0)}
    encoder = network.encoder
    network.encoder = CachingEncoder(encoder, 10**8)
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        for blur in BLURS:
            torch.testing.assert_close(network.with_input_blur(blur)(image, scale=2), expected[blur], rtol=0, atol=0)
    assert len(calls) == len(BLURS)  # the second time all of them come from the cache


def test_a_cache_that_two_renderers_share_keeps_their_features_apart(told):
    cache = ByteCache(10**8)
    image, view = CatalogImage("a", told.parent / "slides" / "Tissue A.png"), Viewport(SIZE, 0, 0, *SIZE)
    for blur in BLURS:
        one = renderer(told, blur)
        one.network.encoder.cache = cache
        np.testing.assert_array_equal(one.render(image, view, "sr"), whole(told, blur))


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clients(told):
    """A client of one viewer for each blur."""
    testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")
    opened = {}
    for blur in BLURS:
        about = {**network_provenance("told", told, input_blur=blur), "device": "cpu"}
        viewer = Viewer(Catalog([told.parent / "slides"], input_mpp=0.5), renderer(told, blur), about)
        client = testclient.TestClient(create_app(viewer), base_url="http://127.0.0.1:8765")
        client.__enter__()
        until(lambda pool=viewer.responses.network_pool: pool.running == pool.queued == 0)
        opened[blur] = client
    yield opened
    for client in opened.values():
        client.__exit__(None, None, None)


def test_a_browsers_copy_is_that_of_its_blur(clients):
    address = "/iiif/tissue-a-sr/0,0,64,64/max/0/default.png"
    first = {blur: client.get(address) for blur, client in clients.items()}
    assert len({response.headers["etag"] for response in first.values()}) == len(BLURS)
    assert len({pixels(response).tobytes() for response in first.values()}) == len(BLURS)
    stale = {"if-none-match": first[None].headers["etag"]}
    assert clients[None].get(address, headers=stale).status_code == 304
    assert clients[0.0].get(address, headers=stale).content == first[0.0].content
    assert clients[0.4].get(address, headers=stale).content == first[0.4].content


def test_the_status_states_the_blur(clients):
    stated = {blur: client.get("/api/status").json()["input_blur"] for blur, client in clients.items()}
    assert stated == {blur: None if blur is None else str(blur) for blur in BLURS}


def test_an_export_states_the_blur(clients):
    views = set()
    for blur, client in clients.items():
        opened = Image.open(io.BytesIO(client.get("/api/export/tissue-a", params=VIEW).content))
        said = json.loads(opened.text["Provenance"])
        assert said.get("input_blur") == (None if blur is None else str(blur))
        assert (said["preset"], said["precision"], said["inferred"]) == ("told", "fp32", True)
        assert "device" not in said
        views.add(np.asarray(opened)[:54, :54].tobytes())
        plain = client.get("/api/export/tissue-a", params={**VIEW, "method": "bicubic"})
        assert "input_blur" not in json.loads(Image.open(io.BytesIO(plain.content)).text["Provenance"])
    assert len(views) == len(BLURS)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--input-blur", "-0.1"), "an input_blur of at least 0 pixels, got -0.1"),
        (("--input-blur", "nan"), "an input_blur of at least 0 pixels, got nan"),
        (("--input-blur", "inf"), "an input_blur of at least 0 pixels, got inf"),
        (("--input-blur", "0.3", "--preset", "iste_light"), "a network that can be told the blur of its input"),
        (("--input-blur", "0.3", "--preset", "iste_small"), "a network that can be told the blur of its input"),
        (("--input-blur", "0.8", "--preset", "iste_light2"), "an input_blur from 0 to 0.55 pixels, as learned"),
    ],
)
def test_what_the_command_refuses_before_it_serves(arguments, words, told, monkeypatch):
    pytest.importorskip("uvicorn", reason="needs the extra viewer")

    def serve(*_):
        raise AssertionError("it serves")

    monkeypatch.setattr(command, "listen", serve)
    if "--preset" not in arguments:
        arguments = (*arguments, "--preset", "told", "--weights", told)
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(sentences()(command.view))
    result = CliRunner().invoke(app, [str(word) for word in (told.parent / "slides", "--no-browser", *arguments)])
    assert result.exit_code == ConfigError.exit_code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Expected ")
    assert words in last


def test_the_command_tells_its_network(told, monkeypatch):
    """Up to the moment at which it would listen."""
    pytest.importorskip("uvicorn", reason="needs the extra viewer")
    made = []

    def keep(viewer, *_):
        made.append(viewer)
        raise ConfigError("nothing more", "the viewer", "Look at it.")

    monkeypatch.setattr("monai_iste.viewer.server.create_app", keep)
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(sentences()(command.view))
    words = (told.parent / "slides", "--preset", "told", "--weights", told, "--input-blur", "0.4", "--device", "cpu")
    CliRunner().invoke(app, [str(word) for word in words])
    (viewer,) = made
    assert viewer.network_info["input_blur"] == "0.4"
    assert viewer.renderer.network.input_blur == 0.4
