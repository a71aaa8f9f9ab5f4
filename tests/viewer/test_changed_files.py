"""Files that are removed or replaced while the viewer shows them."""

import numpy as np
from PIL import Image
from viewer_requests import PIXELS, VIEW, pixels

NATIVE = "/iiif/tissue-a/full/max/0/default.png"


def during(viewer, act):
    """Call ``act`` in the middle of the next rendering."""
    render = viewer.renderer.render

    def changed(*arguments):
        viewer.renderer.render = render
        found = render(*arguments)
        act()
        return found

    viewer.renderer.render = changed


def test_a_file_that_is_replaced_during_a_view_is_asked_for_again(client, viewer):
    image = viewer.catalog["tissue-a"]
    during(viewer, lambda: Image.fromarray(255 - PIXELS).save(image.path))
    refused = client.get(NATIVE)
    assert refused.status_code == 409
    assert refused.json()["error"].endswith("got a replaced file. Ask again.")
    assert np.array_equal(pixels(client.get(NATIVE)), 255 - PIXELS)


def test_a_file_that_is_removed_during_a_view(client, viewer, caplog):
    image = viewer.catalog["tissue-a"]
    during(viewer, image.path.unlink)
    for address in ("/api/view/tissue-a", "/api/export/tissue-a", "/api/consistency/tissue-a"):
        refused = client.get(address, params=VIEW)
        assert refused.status_code == 404
        assert "removed" in refused.json()["error"]
        assert str(image.path.parent) not in refused.text
    assert client.get("/api/images").status_code == 200
    assert "Traceback" not in caplog.text


def test_a_file_that_is_replaced_by_something_else(client, viewer):
    image = viewer.catalog["tissue-a"]
    image.path.write_bytes(b"no image")
    refused = client.get(NATIVE)
    assert refused.status_code == 409
    assert "a readable Tissue A.png" in refused.json()["error"]
    assert str(image.path.parent) not in refused.text
    Image.fromarray(PIXELS).save(image.path)
    assert np.array_equal(pixels(client.get(NATIVE)), PIXELS)
