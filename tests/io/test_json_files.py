"""JSON files that are missing, damaged or of another shape."""

import json

import pytest
from reference import assert_teaches

from monai_iste.errors import DataError
from monai_iste.io.files import CHECKSUMS, read_checksums
from monai_iste.io.json_files import check_shape, read_json, write_json

SHAPE = {
    "name": str,
    "rows": [{"psnr": float, "count": int, "told": bool, "fid": (float, type(None))}],
    "by": {str: int},
}
ROW = {"psnr": 31, "count": 2, "told": True, "fid": None}
VALUE = {"name": "a", "rows": [ROW, {**ROW, "fid": 3.5, "more": [1]}], "by": {"x": 1}, "other": {}}
DAMAGED = {
    "empty": b"",
    "truncated": json.dumps(VALUE).encode()[:-9],
    "zeros, as after a crash": b"\0" * 64,
    "no text": b"\xff\xfe{}",
    "two values": b"{} {}",
    "an editor's comma": b'{"a": 1,}',
    "nested too deeply": b"[" * 100_000,
    "digits without end": b"[" + b"1" * 5000 + b"]",
}
MISFITS = [
    ([], "an object", "[]"),
    (None, "an object", "None"),
    ({**VALUE, "name": 3}, "a text at name", "3"),
    ({key: VALUE[key] for key in ("name", "by")}, "'rows'", "none"),
    ({**VALUE, "rows": []}, "a list of at least one item at rows", "[]"),
    ({**VALUE, "rows": {}}, "a list of at least one item at rows", "{}"),
    ({**VALUE, "rows": [ROW, 3]}, "an object at rows[1]", "3"),
    ({**VALUE, "rows": [{"psnr": 3}]}, "'count' at rows[0]", "none"),
    ({**VALUE, "rows": [{**ROW, "psnr": "31"}]}, "a number at rows[0].psnr", "'31'"),
    ({**VALUE, "rows": [{**ROW, "psnr": True}]}, "a number at rows[0].psnr", "True"),
    ({**VALUE, "rows": [{**ROW, "count": 2.5}]}, "a whole number at rows[0].count", "2.5"),
    ({**VALUE, "rows": [{**ROW, "told": 1}]}, "true or false at rows[0].told", "1"),
    ({**VALUE, "rows": [{**ROW, "fid": "x"}]}, "a number at rows[0].fid", "'x'"),
    ({**VALUE, "by": {"x": 1, "y": []}}, "a whole number at by.y", "[]"),
]


def test_what_was_written_is_read(tmp_path):
    write_json(tmp_path / "a.json", VALUE)
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "a.json", SHAPE) == VALUE
    assert read_json(tmp_path / "b.json", SHAPE) is None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_files(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "a.json", remedy="Measure anew.")
    assert_teaches(caught.value, f"JSON in {tmp_path / 'a.json'}", "a file that is damaged", "Measure anew.")


@pytest.mark.parametrize(("value", "expected", "received"), MISFITS, ids=[misfit[1] for misfit in MISFITS])
def test_files_of_another_shape(value, expected, received, tmp_path):
    write_json(tmp_path / "a.json", value)
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "a.json", SHAPE)
    assert str(caught.value).startswith(
        f"Expected {expected} in {tmp_path / 'a.json'}, got {received}. Restore the file"
    )


def test_a_value_that_fits_is_returned():
    assert check_shape(VALUE, SHAPE, "a.json") is VALUE
    assert check_shape({"a": [True]}, {"a": object}, "a.json") == {"a": [True]}


def test_a_damaged_list_of_checksums_names_the_files_of_its_whole_lines(tmp_path):
    (tmp_path / CHECKSUMS).write_bytes(b"12ab  a.safetensors\n\nffff\n\xff\xfe  b b.safetensors\n34")
    found = read_checksums(tmp_path)
    assert found["a.safetensors"] == "12ab"
    assert set(found) == {"a.safetensors", "b b.safetensors"}
