"""Ask a MONAI Label server for a magnified image or region, and save it.

    python -m monai_iste.label.client http://127.0.0.1:8000 slide --scale 3.7 \\
        --location 640 480 --size 200 100 --out a.png

This file needs nothing but Python: it may be copied to where monai_iste is not installed, and run as a script.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A magnified image as the bytes of its file, and how it was made."""

    image: bytes
    params: dict[str, Any]


def infer(server: str, image: str, params: dict[str, Any], model: str = "iste", timeout: float = 600) -> Answer:
    """Ask a server.

    Args:
        server: its address.
        image: the name of a study there, or a file here, which is sent.
        params: as the server's documentation lists them.
        timeout: seconds to wait for the answer.
    Raises:
        ConnectionError: the server refuses or cannot be reached; its sentence is the message.
    """
    here = Path(image)
    fields: dict[str, tuple[str | None, bytes]] = {"params": (None, json.dumps(params).encode())}
    query = {}
    if here.is_file():
        fields["file"] = (here.name, here.read_bytes())
    else:
        query["image"] = image
    boundary = uuid.uuid4().hex
    request = urllib.request.Request(
        f"{server.rstrip('/')}/infer/{urllib.parse.quote(model)}?{urllib.parse.urlencode(query)}",
        _form(fields, boundary),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            found = parts(response.read(), response.headers.get_param("boundary"))
    except urllib.error.HTTPError as error:
        raise ConnectionError(_sentence(error.read()) or f"{server} answers {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:  # ValueError: not an address
        raise ConnectionError(f"no answer from {server}: {getattr(error, 'reason', error)}") from error
    return Answer(found["image"], json.loads(found["params"]))


def _form(fields: dict[str, tuple[str | None, bytes]], boundary: str) -> bytes:
    """A form with files, as browsers send it."""
    body = b""
    for name, (file, content) in fields.items():
        named = f'; filename="{urllib.parse.quote(file)}"' if file else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def parts(body: bytes, boundary: Any) -> dict[str, bytes]:
    """The named parts of an answer.

    Example:
        >>> parts(b'--x\\r\\nContent-Disposition: form-data; name="a"\\r\\n\\r\\n1\\r\\n2\\r\\n--x--\\r\\n', "x")
        {'a': b'1\\r\\n2'}
    """
    found = {}
    for part in body.split(f"--{boundary}".encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        found[name] = content.removesuffix(b"\r\n")
    return found


def _sentence(body: bytes) -> str:
    """What a server says of a refusal."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="client", description="Magnify an image or region by a MONAI Label server.")
    parser.add_argument("server", help="such as http://127.0.0.1:8000")
    parser.add_argument("image", help="the name of a study there, or a file here")
    parser.add_argument("--scale", type=float, help="magnification; default: 2")
    parser.add_argument("--mpp", type=float, help="micrometers per pixel of the result, instead")
    parser.add_argument("--input-mpp", type=float, help="those of the image, if its file does not state them")
    parser.add_argument("--location", type=int, nargs=2, metavar=("X", "Y"), help="corner of a region, in its pixels")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="of the region")
    parser.add_argument("--out", type=Path, required=True, help="a .png, .tif, .jpg or .ome.tif file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    asked = vars(parser.parse_args(words))
    server, image, out, overwrite = (asked.pop(key) for key in ("server", "image", "out", "overwrite"))
    params = {key: value for key, value in asked.items() if value is not None}
    params["result_extension"] = "".join(out.suffixes[-2:]) if ".ome" in out.suffixes[-2:-1] else out.suffix
    try:
        if out.exists() and not overwrite:
            raise FileExistsError(f"{out} exists: choose another name, or add --overwrite")
        answer = infer(server, image, params)
        out.write_bytes(answer.image)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer.params, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
