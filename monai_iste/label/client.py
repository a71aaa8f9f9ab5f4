"""Command-line client: upscale an image or region on a MONAI Label server and save the result.

    python -m monai_iste.label.client http://127.0.0.1:8000 slide --scale 3.7 \\
        --location 640 480 --size 200 100 --out a.png

The file needs only Python's standard library. It may be copied to a machine without monai_iste and run as a script.
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


class InferResponse(NamedTuple):
    """Bytes of the upscaled image file, and the record of how it was made."""

    image: bytes
    params: dict[str, Any]


def infer(server: str, image: str, params: dict[str, Any], model: str = "iste", timeout: float = 600) -> InferResponse:
    """Send an inference request.

    Args:
        server: address of the server.
        image: name of a study on the server, or a local file, which is uploaded.
        params: parameters that the server documents.
        model: name of the model on the server.
        timeout: seconds to wait for the response.
    Raises:
        ConnectionError: the server refuses the request (the message is its sentence) or cannot be reached.
    """
    local = Path(image)
    fields: dict[str, tuple[str | None, bytes]] = {"params": (None, json.dumps(params).encode())}
    query = {}
    if local.is_file():
        fields["file"] = (local.name, local.read_bytes())
    else:
        query["image"] = image
    boundary = uuid.uuid4().hex
    request = urllib.request.Request(
        f"{server.rstrip('/')}/infer/{urllib.parse.quote(model)}?{urllib.parse.urlencode(query)}",
        _multipart(fields, boundary),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            found = parse_multipart(reply.read(), reply.headers.get_param("boundary"))
    except urllib.error.HTTPError as error:
        raise ConnectionError(
            _error_detail(error.read()) or f"{server} returned {error.code} {error.reason}"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: not an address
        raise ConnectionError(f"no response from {server}: {getattr(error, 'reason', error)}") from error
    return InferResponse(found["image"], json.loads(found["params"]))


def _multipart(fields: dict[str, tuple[str | None, bytes]], boundary: str) -> bytes:
    """Encode form fields and files as multipart/form-data."""
    body = b""
    for name, (file, content) in fields.items():
        named = f'; filename="{urllib.parse.quote(file)}"' if file else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def parse_multipart(body: bytes, boundary: Any) -> dict[str, bytes]:
    """Return the named parts of a multipart response.

    Example:
        >>> body = b'--x\\r\\nContent-Disposition: form-data; name="a"\\r\\n\\r\\n1\\r\\n2\\r\\n--x--\\r\\n'
        >>> parse_multipart(body, "x")
        {'a': b'1\\r\\n2'}
    """
    found = {}
    for part in body.split(f"--{boundary}".encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        found[name] = content.removesuffix(b"\r\n")
    return found


def _error_detail(body: bytes) -> str:
    """Return the sentence in an error response, or an empty string."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="client", description="Upscale an image or region on a MONAI Label server.")
    parser.add_argument("server", help="for example http://127.0.0.1:8000")
    parser.add_argument("image", help="name of a study on the server, or a local file")
    parser.add_argument("--scale", type=float, help="scale factor; default: 2")
    parser.add_argument("--mpp", type=float, help="micrometers per pixel of the result, instead of --scale")
    parser.add_argument(
        "--input-mpp", type=float, help="micrometers per pixel of the image, if its file does not state them"
    )
    parser.add_argument("--input-blur", type=float, help="blur of the image, sigma in its pixels; default: unknown")
    parser.add_argument("--location", type=int, nargs=2, metavar=("X", "Y"), help="corner of a region, in image pixels")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="size of the region")
    parser.add_argument("--out", type=Path, required=True, help="a .png, .tif, .jpg or .ome.tif file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = vars(parser.parse_args(words))
    server, image, out, overwrite = (options.pop(key) for key in ("server", "image", "out", "overwrite"))
    params = {key: value for key, value in options.items() if value is not None}
    params["result_extension"] = "".join(out.suffixes[-2:]) if ".ome" in out.suffixes[-2:-1] else out.suffix
    try:
        if out.exists() and not overwrite:
            raise FileExistsError(f"{out} exists: choose another name, or add --overwrite")
        response = infer(server, image, params)
        out.write_bytes(response.image)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(response.params, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
