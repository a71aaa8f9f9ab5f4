"""Mirador, on another port, opens ``/manifest.json`` of a folder. ``MIRADOR`` names its file ``mirador.min.js``."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from browser import drive, in_a_browser, serving
from PIL import Image
from slide_files import picture, write_slide_file

HERE = Path(__file__).parent
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mirador</title>
<div id="mirador" style="position: absolute; inset: 0"></div><script src="mirador.min.js"></script>
<script>
  Mirador.viewer({
    id: "mirador",
    window: { sideBarOpen: true, defaultSideBarPanel: "layers", panels: { layers: true } },
    windows: [{ manifestId: "%s/manifest.json", thumbnailNavigationPosition: "far-bottom" }],
  });
</script></html>"""


@pytest.fixture
def site(tmp_path):
    """A web site of its own: (folder, address)."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@in_a_browser
@pytest.mark.skipif("MIRADOR" not in os.environ, reason="Mirador is not installed; MIRADOR names mirador.min.js")
def test_mirador_opens_a_folder(site, tmp_path_factory):
    folder, address = site
    slides, out = tmp_path_factory.mktemp("slides"), tmp_path_factory.mktemp("screenshots")
    for name in ("A.tif", "B.tif"):
        write_slide_file(slides / name, picture(700, 900), mpp=0.5)
    shutil.copy(os.environ["MIRADOR"], folder / "mirador.min.js")
    with serving(slides, options=("--allow-origin", address)) as server:
        (folder / "index.html").write_text(PAGE % server[0])
        found = drive(HERE / "viewer_mirador.mjs", server, out, page=f"{address}/index.html")
    print(f"screenshot in {out}")
    left, top, width, height = (round(found["box"][side]) for side in ("x", "y", "width", "height"))
    with Image.open(out / "mirador.png") as screen:
        shown = np.asarray(screen.convert("RGB").crop((left, top, left + width, top + height))).reshape(-1, 3)
    brown = (shown[:, 0] > shown[:, 2].astype(int) + 40).mean()  # the stain of the sample, which Mirador has nowhere
    assert brown > 0.1
    assert found["refused"] == []
    assert ["/manifest.json", 200] in found["asked"]
    assert {status for _, status in found["asked"]} <= {200, 304}
    assert any(path.startswith("/iiif/a/") and path.endswith(".jpg") for path, _ in found["asked"])
    assert "Slides" in found["text"]
    for label in ("The slide's own pixels", "Super-resolved: inferred, not for diagnosis", "Bicubic interpolation"):
        assert label in found["text"]
