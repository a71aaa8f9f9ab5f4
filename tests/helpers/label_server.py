"""Requests to a server of the MONAI Label app."""

import http.client
import socket
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

from slide_files import picture

TILES = {"tile": picture(130, 150), "another": picture(200, 180)[::-1]}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_up(server):
    try:
        return ask(server, "/info/").status == 200
    except urllib.error.URLError:
        return False


def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def ask(server, path, body=None, kind="application/json", headers=None, method=None):
    request = urllib.request.Request(server.url + path, body, {"Content-Type": kind, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            return SimpleNamespace(status=response.status, body=response.read(), headers=response.headers)
    except urllib.error.HTTPError as error:
        return SimpleNamespace(status=error.code, body=error.read(), headers=error.headers)


def ask_as_qupath(server, path, body=None, method=None):
    """A request as QuPath's extension sends it: JSON without the header Content-Type."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    try:
        connection.request(method or ("POST" if body else "GET"), path, body)
        response = connection.getresponse()
        return SimpleNamespace(status=response.status, body=response.read(), headers=response.headers)
    finally:
        connection.close()


def form(fields):
    """Encode fields, each (file name or None, content), as (body, content type)."""
    body = b""
    for name, (file, content) in fields.items():
        named = "" if file is None else f'; filename="{file}"'
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--b--\r\n", "multipart/form-data; boundary=b"
