"""Headers of the viewer's responses: which sites may read and show them, in frames or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_iste.errors import require_extra

#: Beginnings of the addresses that pages of other sites may read, if they are named.
OPEN_PATHS = ("/iiif/", "/manifest.json")

#: Policy of the viewer's page: nothing inline, nothing from elsewhere, in no frame.
NO_FRAMES = "frame-ancestors 'none'"
PAGE_POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; " + NO_FRAMES

_EXPOSED = ("Link", "X-Region", "X-Scale", "X-Method", "X-Inferred", "X-Preset")


class OpenToOrigins:
    """Middleware that tells browsers which sites may read :data:`OPEN_PATHS`, preflight requests included."""

    def __init__(self, app: Any, origins: Sequence[str]) -> None:
        cors = require_extra("starlette.middleware.cors", "viewer")
        self.app = app
        self.open = cors.CORSMiddleware(
            app, allow_origins=origins, allow_methods=("GET", "HEAD"), allow_headers=("*",), expose_headers=_EXPOSED
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_open = scope["type"] == "http" and scope["path"].startswith(OPEN_PATHS)
        await (self.open if is_open else self.app)(scope, receive, send)


class CommonHeaders:
    """Middleware that adds the headers common to all responses.

    Pictures of an open server may be shown by other sites; whether these may read them is for :class:`OpenToOrigins`.
    """

    def __init__(self, app: Any, is_open: bool) -> None:
        self.app, self.is_open = app, is_open

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                is_open = self.is_open and scope["path"].startswith(OPEN_PATHS)
                headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
                headers += [(b"cross-origin-resource-policy", b"cross-origin" if is_open else b"same-origin")]
                if not any(key == b"content-security-policy" for key, _ in message["headers"]):
                    headers += [(b"content-security-policy", NO_FRAMES.encode())]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
