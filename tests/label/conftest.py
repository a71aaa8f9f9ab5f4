"""A server of the MONAI Label app, in an environment of its own that MONAI Label needs."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from label_server import TILES, free_port, is_up, wait
from PIL import Image
from slide_files import picture
from written_slides import save

import monai_iste

REPOSITORY = Path(monai_iste.__file__).parent.parent


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    if os.environ.get("LABEL_PYTHON"):
        return os.environ["LABEL_PYTHON"]
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    # One of MONAI Label's packages is built on the spot, with a torch of its own: the constraint makes it this one.
    constraint = folder / "constraint.txt"
    constraint.write_text("torch==2.13.0\n")
    environment = {**os.environ, "PIP_CONSTRAINT": str(constraint), "PIP_BUILD_CONSTRAINT": str(constraint)}
    for words in (["torch==2.13.0"], ["-e", f"{REPOSITORY}[label]"]):
        subprocess.run([found, "-m", "pip", "install", "--quiet", *words], check=True, env=environment)
    return str(found)


@pytest.fixture(scope="module")
def server(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    studies, temporary = folder / "studies", folder / "temporary"
    studies.mkdir()
    temporary.mkdir()
    for name, pixels in TILES.items():
        Image.fromarray(pixels).save(studies / f"{name}.png")
    save(studies / "slide.ome.tiff", picture(300, 700))
    (studies / "work").rmdir()
    (studies / "broken.png").write_bytes(b"no image")
    port = free_port()
    words = [python, "-m", "monai_iste.label", studies, "--port", port, "--app", folder / "app"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            list(map(str, words)), stdout=log, stderr=log, cwd=folder, env={**os.environ, "TMPDIR": str(temporary)}
        )
    found = SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port, folder=folder, process=process)
    found.temporary, found.log = temporary, folder / "log.txt"
    try:
        wait(lambda: process.poll() is not None or is_up(found), 600)
        assert process.poll() is None, found.log.read_text()[-3000:]
        yield found
    finally:
        process.kill()
        process.wait()
