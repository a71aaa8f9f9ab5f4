"""The MONAI Label app without MONAI Label: parameters, results, training, the client, the command."""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from slide_files import picture, write_slide_file
from typer.testing import CliRunner

import monai_iste
from monai_iste.errors import CheckpointError, ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.output_size import OutputSize
from monai_iste.label import client, upscaler
from monai_iste.label.__main__ import arguments, prepare, serve
from monai_iste.label.request import (
    DEFAULT_SCALE,
    SUFFIXES,
    check_region,
    error_response,
    find_image,
    parse_request,
)
from monai_iste.label.training import DEFAULTS, Training, training_options
from monai_iste.label.upscaler import LabelUpscaler
from monai_iste.networks import load_network, released_weights
from monai_iste.networks.weights import read_weights
from monai_iste.viewer.catalog import UnknownImage

# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_request_without_parameters_is_the_whole_image_at_the_default_scale():
    request = parse_request(
        {"model": "iste", "image": "a", "logging": "INFO", "tile_size": [1024, 1024], "save_label": True}
    )
    assert (request.output_size, request.region) == (OutputSize(DEFAULT_SCALE), None)
    assert request.suffix == ".png"


def test_x_before_y_becomes_rows_before_columns():
    request = parse_request(
        {"full_size": [1200, 1000], "location": [30, 7], "size": [50.0, 20], "device": ["cpu", "cuda"]}
    )
    assert request.region == Region(top=7, left=30, height=20, width=50)
    assert request.output_size.size == (1000, 1200)
    assert request.output_size.scale is None
    assert request.device == "cpu"


@pytest.mark.parametrize(("params", "expected"), [({"scale": "3.7"}, (3.7, None)), ({"mpp": 0.25}, (None, 0.25))])
def test_numbers_may_come_as_text(params, expected):
    request = parse_request(params)
    assert (request.output_size.scale, request.output_size.mpp) == expected


@pytest.mark.parametrize("region", [{"size": [0, 0]}, {"location": [0, 0]}, {"location": [0, 0], "size": [0, 0]}])
def test_no_size_is_the_whole_image(region):
    assert parse_request(region).region is None


@pytest.mark.parametrize("ending", ["TIF", ".tif", [".tif", ".png"]])
def test_the_format_with_or_without_dot(ending):
    assert parse_request({"result_extension": ending}).suffix == ".tif"


@pytest.mark.parametrize(
    ("params", "error", "word"),
    [
        ({"scale": 2, "mpp": 0.25}, ConfigError, "one of scale, mpp and full_size"),
        ({"scale": True}, ConfigError, "a number for scale"),
        ({"scale": "large"}, ConfigError, "a number for scale"),
        ({"scale": [2]}, ConfigError, "a number for scale"),
        ({"scael": 2}, ConfigError, "Did you mean 'scale'"),
        ({"locations": [1, 2]}, ConfigError, "Did you mean 'location'"),
        ({"mpp": 0}, ScaleError, "mpp between"),
        ({"input_mpp": float("nan")}, ScaleError, "input_mpp between"),
        ({"level": 1}, ConfigError, "level 0"),
        ({"location": [1, 2, 3]}, ConfigError, "two whole numbers for location"),
        ({"location": [1.5, 2], "size": [5, 5]}, ConfigError, "two whole numbers for location"),
        ({"size": "100x100"}, ConfigError, "two whole numbers for size"),
        ({"size": [float("inf"), 1]}, ConfigError, "two whole numbers for size"),
        ({"location": [5, 5]}, ShapeError, "at least 1 x 1"),
        ({"size": [5, -5]}, ShapeError, "at least 1 x 1"),
        ({"result_extension": ".ome.zarr"}, ConfigError, "a result_extension"),
        ({"result_extension": "../x"}, ConfigError, "a result_extension"),
    ],
)
def test_refused_parameters(params, error, word):
    with pytest.raises(error, match=word):
        parse_request(params)


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 5, 5), (0, -1, 5, 5), (96, 0, 5, 5), (0, 116, 5, 5), (100, 0, 1, 1)],
)
def test_a_region_outside_is_refused_in_the_terms_of_the_client(region):
    with pytest.raises(ShapeError, match=rf"120 x 100 pixels.*location \[{region[1]}, {region[0]}\]"):
        check_region(Region(*region), (100, 120))


def test_a_region_is_cut_on_demand_only_where_something_is_left():
    assert check_region(Region(90, 100, 2048, 2048), (100, 120), crop=True) == Region(90, 100, 10, 20)
    assert check_region(None, (100, 120), crop=True) is None
    with pytest.raises(ShapeError):
        check_region(Region(100, 0, 2048, 2048), (100, 120), crop=True)


