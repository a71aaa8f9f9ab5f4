"""MONAI Label's web server behind the checks that a server on a desk needs.

* Pages of other web sites have no access, and neither have requests under a foreign host name
  (:mod:`monai_iste.viewer.access`). MONAI Label itself permits every site.
* Every request is checked before MONAI Label sees it (:mod:`monai_iste.label.guard`).
* Errors are one sentence, where MONAI Label returns status 500 without one.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

import monailabel.app
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from monai_iste.errors import ISTEError
from monai_iste.label.app import MODEL
from monai_iste.label.guard import RequestGuard
from monai_iste.label.request import error_response
from monai_iste.viewer.access import Access, HostNames

# Sentences for what MONAI Label answers without one.
_SENTENCES = {
    "Not Found": "Expected an address of this server, got another. / lists them.",
    "Method Not Allowed": "Expected a method that this address has, got another. / lists them.",
    "There was an error parsing the body": "Expected a well-formed body, got another. Send it as docs/label.md shows.",
}
_NO_IMAGE = "Expected an image, a file or a session, got none. Name a study: ?image=NAME."


def create_app(hosts: HostNames, unpack: bool = False) -> Any:
    """Return MONAI Label's ASGI application behind the checks.

    Args:
        hosts: names under which the server may be reached.
        unpack: accept archives for sessions. They are unpacked into a folder of their own.
    """
    app = monailabel.app.app
    app.user_middleware[:] = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]
    for kind in (
        ISTEError,
        HTTPException,
        RequestValidationError,
        ValidationError,
        JSONDecodeError,
        MONAILabelException,
    ):
        app.add_exception_handler(kind, _respond)
    app.add_exception_handler(Exception, _respond)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # for archives, if they are accepted
    return Access(RequestGuard(app, (MODEL,), unpack), hosts, pages="/", key="detail")


async def _respond(request: Request, error: Exception) -> JSONResponse:
    """Return the status and one sentence for an exception; the server's log has the traceback of a defect."""
    status, sentence = _status_and_sentence(error)
    headers = getattr(error, "headers", None)
    return JSONResponse({"detail": sentence}, status, headers)


def _status_and_sentence(error: Exception) -> tuple[int, str]:
    if isinstance(error, ISTEError):
        return error_response(error)
    if isinstance(error, HTTPException):
        detail = str(error.detail)
        if detail.startswith("Neither Image nor File"):  # MONAI Label calls it a failure of the server
            return 400, _NO_IMAGE
        return error.status_code, _SENTENCES.get(detail, detail)
    if isinstance(error, (RequestValidationError, ValidationError)):
        return 422, _validation_sentence(error.errors())
    if isinstance(error, JSONDecodeError):
        return 400, f"Expected params in JSON, got something else ({error})."
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return 404, f"Expected the name of a study, got another ({error.msg})."
    if isinstance(error, MONAILabelException):
        return 400, f"Expected a request that MONAI Label can answer, got another ({error.msg})."
    return 500, f"Expected an answer, got {type(error).__name__}. The log of the server says more."


def _validation_sentence(errors: Sequence[Any]) -> str:
    first = errors[0]
    where = " ".join(str(part) for part in first["loc"])[:100]
    return f"Expected a valid {where}, got {repr(first.get('input'))[:100]}. {first['msg']}."[:400]
