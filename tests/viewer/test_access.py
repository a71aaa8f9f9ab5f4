"""Which hosts and which pages of other sites may ask the viewer."""

import pytest

from monai_iste.errors import ConfigError
from monai_iste.viewer.access import HostNames, check_host_name, check_origin
from monai_iste.viewer.server import create_app

EVIL = "https://evil.example"
FRIEND = "http://localhost:3000"
PICTURE = "/iiif/tissue-a/full/max/0/default.png"


@pytest.fixture
def open_client(viewer):
    """The viewer, open to one other site."""
    testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")
    with testclient.TestClient(create_app(viewer, origins=[FRIEND]), base_url="http://127.0.0.1:8765") as client:
        yield client


def test_pages_of_other_sites_have_no_access_by_default(client):
    for address in (PICTURE, "/iiif/tissue-a/info.json", "/manifest.json", "/api/images", "/", "/static/viewer.js"):
        for origin in (EVIL, "null", "http://127.0.0.1:3000", "https://localhost:8765.evil.example", "http://["):
            refused = client.get(address, headers={"origin": origin})
            assert refused.status_code == 403, (address, origin)
            assert refused.json()["error"].startswith("Expected a page of this server, got one of ")
            assert "access-control-allow-origin" not in refused.headers
        own = client.get(address, headers={"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"})
        assert own.status_code == 200
        assert "access-control-allow-origin" not in own.headers
    assert "--allow-origin" in client.get(PICTURE, headers={"origin": EVIL}).json()["error"]
    assert "--allow-origin" not in client.get("/api/images", headers={"origin": EVIL}).json()["error"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_inside_other_pages_are_refused_and_links_are_not(client, site):
    assert client.get(PICTURE, headers={"sec-fetch-site": site, "sec-fetch-dest": "image"}).status_code == 403
    frame = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert client.get("/", headers=frame).status_code == 403
    assert client.get("/", headers={**frame, "sec-fetch-dest": "document"}).status_code == 200


def test_headers_of_every_response(client, open_client):
    for address in ("/", "/api/images", PICTURE, "/static/viewer.js", "/none"):
        headers = client.get(address).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert open_client.get(PICTURE).headers["cross-origin-resource-policy"] == "cross-origin"
    assert open_client.get("/api/images").headers["cross-origin-resource-policy"] == "same-origin"


def test_a_named_site_may_read_iiif_and_nothing_else(open_client):
    for address in (PICTURE, "/iiif/tissue-a/info.json", "/iiif/nothing/info.json", "/manifest.json"):
        found = open_client.get(address, headers={"origin": FRIEND, "sec-fetch-site": "same-site"})
        assert found.headers["access-control-allow-origin"] == FRIEND
        assert "X-Scale" in found.headers["access-control-expose-headers"]
        assert "Origin" in found.headers["vary"]
    assert open_client.get(PICTURE, headers={"origin": EVIL}).status_code == 403
    for closed in ("/api/images", "/api/identity/tissue-a", "/manifest.json.js"):
        assert open_client.get(closed, headers={"origin": FRIEND}).status_code in (403, 404)
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "x-token"}
    preflight = open_client.options(PICTURE, headers={"origin": FRIEND, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == FRIEND
    assert "GET" in preflight.headers["access-control-allow-methods"]
    assert open_client.options(PICTURE, headers={"origin": EVIL, **asked}).status_code == 403


def test_every_site_on_request(viewer):
    testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")
    with testclient.TestClient(create_app(viewer, origins=["*"]), base_url="http://127.0.0.1:8765") as client:
        assert client.get(PICTURE, headers={"origin": EVIL}).headers["access-control-allow-origin"] == "*"
        assert client.get(PICTURE, headers={"origin": "null"}).status_code == 200
        assert client.get("/api/images", headers={"origin": EVIL}).status_code == 403
        refused = client.get(PICTURE, headers={"host": "evil.example:8765"})
        assert refused.status_code == 400
        assert "--allow-host" in refused.json()["error"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:3000",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://u@a",
        "http://a:b",
        "**",
        "http://a b",
    ],
)
def test_what_is_no_origin(text):
    with pytest.raises(ConfigError, match="the address of a site"):
        check_origin(text)


def test_hosts():
    own = HostNames("127.0.0.1", ["Slides.Example"])
    assert all(
        host in own for host in ("127.0.0.1", "127.0.0.2:80", "localhost:8765", "slides.example:1", "[::1]:8765")
    )
    wrong = (
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "a@localhost",
        "localhost:x",
        "::1",
    )
    assert not any(host in own for host in (*wrong, "192.168.1.2", "localhost/x", "[::1", "127.1"))
    everywhere = HostNames("0.0.0.0")
    assert all(host in everywhere for host in ("192.168.1.2:8765", "[fe80::1]:8765", "localhost"))
    assert "evil.example" not in everywhere
    for text in ("http://a", "a:80", "", "a b", "x" * 300):
        with pytest.raises(ConfigError, match="a host name"):
            check_host_name(text)
