"""The script for QuPath, run by Groovy with stand-ins for QuPath's and JavaFX's classes.

It needs ``groovy`` (``apt-get install groovy``) and Java; ``GROOVY`` names another program.
"""

import json
import os
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from answering_server import answering

from monai_iste.label import client

pytestmark = pytest.mark.slow

SCRIPT = Path(client.__file__).parent / "clients" / "qupath_upscale.groovy"
PNG = b"\x89PNG\r\n\x1a\npixels"

JAVAFX = {
    "javafx/application/Platform.groovy": "class Platform { static void runLater(Closure it) { it() } }",
    "javafx/scene/Scene.groovy": "class Scene { Scene(Object node, int w, int h) {} }",
    "javafx/scene/control/ScrollPane.groovy": "class ScrollPane { ScrollPane(Object node) {} }",
    "javafx/scene/image/Image.groovy": "class Image { Image(String address) { println 'shown ' + address } }",
    "javafx/scene/image/ImageView.groovy": "class ImageView { ImageView(Object image) {} }",
    "javafx/stage/Stage.groovy": """class Stage {
        void setTitle(String it) { println 'title ' + it }
        void setScene(Object it) {}
        void show() {}
    }""",
}
# A slide of 700 x 300 pixels; a selection that reaches beyond its left and lower border, or the viewer's view.
QUPATH = """
class Roi { double getBoundsX() { -3.5 }; double getBoundsY() { 280.2 }; double getBoundsWidth() { 20 }
            double getBoundsHeight() { 40 } }
class View { def getDisplayedRegionShape() { new java.awt.Rectangle(100, 50, 60, 40) } }
class Slide { def getURIs() { [new URI('file:/slides/a%20slide.svs')] }; int getWidth() { 700 }
              int getHeight() { 300 } }
abstract class QuPathScript extends Script {
    def getCurrentServer() { new Slide() }
    def getSelectedROI() { System.getenv('SELECTED') ? new Roi() : null }
    def getCurrentViewer() { new View() }
}
"""


@pytest.fixture
def server():
    def answer(path, body):
        return (404, "", b'{"detail": "Expected the name of a study."}') if b"unknown" in body else (200, "", PNG)

    with answering(answer) as http:
        yield http


@pytest.mark.parametrize(
    ("selected", "location", "size"),
    [("", [100, 50], [60, 40]), ("yes", [0, 280], [17, 20])],
    ids=["view", "selection"],
)
def test_the_script_sends_the_region_and_shows_what_comes(server, tmp_path, selected, location, size):
    groovy = os.environ.get("GROOVY") or shutil.which("groovy")
    if groovy is None:
        pytest.skip("needs groovy, or GROOVY, the path of it")
    for name, text in JAVAFX.items():
        path = tmp_path / "standins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"package {'.'.join(name.split('/')[:-1])}\n{text}\n")
    (tmp_path / "standins" / "QuPathScript.groovy").write_text(QUPATH)
    script = tmp_path / "script.groovy"
    script.write_text(SCRIPT.read_text().replace("http://127.0.0.1:8000", f"http://127.0.0.1:{server.server_port}"))
    java = {} if os.environ.get("JAVA_HOME") else {"JAVA_HOME": str(Path(shutil.which("java")).resolve().parents[1])}
    done = subprocess.run(
        [groovy, "-cp", tmp_path / "standins", "-b", "QuPathScript", script],
        capture_output=True,
        text=True,
        env={**os.environ, **java, "SELECTED": selected, "JAVA_OPTS": f"-Djava.io.tmpdir={tmp_path}"},
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ((path, body),) = server.asked
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(path).query) == {"image": ["a slide.svs"], "output": ["image"]}
    sent = json.loads(urllib.parse.parse_qs(body.decode())["params"][0])
    assert sent == {"scale": 3.7, "location": location, "size": size, "result_extension": ".png"}
    (written,) = tmp_path.glob("a slide.svs_x3.7_*.png")
    assert written.read_bytes() == PNG
    assert f"shown {written.as_uri()}".replace("file:///", "file:/") in done.stdout.replace("file:///", "file:/")
    assert "title a slide.svs x3.7 (inferred, not measured)" in done.stdout
