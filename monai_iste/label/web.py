"""MONAI Label's web server for one machine's own use.

* Parameters that are not JSON get an answer.
* MONAI Label lets the pages of any web site ask. Here browsers keep them away, and ``loopback`` refuses what comes
  under a foreign name for this machine.
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
    """Status 400 and one sentence."""
    return JSONResponse({"detail": f"Expected params in JSON, got something else ({error})."}, 400)


loopback = TrustedHostMiddleware(app, allowed_hosts=LOOPBACK)
