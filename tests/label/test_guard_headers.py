"""Bodies without the header Content-Type, as QuPath's extension sends them."""

import asyncio
import json

import pytest

from monai_iste.label.guard import RequestGuard


def handed_on(headers, body, path="/infer/wsi/iste"):
    """Return the headers and the body that the server behind the guard gets, or the status of a refusal."""
    found, sent = {}, []

    async def app(scope, receive, send):
        found.update(headers=dict(scope["headers"]), body=(await receive())["body"])

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"image=a", "headers": headers}
    asyncio.run(RequestGuard(app, ("iste",), False)(scope, receive, send))
    return found or sent[0]["status"]


def test_json_without_a_header_gets_it():
    body = json.dumps({"location": [1, 2], "size": [3, 4]}).encode()
    assert handed_on([], body) == {"headers": {b"content-type": b"application/json"}, "body": body}
    assert handed_on([(b"accept", b"*/*")], body, "/train/iste")["headers"][b"content-type"] == b"application/json"


@pytest.mark.parametrize("kind", [b"application/json", b"text/plain", b"application/x-www-form-urlencoded"])
def test_a_header_that_is_there_stays(kind):
    assert handed_on([(b"content-type", kind)], b"{}")["headers"] == {b"content-type": kind}


def test_what_is_no_json_is_refused_without_a_header_too():
    assert handed_on([], b"scale=2") == 400
    assert handed_on([], b'{"bundle_path": "/x"}') == 400
