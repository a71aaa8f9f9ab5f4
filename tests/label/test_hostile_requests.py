"""Requests that MONAI Label's server must refuse: 4xx with a sentence, and nothing has changed."""

import hashlib
import json
import random
from urllib.parse import quote, urlencode

import pytest
from label_server import ask, form

pytestmark = pytest.mark.slow

# fmt: off
NAMES = [
    "../", "..", "../app/main", "/etc/passwd", "/tmp/x", "a/b", "a\\b", "..\\x", ".hidden", "tile\x00", "a\nb", " tile",
    "x" * 300, "%2e%2e/x", "../" * 20 + "etc/passwd", "\x1b[2J", ".", "tile/", "a\u202e",
]
FILES = [name for name in NAMES if "\x00" not in name and "\n" not in name and "%" not in name]
FILES += ["main.py", "sitecustomize.py", "a.png.py", "datastore_v2.json", "a.zip", "noending", ".png/..", "a.svs.sh"]
JSON = [
    b"[1]", b"5", b'"a"', b"{", b"[" * 5000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"\xff\xfe", b"nul",
]
CLOSED = [
    "/ohif/index.html", "/ohif/..", "/dicom/wado/x", "/dicom/http:/a", "/model/iste", "/model/info/iste", "/reload",
    "/scoring/dice", "/infer/other?image=tile", "/train/..", "/batch/infer/x", "/logs/?lines=" + "9" * 40, "/nothing",
    "/static/..%2f..%2fapp.py", "/session/..", "/session/..%2f..", "/infer/wsi/iste/x?image=tile",
]
# fmt: on
SETTINGS = [{"bundle_path": "/tmp"}, {"gpus": 3}, {"gpus": "0;reboot"}, {"label_tag": "../"}, {"label_tag": "/tmp"}]
SETTINGS += [{"label_tag": ["a"]}, {"iste": {"bundle_path": "."}}, {"image": "/etc/passwd"}, {"label_tag": ""}]
FORM = "application/x-www-form-urlencoded"
POSTS = ["/infer/wsi/iste?image=tile", "/batch/infer/iste", "/train/iste", "/activelearning/random"]


def hostile_requests(seed=0, count=150):
    """Yield (method, path, body, kind, headers)."""
    draw = random.Random(seed)
    kinds = [foreign, by_query, by_file, by_json, by_setting, by_form, closed, broken_form]
    for number in range(count):
        yield kinds[number % len(kinds)](draw)