# --- which image ------------------------------------------------------------------------------------------------------


@pytest.fixture
def lookup():
    return {"tile": "/studies/tile.png", "a.b": "/studies/a.b.ome.tiff"}.get


@pytest.mark.parametrize(
    ("name", "study"), [("tile", "tile"), ("tile.svs", "tile"), ("a.b", "a.b"), ("a.b.ome.tiff", "a.b")]
)
def test_a_study_by_its_name_or_its_file(lookup, name, study):
    assert find_image(name, lookup) == (study, Path(lookup(study)))


@pytest.mark.parametrize("name", ["", None, "other", "../tile", "/etc/passwd", "/studies/tile.png", "."])
def test_nothing_else_is_opened(lookup, name, tmp_path):
    with pytest.raises(UnknownImage, match="the name of a study"):
        find_image(name, lookup, tmp_path)


def test_what_the_server_was_sent_is_opened(lookup, tmp_path):
    with tempfile.NamedTemporaryFile(suffix=".png") as handle:
        assert find_image(handle.name, lookup) == (None, Path(handle.name))
    with pytest.raises(UnknownImage):
        find_image(handle.name, lookup)  # gone
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "a.png").touch()
    assert find_image(tmp_path / "session" / "a.png", lookup, tmp_path) == (None, tmp_path / "session" / "a.png")
    with pytest.raises(UnknownImage):
        find_image(tmp_path / "session" / "a.png", lookup, tmp_path / "sessions")
    with pytest.raises(UnknownImage):
        find_image(str(tmp_path / "sessions" / ".." / "session" / "a.png"), lookup, tmp_path / "sessions")


