"""The clients of the MONAI Label app, against a server that answers as MONAI Label does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from answering_server import answering

from monai_iste.label import client


def answer(path, body):
    if "unknown" in path:
        return 404, "application/json", b'{"detail": "Expected the name of a study."}'
    parts = ((b"params", b'{"scale": [2, 2]}'), (b"image", b"\x89PNG\r\n\r\n\r\n"))
    form = b'--b\r\nContent-Disposition: form-data; name="%s"\r\nContent-Type: x/y\r\n\r\n%s\r\n'
    return 200, "multipart/form-data; boundary=b", b"".join(form % part for part in parts) + b"--b--\r\n"


@pytest.fixture
def server():
    """Fake MONAI Label server that returns a form with parameters and image, and records the requests."""
    with answering(answer) as http:
        yield http


def test_the_client_saves_the_bytes_that_came(server, tmp_path, capsys):
    address, out = f"http://127.0.0.1:{server.server_port}/", tmp_path / "a.ome.tif"
    words = [address, "Slide 1", "--scale", "3.7", "--location", "5", "6", "--size", "7", "8", "--input-blur", "0.25"]
    words += ["--out", str(out)]
    assert client.main(words) == 0
    assert out.read_bytes() == b"\x89PNG\r\n\r\n\r\n"
    assert json.loads(capsys.readouterr().out) == {"scale": [2, 2]}
    path, body = server.asked[-1]
    assert path == "/infer/iste?image=Slide+1"
    sent = body[body.index(b"{") : body.rindex(b"}") + 1]
    assert json.loads(sent) == {
        **{"scale": 3.7, "location": [5, 6], "size": [7, 8], "input_blur": 0.25, "result_extension": ".ome.tif"}
    }
    assert client.main(words) == 1  # the file is there
    assert "--overwrite" in capsys.readouterr().err
    assert client.main([*words, "--overwrite"]) == 0


def test_the_client_sends_a_file_that_is_here(server, tmp_path):
    (tmp_path / "tile.v2.png").write_bytes(b"pixels\r\n--")
    client.infer(f"http://127.0.0.1:{server.server_port}", str(tmp_path / "tile.v2.png"), {})
    path, body = server.asked[-1]
    assert path == "/infer/iste?"
    assert b'name="file"; filename="tile.v2.png"\r\n\r\npixels\r\n--\r\n' in body


@pytest.mark.parametrize("address", ["here", "unknown", "silent"])
def test_the_client_fails_in_one_sentence(server, tmp_path, capsys, address):
    port = server.server_port
    where = {"here": "127.0.0.1:80000/x", "unknown": f"http://127.0.0.1:{port}", "silent": "http://127.0.0.1:1"}[
        address
    ]
    assert client.main([where, "unknown", "--out", str(tmp_path / "a.png")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert address != "unknown" or said == "error: Expected the name of a study.\n"
    assert not list(tmp_path.iterdir())


def test_the_client_runs_where_nothing_is_installed(tmp_path):
    copy = tmp_path / "client.py"
    copy.write_bytes(Path(client.__file__).read_bytes())
    result = subprocess.run([sys.executable, "-I", "-S", copy, "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--location" in result.stdout


def test_the_scripts_for_viewers_travel_with_the_package():
    script = (Path(client.__file__).parent / "clients" / "qupath_upscale.groovy").read_text()
    assert "/infer/iste?image=" in script