def foreign(draw):
    origin = draw.choice(
        ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", "file://"]
    )
    headers = {"Origin": origin}
    if draw.random() < 0.3:
        headers = {"Host": draw.choice(["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "a@127.0.0.1"])}
    elif draw.random() < 0.3:
        headers = {"Sec-Fetch-Site": draw.choice(["cross-site", "same-site"]), "Sec-Fetch-Mode": "no-cors"}
    method, path = draw.choice(
        [
            ("POST", "/train/iste"),
            ("POST", "/batch/infer/iste"),
            ("POST", "/infer/iste?image=tile"),
            ("POST", "/reload"),
            ("DELETE", "/train/"),
            ("DELETE", "/datastore/image?id=tile"),
            ("GET", "/datastore/image?image=tile"),
        ]
    )
    return method, path, b"" if method == "POST" else None, draw.choice(["text/plain", FORM]), headers


def by_query(draw):
    name = quote(draw.choice(NAMES), safe="")
    method, path = draw.choice(
        [
            ("GET", f"/datastore/image?image={name}"),
            ("DELETE", f"/datastore/image?id={name}"),
            ("DELETE", f"/datastore/?id={name}"),
            ("GET", f"/datastore/label?label=tile&tag={name}"),
            ("DELETE", f"/datastore/label?id=tile&tag={name}"),
            ("DELETE", f"/datastore/label?id={name}&tag=original"),
            ("GET", f"/datastore/image/info?image={name}"),
            ("GET", f"/session/{name}"),
            ("DELETE", f"/session/{name}"),
            ("POST", f"/infer/iste?image={name}"),
            ("POST", f"/infer/iste?session_id={name}"),
            ("POST", f"/infer/wsi/iste?image={name}&output=asap"),
            ("POST", f"/activelearning/{name}"),
            ("POST", f"/train/{name}"),
        ]
    )
    return method, path, b"" if method == "POST" else None, FORM if "/infer/iste" in path else "application/json", {}


def by_file(draw):
    file = draw.choice(FILES)
    method, path, field = draw.choice(
        [
            ("PUT", "/datastore/image", "file"),
            ("PUT", "/datastore/image?image=tile", "file"),
            ("PUT", "/datastore/?image=new", "file"),
            ("PUT", "/session/", "files"),
            ("POST", "/infer/iste", "file"),
            ("POST", "/infer/wsi_v2/iste", "file"),
        ]
    )
    body, kind = form({field: (file, b"import os\n")})
    return method, path, body, kind, {}


def by_json(draw):
    return "POST", draw.choice(POSTS), draw.choice(JSON), draw.choice(["application/json", "text/plain"]), {}


def by_setting(draw):
    return "POST", draw.choice(POSTS), json.dumps(draw.choice(SETTINGS)).encode(), "application/json", {}


def by_form(draw):
    content = draw.choice([*JSON, *(json.dumps(setting).encode() for setting in SETTINGS)])
    if draw.random() < 0.5:
        return "POST", "/infer/iste?image=tile", urlencode({"params": content}).encode(), FORM, {}
    body, kind = form({"params": (None, content)})
    return "POST", "/infer/iste?image=tile", body, kind, {}


def closed(draw):
    path = draw.choice(CLOSED)
    method = "POST" if path.startswith(("/infer", "/train", "/batch", "/scoring", "/reload")) else "GET"
    return method, path, b"" if method == "POST" else None, "application/json", {}


def broken_form(draw):
    image = b"\x89PNG\r\n"
    body, kind = form({"file": ("a.png", image)})
    archive, _ = form({"files": ("a.zip", b"PK")})
    return draw.choice(
        [
            ("POST", "/infer/iste?image=tile", body[:40], kind, {}),
            ("POST", "/infer/iste?image=tile", body, "multipart/form-data", {}),
            ("POST", "/infer/iste?image=tile", b"--c" + body, kind, {}),
            ("POST", "/infer/iste", b"", FORM, {}),
            ("POST", "/infer/iste?image=tile&output=exe", b"", FORM, {}),
            ("POST", "/infer/iste?image=tile&output=dicom_seg", b"", FORM, {}),
            ("POST", "/infer/iste?image=tile", *form({"label": ("a.bin", image)}), {}),
            ("POST", "/infer/iste?image=tile", b"params=" + b"x" * 2_000_000, FORM, {}),
            ("PUT", "/session/?uncompress=true", archive, kind, {}),
            ("PUT", "/session/?uncompress=1", archive, kind, {}),
            ("PUT", "/datastore/image?image=../app/main", *form({"file": ("evil.py", image)}), {}),
            ("PUT", "/datastore/label?image=tile&tag=../..", *form({"label": ("a.xml", image)}), {}),
            ("PUT", "/datastore/label?image=unknown", *form({"label": ("a.xml", image)}), {}),
            ("PUT", "/datastore/image/info?image=tile", urlencode({"info": "[1]"}).encode(), FORM, {}),
            ("POST", "/infer/wsi_v2/iste?image=tile", urlencode({"wsi": '{"size": "a"}'}).encode(), FORM, {}),
            ("POST", "/infer/wsi/iste?image=tile", b'{"size": [1, "a"]}', "application/json", {}),
            ("POST", "/infer/wsi/iste?image=tile", b'{"params": {"device": 5}}', "application/json", {}),
            ("POST", "/batch/infer/iste?run_sync=true", b'{"max_workers": "a"}', "application/json", {}),
            ("POST", "/batch/infer/iste?run_sync=true", b'{"images": [5]}', "application/json", {}),
            ("POST", "/activelearning/none", b"{}", "application/json", {}),
            ("HEAD", "/datastore/image?image=tile&check_sum=evil:0", None, FORM, {}),
            ("PATCH", "/train/iste", b"", FORM, {}),
        ]
    )


def contents(folder):
    """Files that no request may change, with their digests; logs and the datastore's records change by themselves."""
    own = ("datastore_v2.json", ".lock", "log.txt", "app.log")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in own]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def sentence_of(response):
    """The one sentence of a refusal; None if there is none."""
    try:
        sentence = json.loads(response.body)["detail"]
        is_one = sentence.startswith("Expected ") and "\n" not in sentence and len(sentence) < 600
        return sentence if is_one else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def test_hostile_requests_are_refused_in_a_sentence_and_change_nothing(server):
    before = contents(server.folder)
    wrong = []
    for method, path, body, kind, headers in hostile_requests():
        response = ask(server, path, body, kind, headers, method)
        sentence = sentence_of(response)
        if method == "HEAD" and 400 <= response.status < 500:
            continue
        if not 400 <= response.status < 500 or sentence is None or str(server.folder) in sentence:
            wrong.append((method, path[:80], (body or b"")[:80], kind, headers, response.status, response.body[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert contents(server.folder) == before
    assert ask(server, "/train/").status == 404  # none was started
    assert ask(server, "/batch/infer").status == 404
    assert "Traceback" not in server.log.read_text()


def test_a_link_among_the_studies_protects_its_original(server, tmp_path):
    original = tmp_path / "original.png"
    original.write_bytes((server.folder / "studies" / "tile.png").read_bytes())
    before = original.read_bytes()
    (server.folder / "studies" / "linked.png").symlink_to(original)
    try:
        body, kind = form({"file": ("linked.png", b"other")})
        assert ask(server, "/datastore/image?image=linked", body, kind, method="PUT").status == 400
        deleted = ask(server, "/datastore/image?id=linked", method="DELETE")
        assert 400 <= deleted.status < 500
    finally:
        (server.folder / "studies" / "linked.png").unlink()
    assert original.read_bytes() == before


def test_an_upload_becomes_a_study_and_can_be_removed(server):
    image = (server.folder / "studies" / "tile.png").read_bytes()
    response = ask(server, "/datastore/image?image=uploaded", *form({"file": ("mine v1.png", image)}), method="PUT")
    assert json.loads(response.body) == {"image": "uploaded"}
    assert (server.folder / "studies" / "uploaded.png").read_bytes() == image
    label = form({"label": ("a.xml", b"<a/>"), "params": (None, b"{}")})
    assert ask(server, "/datastore/label?image=uploaded&tag=final", *label, method="PUT").status == 200
    assert (server.folder / "studies" / "labels" / "final" / "uploaded.xml").is_file()
    session = json.loads(ask(server, "/session/", *form({"files": ("a.png", image)}), method="PUT").body)["session_id"]
    assert ask(server, f"/infer/iste?session_id={session}&output=json", b"", FORM).status == 200
    assert ask(server, f"/session/{session}", method="DELETE").status == 200
    assert ask(server, "/datastore/image?id=uploaded", method="DELETE").status == 200
    assert not (server.folder / "studies" / "uploaded.png").exists()