@pytest.mark.parametrize(
    ("error", "status"),
    [(UnknownImage, 404), (ShapeError, 400), (DataError, 400), (OutputError, 500), (CheckpointError, 500)],
)
def test_refusals_have_a_status_and_name_no_path(error, status, tmp_path):
    path = tmp_path / "slides" / "a.svs"
    assert error_response(error("a slide", f"{path}, which is a text", "Give it: --input-mpp 0.5."), path, "a") == (
        status,
        "Expected a slide, got a, which is a text. Give it: input_mpp 0.5.",
    )


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def label_upscale(tmp_path, monkeypatch):
    """Files below a temporary folder: (path, **params) -> (pixels, file, record)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    label_upscaler = LabelUpscaler(tmp_path / "model")

    def ask(path, crop=False, **params):
        file, record = label_upscaler.upscale(path, parse_request({"device": "cpu", **params}), path.stem, crop)
        return np.asarray(Image.open(file).convert("RGB")), file, record

    ask.upscaler, ask.results = label_upscaler, tmp_path / "results"
    return ask


def test_an_image_is_what_upscale_makes_of_it(label_upscale, tmp_path):
    tile = picture(40, 50)
    Image.fromarray(tile).save(tmp_path / "tile.png")
    pixels, file, record = label_upscale(tmp_path / "tile.png", scale=2.5)
    assert np.array_equal(pixels, monai_iste.upscale(tile, 2.5, device="cpu"))
    assert file.name.startswith("tile_x2.5_")
    assert file.suffix == ".png"
    assert record["image_size"] == [50, 40]
    assert record["result_size"] == record["full_size"] == [125, 100]
    assert record["mpp"] is None
    assert record["provenance"]["preset"] == "iste_light"
    assert record["provenance"]["weights"].startswith("sha256 ")
    json.dumps(record)


def test_a_region_of_a_slide_is_cut_out_of_the_whole_result(label_upscale, tmp_path):
    pixels = picture(60, 215)  # two windows, which are blended at 192
    slide = write_slide_file(tmp_path / "slide.tif", pixels, mpp=0.5)
    whole = monai_iste.upscale(pixels, 3.7, device="cpu")
    region, file, record = label_upscale(slide, scale=3.7, location=[170, 20], size=[40, 30], result_extension=".tif")
    assert record["result_location"] == [round(170 * 3.7), 20 * 3.7]
    assert record["result_size"] == [148, 111]
    left, top = record["result_location"]
    assert np.array_equal(region, whole[top : top + 111, left : left + 148])
    mpp = 0.5 * 215 / 796, 0.5 * 60 / 222  # (x, y): the result has whole pixels
    assert record["mpp"] == pytest.approx(mpp)
    assert monai_iste.slides.Slide(file).mpp == pytest.approx(mpp[::-1], rel=1e-6)


def test_by_pixel_size_and_by_full_size(label_upscale, tmp_path):
    slide = write_slide_file(tmp_path / "slide.tif", picture(40, 50), mpp=0.5)
    assert label_upscale(slide, mpp=0.2)[0].shape == (100, 125, 3)
    assert label_upscale(slide, full_size=[90, 41])[0].shape == (41, 90, 3)
    with pytest.raises(ScaleError, match=r"at most 0\.5,"):
        label_upscale(slide, mpp=0.6)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(DataError, match="pixel size"):
        label_upscale(tmp_path / "tile.png", mpp=0.2)
    assert label_upscale(tmp_path / "tile.png", mpp=0.2, input_mpp=0.4)[0].shape == (80, 100, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format(label_upscale, tmp_path, suffix):
    if suffix.startswith(".ome"):
        pytest.importorskip("imagecodecs", reason="needs the extra slides")
    slide = write_slide_file(tmp_path / "slide.tif", picture(40, 50), mpp=0.5)
    expected = monai_iste.upscale(picture(40, 50), 1.5, device="cpu")
    _, file, _ = label_upscale(slide, scale=1.5, result_extension=suffix)
    assert file.name.endswith(suffix)
    with monai_iste.slides.Slide(file) as result:
        found = result.read(Region(0, 0, 60, 75))
    error = np.abs(found.astype(int) - expected).mean()
    assert error == 0 if suffix in (".png", ".tif", ".tiff") else error < 6


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"scale": 0}, ScaleError),
        ({"scale": -2}, ScaleError),
        ({"scale": 0.5}, ScaleError),
        ({"scale": 1e9}, ScaleError),
        ({"scale": 17}, ScaleError),
        ({"scale": float("nan")}, ScaleError),
        ({"scale": 2, "location": [40, 0], "size": [20, 20]}, ShapeError),
        ({"scale": 2, "device": "cuda:99"}, ConfigError),
    ],
)
def test_what_cannot_be_leaves_no_file(label_upscale, tmp_path, params, error):
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(error):
        label_upscale(tmp_path / "tile.png", **params)
    assert not list(label_upscale.results.iterdir())


def test_the_size_of_a_result_is_bounded(label_upscale, tmp_path, monkeypatch):
    monkeypatch.setattr(upscaler, "MAX_OUTPUT_PIXELS", 5000)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(ScaleError, match="at most 5,000 pixels, got 100 x 80"):
        label_upscale(tmp_path / "tile.png", scale=2)
    assert label_upscale(tmp_path / "tile.png", scale=2, location=[0, 0], size=[50, 25])[0].shape == (50, 100, 3)


def test_a_failure_halfway_leaves_no_file(label_upscale, tmp_path, monkeypatch):
    def bands(*args):
        yield torch.zeros(3, 16, 100)
        raise DataError("readable pixels", "damage", "Copy it again.")

    monkeypatch.setattr(Tiler, "bands", bands)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(DataError, match="damage"):
        label_upscale(tmp_path / "tile.png", scale=2)
    assert not list(label_upscale.results.iterdir())


def test_the_network_is_loaded_once_and_again_after_a_training(label_upscale, tmp_path):
    Image.fromarray(picture(24, 24)).save(tmp_path / "tile.png")
    released, _ = label_upscale.upscaler.network("cpu")
    before = label_upscale(tmp_path / "tile.png", scale=2)
    assert label_upscale.upscaler.network("cpu")[0] is released
    state = {k: v * 0.9 for k, v in read_weights(released_weights("iste_light")).items()}
    (tmp_path / "model").mkdir()
    torch.save(state, tmp_path / "model" / "model.pt")
    after = label_upscale(tmp_path / "tile.png", scale=2)
    assert after[2]["provenance"]["weights"] != before[2]["provenance"]["weights"]
    network = load_network("iste_light", tmp_path / "model" / "model.pt")
    assert np.array_equal(after[0], monai_iste.upscale(picture(24, 24), 2, model=network))
    assert not np.array_equal(after[0], before[0])


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_starts_from_the_released_weights_by_default():
    options = training_options({"model": "iste", "max_epochs": 3, "val_split": 0.2})
    assert options["pretrained"] == released_weights("iste_light")
    assert options["max_epochs"] == 3
    assert "val_split" not in options
    assert "device" not in options
    options = training_options({"pretrained": False, "device": "cpu"})
    assert "pretrained" not in options
    assert options["device"] == "$torch.device('cpu')"


@pytest.mark.parametrize(
    "request_", [{"max_epochs": 0}, {"batch_size": 2.5}, {"learning_rate": 0}, {"learning_rate": "1e-4"}, {"resume": 1}]
)
def test_refused_training_settings(request_):
    with pytest.raises(ConfigError, match=next(iter(request_))):
        training_options(request_)


def test_training_uses_the_images_that_fit_and_names_the_others(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name, size in (("a.png", (128, 200)), ("b.png", (200, 127)), ("c.png", (300, 300))):
        Image.new("RGB", size).save(studies / name)
    (studies / "d.png").write_bytes(b"no image")
    said = []
    training = Training(tmp_path / "app" / "iste", said.append)
    for _ in range(2):  # created each time
        training.link_images(sorted(studies.iterdir()))
    assert sorted(path.name for path in training.images.iterdir()) == ["a.png", "c.png"]
    assert [line.split(" (")[0] for line in said[:2]] == ["skipped: b.png", "skipped: d.png"]
    assert not any(str(tmp_path) in line for line in said)
    assert training.scores() == {}


def test_training_without_two_images_is_refused_before_it_begins(tmp_path):
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="at least two images"):
        Training(tmp_path / "app" / "iste").run([tmp_path / "a.png"], DEFAULTS)
    with pytest.raises(DataError, match="images"):
        Training(tmp_path / "app" / "iste").run([], DEFAULTS)


# --- the client -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """Fake MONAI Label server that returns a form with parameters and image, and records the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            refused = "unknown" in self.path
            body = (
                b'{"detail": "Expected the name of a study."}'
                if refused
                else b"".join(
                    b'--b\r\nContent-Disposition: form-data; name="%s"\r\nContent-Type: x/y\r\n\r\n%s\r\n' % part
                    for part in ((b"params", b'{"scale": [2, 2]}'), (b"image", b"\x89PNG\r\n\r\n\r\n"))
                )
                + b"--b--\r\n"
            )
            self.send_response(404 if refused else 200)
            self.send_header("Content-Type", "application/json" if refused else "multipart/form-data; boundary=b")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked = asked
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def test_the_client_saves_the_bytes_that_came(server, tmp_path, capsys):
    address, out = f"http://127.0.0.1:{server.server_port}/", tmp_path / "a.ome.tif"
    words = [address, "Slide 1", "--scale", "3.7", "--location", "5", "6", "--size", "7", "8", "--out", str(out)]
    assert client.main(words) == 0
    assert out.read_bytes() == b"\x89PNG\r\n\r\n\r\n"
    assert json.loads(capsys.readouterr().out) == {"scale": [2, 2]}
    path, body = server.asked[-1]
    assert path == "/infer/iste?image=Slide+1"
    sent = body[body.index(b"{") : body.rindex(b"}") + 1]
    assert json.loads(sent) == {"scale": 3.7, "location": [5, 6], "size": [7, 8], "result_extension": ".ome.tif"}
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


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_server_listens_on_this_machine(tmp_path):
    words = arguments(tmp_path / "app", tmp_path / "tiles", "127.0.0.1", 8123)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "8123"
    assert words[-1] == "monai_iste.label.web:loopback"
    assert arguments(tmp_path, tmp_path, "0.0.0.0", 8123)[-1] == "monai_iste.label.web:app"
    prepare(tmp_path / "app")
    (tmp_path / "app" / "main.py").write_text("# mine\n")
    prepare(tmp_path / "app")
    assert (tmp_path / "app" / "main.py").read_text() == "# mine\n"


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the command replaces it
    app = typer.Typer()
    app.command()(serve)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_without_monai_label_one_sentence_names_the_extra(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel", None)
    error = command(tmp_path, "--app", tmp_path / "app").exception
    assert isinstance(error, ConfigError)
    assert "the extra 'label' brings" in str(error)
    assert 'pip install "monai_iste[label]"' in str(error)
    assert not (tmp_path / "app").exists()
    with pytest.raises(ConfigError, match="the extra 'label' brings"):
        _ = monai_iste.label.MyApp
    with pytest.raises(AttributeError, match="YourApp"):
        _ = monai_iste.label.YourApp


def test_the_command_refuses_before_it_makes_anything(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel", types.ModuleType("monailabel"))
    assert isinstance(command(tmp_path / "none", "--app", tmp_path / "app").exception, DataError)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = command(tmp_path, "--app", tmp_path / "app", "--port", taken.getsockname()[1]).exception
    assert isinstance(error, OutputError)
    assert "a free port" in str(error)
    assert not list(tmp_path.iterdir())


def test_the_scripts_for_viewers_travel_with_the_package():
    script = (Path(client.__file__).parent / "clients" / "qupath_upscale.groovy").read_text()
    assert "/infer/iste?image=" in script
