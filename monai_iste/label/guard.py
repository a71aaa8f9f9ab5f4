"""Checks of every request to the MONAI Label server before MONAI Label sees it.

MONAI Label joins names that a client sends to paths of its folders. Here every id, tag, label and file name is one
plain name, JSON is an object of finite numbers, uploads are images, and parts of MONAI Label without use are closed.
Bodies are checked while they arrive: a slide of many gigabytes is not kept in memory.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

from monai_iste.errors import ConfigError, DataError, ISTEError, check_choice, require_extra
from monai_iste.io.pixels import IMAGE_SUFFIXES, SLIDE_ENDINGS
from monai_iste.label.request import check_plain_name, error_response, read_json_object, unknown_study
from monai_iste.viewer.access import send_json
from monai_iste.viewer.catalog import UnknownImage

#: Endings of images that may be uploaded.
ENDINGS = (*IMAGE_SUFFIXES, *SLIDE_ENDINGS)

#: Largest JSON body or form field, in bytes.
MAX_FIELD = 1_000_000

_PARTS = (
    *("", "activelearning", "auth", "batch", "datastore", "docs", "favicon.ico", "infer", "info", "logs"),
    *("openapi.json", "scoring", "session", "static", "train"),
)
_WITH_MODEL = (("infer", "wsi"), ("infer", "wsi_v2"), ("infer",), ("batch", "infer"), ("train",))
_NAMES = ("image", "id", "label", "tag", "session_id", "label_tag", "strategy", "client_id")
_JSON_FIELDS = ("params", "info", "wsi")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_FALSE = ("", "0", "f", "false", "n", "no", "off")


class TooLarge(ISTEError, ValueError):
    """A part of the request is larger than anything that it may hold."""


class RequestGuard:
    """ASGI middleware that refuses a request in one sentence unless everything in it is well-formed.

    Args:
        app: MONAI Label's application.
        models: names of the models.
        unpack: accept archives for sessions, which MONAI Label unpacks.
    """

    def __init__(self, app: Any, models: Collection[str], unpack: bool = False) -> None:
        self.app, self.models, self.unpack = app, models, unpack

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body: _Body | None = None
        try:
            path = scope["path"].split("/")[1:]
            query = self._check_query(scope, path)
            self._check_path(scope["method"], path)
            body = _body_of(scope, path, query)
            receive = await body.wrap(receive)
        except ISTEError as error:
            await _refuse(send, error)
            return
        scope = _with_content_type(scope)

        async def send_unless_refused(message: Any) -> None:
            if body.refusal is None:
                await send(message)

        try:
            await self.app(scope, receive, send_unless_refused)
        except Exception:
            if body.refusal is None:
                raise
        if body.refusal is not None:
            await _refuse(send, body.refusal)

    def _check_path(self, method: str, path: list[str]) -> None:
        for part in path[:-1] if path[-1:] == [""] else path:
            check_plain_name("each part of the address", part)
        check_part(method, path)
        for prefix in _WITH_MODEL:
            if tuple(path[: len(prefix)]) == prefix:
                rest = path[len(prefix) :]
                if rest not in ([], [""]):
                    check_choice("a model", "/".join(rest), self.models)
                break

    def _check_query(self, scope: Any, path: list[str]) -> dict[str, str]:
        text = scope["query_string"].decode("latin-1")
        query = parse_qsl(text, keep_blank_values=True, max_num_fields=100) if text.count("&") < 100 else None
        if query is None:
            raise ConfigError("at most 100 parameters", str(text.count("&")), "Send less.")
        for key, value in query:
            if key in _NAMES and (value or key not in ("image", "session_id")):
                _check_name(key, value, path)
            elif key == "uncompress" and value.lower() not in _FALSE and not self.unpack:
                raise ConfigError("no archive", "uncompress", "Send the image itself, or serve with --unpack.")
            elif key == "output" and value == "dicom_seg":
                raise ConfigError("output image, json or all", value, "There are no DICOM studies here.")
            elif key == "check_sum" and not re.fullmatch(r"((SHA256|SHA512|MD5):)?[0-9A-Fa-f]{1,128}", value):
                raise ConfigError("a check_sum such as SHA256:0af3", repr(value[:100]), "Use SHA256, SHA512 or MD5.")
            elif key in ("lines", "refresh", "expiry", "limit_cases") and len(value) > 9:
                raise ConfigError(f"a whole number of at most 9 digits for {key}", repr(value[:100]), "Ask for less.")
        return dict(query)


def check_part(method: str, path: list[str]) -> None:
    """Raise UnknownImage for the parts of MONAI Label that this app does not serve."""
    if path[0] not in _PARTS:
        remedy = "Inference, training, batches, sessions and the datastore are served; / lists them."
        raise UnknownImage("a part of MONAI Label that this app has", repr(f"/{path[0]}"[:100]), remedy)
    if path[0] == "scoring" and method == "POST":
        raise UnknownImage("a part of MONAI Label that this app has", "scoring", "It has no labels to score.")
    if path[:2] == ["logs", "gpu"] and shutil.which("nvidia-smi") is None:
        raise UnknownImage("a machine with nvidia-smi", "one without", "/logs/ has the log of the server.")


def check_upload(name: str, endings: Iterable[str] | None = None) -> None:
    """Check the name of an uploaded file.

    Args:
        endings: the accepted ones; None accepts every ending of letters and digits.
    Raises:
        ConfigError: the name is not plain.
        DataError: the ending is not accepted.
    """
    check_plain_name("an uploaded file", name)
    if endings is not None and not name.lower().endswith(tuple(endings)):
        raise DataError("an image or slide by its ending", repr(name[-100:]), f"Such as {', '.join(ENDINGS[:4])}.")
    if endings is None and not re.fullmatch(r"(\.[A-Za-z0-9]+)*", "".join(PurePosixPath(name).suffixes)):
        raise DataError("a file with a plain ending", repr(name[-100:]), "Such as .png or .xml.")


def check_json_values(content: dict[str, Any], path: list[str]) -> None:
    """Check the names in the JSON of a request, at every depth.

    Raises:
        ConfigError: a name is not plain, or a setting would change what background tasks execute.
    """
    waiting: list[Any] = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(part for part in item if isinstance(part, (dict, list)))
            continue
        for key, value in item.items():
            if key == "bundle_path":
                raise ConfigError("settings of this app", "bundle_path", "It would add a folder of programs.")
            if key == "gpus" and not (isinstance(value, str) and re.fullmatch(r"all|[0-9]+(,[0-9]+)*", value)):
                raise ConfigError("all, or numbers such as 0,1, for gpus", repr(value)[:100], "Leave it out.")
            if key in _NAMES and not isinstance(value, (dict, list)):
                _check_name(key, value, path)
            elif key in ("label_tag", "strategy"):
                check_plain_name(key, value)
            elif isinstance(value, (dict, list)):
                waiting.append(value)
        if len(item) > 500:
            raise ConfigError("at most 500 settings", str(len(item)), "Send less.")


def _check_name(key: str, value: Any, path: list[str]) -> None:
    try:
        check_plain_name(key, value)
    except ConfigError as error:
        if key == "image" and path[0] == "infer":
            raise unknown_study(value) from error
        raise


async def _refuse(send: Any, error: ISTEError) -> None:
    status, sentence = error_response(error)
    await send_json(send, 413 if isinstance(error, TooLarge) else status, {"detail": sentence})


# --- bodies -----------------------------------------------------------------------------------------------------------


def _body_of(scope: Any, path: list[str], query: dict[str, str]) -> _Body:
    header = next((value for key, value in scope["headers"] if key == b"content-type"), b"")
    kind = header.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return _Multipart(path, query, header)
    return _Urlencoded(path) if kind == b"application/x-www-form-urlencoded" else _Json(path)


def _with_content_type(scope: Any) -> Any:
    """Return a request whose body is JSON, as was checked, with the header that says so.

    QuPath's extension sends none. FastAPI then refuses the body, to keep out pages of other sites, which have no access
    here anyway.
    """
    if any(key == b"content-type" for key, _ in scope["headers"]):
        return scope
    return {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}


class _Body:
    """Body of a request, checked; :attr:`refusal` is what is wrong with it."""

    def __init__(self, path: list[str]) -> None:
        self.path = path
        self.refusal: ISTEError | None = None

    async def wrap(self, receive: Any) -> Any:
        """Read the body, check it, and return a channel that delivers it again."""
        body, messages = b"", []
        while True:
            message = await receive()
            messages.append(message)
            if message["type"] != "http.request":
                break
            body += message.get("body", b"")
            if len(body) > MAX_FIELD:
                raise TooLarge(f"at most {MAX_FIELD:,} bytes of parameters", "more", "Send files as a form.")
            if not message.get("more_body", False):
                break
        self.check(body)
        replay = iter(messages)

        async def receive_again() -> Any:
            return next(replay, None) or await receive()

        return receive_again

    def check(self, body: bytes) -> None:
        """Raise an error of the family unless the whole body is well-formed."""

    def check_field(self, name: str, content: bytes) -> None:
        """Check a field of a form: some are JSON, some are names."""
        if name in _JSON_FIELDS and content.strip():
            values = read_json_object(name, content)
            if self.path[0] != "datastore":  # there, it is a remark that is kept with an image
                check_json_values(values, self.path)
        elif name in _NAMES:
            _check_name(name, content.decode("utf-8", "surrogateescape"), self.path)


class _Json(_Body):
    def check(self, body: bytes) -> None:
        if body.strip() not in (b"", b"null"):
            check_json_values(read_json_object("the body", body), self.path)


class _Urlencoded(_Body):
    def check(self, body: bytes) -> None:
        if body.count(b"&") > 100:
            raise ConfigError("at most 100 fields", str(body.count(b"&")), "Send less.")
        for name, content in parse_qsl(body, keep_blank_values=True):
            self.check_field(name.decode("latin-1"), content)


class _Multipart(_Body):
    """Form with files, checked chunk by chunk while MONAI Label receives it, by the parser that its server uses."""

    def __init__(self, path: list[str], query: dict[str, str], content_type: bytes) -> None:
        super().__init__(path)
        parsing = require_extra("python_multipart.multipart", "label")
        self._options, self._error = parsing.parse_options_header, parsing.FormParserError
        boundary = self._options(content_type)[1].get(b"boundary")
        if not boundary or len(boundary) > 200:
            raise ConfigError("a form with a boundary", "none", "Send multipart/form-data as curl -F does.")
        self._query, self._files = query, 0
        self._header, self._value, self._disposition = b"", b"", b""
        self._name, self._is_file, self._content = "", False, bytearray()
        self._is_complete = False
        names = (
            *("part_begin", "header_field", "header_value", "header_end"),
            *("headers_finished", "part_data", "part_end", "end"),
        )
        self._parser = parsing.MultipartParser(boundary, {f"on_{name}": getattr(self, f"_on_{name}") for name in names})

    async def wrap(self, receive: Any) -> Any:
        async def receive_checked() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                try:
                    self._parser.write(message.get("body", b""))
                    if not (message.get("more_body", False) or self._is_complete):
                        raise ConfigError("a whole form", "one that is cut short", "Send it again.")
                except ISTEError as error:
                    self.refusal = error
                    raise
                except self._error as error:
                    self.refusal = ConfigError("a well-formed form", str(error), "Send it as curl -F does.")
                    raise self.refusal from error
            return message

        return receive_checked

    def _on_end(self) -> None:
        self._is_complete = True

    def _on_part_begin(self) -> None:
        self._disposition, self._content = b"", bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = self._options(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "surrogateescape")
        self._is_file = b"filename" in options
        if self._is_file:
            self._files += 1
            self._check_file(options[b"filename"].decode("utf-8", "surrogateescape"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._content += data[start:end]
            if len(self._content) > MAX_FIELD:
                raise TooLarge(f"at most {MAX_FIELD:,} bytes in a field", "more", "Send less.")

    def _on_part_end(self) -> None:
        if not self._is_file:
            self.check_field(self._name, bytes(self._content))

    def _check_file(self, name: str) -> None:
        first = self.path[0]
        if self._files > 1:
            raise ConfigError("one file", "several", "Send them one by one.")
        if first == "infer" and self._name != "file":
            raise ConfigError("a file as the field file", repr(self._name[:100]), "Labels are not used here.")
        is_archive = first == "session" and self._query.get("uncompress", "").lower() not in _FALSE
        is_label = self.path[:2] == ["datastore", "label"]
        check_upload(name, None if is_label else _ARCHIVES if is_archive else ENDINGS)
