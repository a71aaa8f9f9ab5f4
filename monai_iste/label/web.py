"""MONAI Label's web server with two changes for use on one machine.

* Parameters that are not JSON return a message instead of status 500.
* Pages of other web sites have no access: the permissive CORS headers are removed, and ``loopback`` refuses requests
  whose Host header is not this machine's.
"""

from __future__ import annotations

from json import JSONDecodeError

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from monailabel.app import app

from monai_iste.viewer.sockets import LOOPBACK

app.user_middleware[:] = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]


@app.exception_handler(JSONDecodeError)
async def not_json(request: Request, error: JSONDecodeError) -> JSONResponse:
    """Return status 400 and one sentence."""
    return JSONResponse({"detail": f"Expected params in JSON, got something else ({error})."}, 400)


loopback = TrustedHostMiddleware(app, allowed_hosts=LOOPBACK)
