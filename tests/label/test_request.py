"""Parameters of a request to the MONAI Label app, the image that it names, and its refusals."""

import tempfile
from pathlib import Path

import pytest

from monai_iste.errors import CheckpointError, ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize
from monai_iste.label.request import (
    DEFAULT_SCALE,
    check_region,
    error_response,
    find_image,
    parse_request,
)
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
