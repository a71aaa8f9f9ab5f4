"""The viewer's HTTP interface: IIIF images, and views at exactly the screen's scale.

==================================================  ================================================================
``GET /``, ``/static/...``                          the page
``GET /api/images``, ``/api/status``                what there is, and how busy the server is
``GET /iiif/{id}/...``                              IIIF Image API 3.0, level 2 (:mod:`monai_iste.viewer.iiif`)
``GET /iiif/{id}-sr/...``, ``{id}-bicubic/...``     the same of a virtual image, :data:`VIRTUAL_SCALE` times as large
``GET /api/view/{id}?x=&y=&w=&h=&width=&height=``   a viewport in pixels of the slide (or fractions) at a screen's size;
                                                    ``method=sr|bicubic|native``, ``format=png|jpg|webp``
``GET /api/consistency/{id}?...``                   a transparent map for the same viewport
``GET /api/export/{id}?...``                        the view as a PNG to keep, with its provenance
``DELETE /api/requests/{token}``                    stop what was asked for with ``&token=``
==================================================  ================================================================

ResponseBuilder with pixels say what they are: ``X-Region`` is what is shown, x,y,w,h in pixels of the slide, exactly;
``X-Scale`` the magnification along x; ``X-Method``, which below a magnification of 1 is ``resampled``;
``X-Inferred: true`` where a network made the pixels, with ``X-Preset``.
Refusals are ``{"error": sentence}``: 400 what cannot be asked, 404 what is not there, 409 what was cancelled or
overtaken, 500 where the slide cannot be read, 503 with ``Retry-After`` where too much waits or no network could be
loaded. An image of a slide under ``/iiif/{id}`` that is magnified (``^``) is super-resolved.

Only images of the catalog are served. Other sites' pages may read ``/iiif`` (level 2 demands it), not ``/api``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai_iste
from monai_iste.errors import ConfigError, require_extra
from monai_iste.viewer import iiif
from monai_iste.viewer.catalog import Catalog, UnknownImage, ViewedImage
from monai_iste.viewer.encoding import MEDIA_TYPES, encode, export_png, overlay_png
from monai_iste.viewer.rendering import CONSISTENCY_BLOCK, METHODS, Renderer
from monai_iste.viewer.responses import Endpoint, Picture, ResponseBuilder
from monai_iste.viewer.viewport import Frame, view_frame
from monai_iste.viewer.workers import Task, check_token

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

#: How many times larger than the slide its virtual images are.
VIRTUAL_SCALE = 8

_STATIC = Path(__file__).parent / "static"


class Viewer(ResponseBuilder):
    """ResponseBuilder requests for the images of a catalog.

    Args:
        catalog: what there is.
        renderer: where pixels come from.
        about: of the network: preset, weights (their checksum), precision and device.
        queue: how many requests may wait for the network; four times as many for the slides.
        threads: processor threads of the network; default: PyTorch's choice.
    """

    def __init__(
        self,
        catalog: Catalog,
        renderer: Renderer,
        about: dict[str, str],
        queue: int = 64,
        threads: int | None = None,
    ) -> None:
        super().__init__(renderer, about, queue, threads)
        self.catalog = catalog

    def close(self) -> None:
        """Stop all work, and let go of the files."""
        super().close()
        self.catalog.close()

    # --- the page -----------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        index = _STATIC / "index.html"
        if not index.is_file():
            return self.refuse(UnknownImage("the viewer's page", "none", "Use /api/images and /iiif."))
        policy = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'"
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        response: Response = self.responses.FileResponse(index, headers=headers)
        return response

    # --- what there is ------------------------------------------------------------------------------------------------

    async def images(self, request: Request) -> Response:
        return self.json([image.record() for image in self.catalog])

    async def status(self, request: Request) -> Response:
        return self.json(
            {
                "preset": self.about["preset"],
                "device": self.about["device"],
                "running": self.computing.running + self.reading.running,
                "queued": self.computing.queued + self.reading.queued,
                "cache_bytes": self.renderer.nbytes,
                "error": self.failure,
            }
        )

    async def cancel(self, request: Request) -> Response:
        token = check_token(request.path_params["token"]) or ""
        return self.json({"cancelled": self.computing.cancel(token) + self.reading.cancel(token)})

    # --- IIIF ---------------------------------------------------------------------------------------------------------

    async def iiif_base(self, request: Request) -> Response:
        self.catalog.resolve(request.path_params["id"])
        response: Response = self.responses.RedirectResponse(f"{_uri(request)}/info.json", 303)
        return response

    async def iiif_information(self, request: Request) -> Response:
        image, method = self.catalog.resolve(request.path_params["id"])
        found = iiif.information(_uri(request), _virtual(image, method), image.size, tuple(MEDIA_TYPES))
        accepted = request.headers.get("accept", "")
        plain = "application/json" in accepted and "application/ld+json" not in accepted
        media_type = "application/json" if plain else f'application/ld+json;profile="{iiif.CONTEXT}"'
        return self.json(found, media_type, {"Link": f'<{iiif.PROFILE}>;rel="profile"', "Vary": "Accept"})

    async def iiif_image(self, request: Request) -> Response:
        parts = request.path_params
        image, method = self.catalog.resolve(parts["id"])
        size = _virtual(image, method)
        wanted = iiif.parse(
            size, image.size, tuple(MEDIA_TYPES), parts["region"], parts["size"], parts["rotation"], parts["file"]
        )
        frame, method = wanted.frame(size), method or "sr"
        links = f'<{_uri(request)}/{wanted.canonical}>;rel="canonical", <{iiif.PROFILE}>;rel="profile"'

        def make(ticket: Task) -> bytes:
            pixels = self.renderer.render(image, frame, method, ticket.check)
            return encode(pixels, wanted.format, wanted.quality, wanted.rotation)

        kind = f"iiif {wanted.rotation} {wanted.quality} {wanted.format}"
        return await self.answer(
            request, Picture(image, frame, method, kind, MEDIA_TYPES[wanted.format], make, {"Link": links})
        )

    # --- exact views --------------------------------------------------------------------------------------------------

    async def view(self, request: Request) -> Response:
        image, frame, method = self._viewport(request)
        format = request.query_params.get("format", "png")
        if format not in MEDIA_TYPES:
            raise ConfigError(f"a format: {', '.join(MEDIA_TYPES)}", repr(format[:100]), "Choose one of these.")

        def make(ticket: Task) -> bytes:
            return encode(self.renderer.render(image, frame, method, ticket.check), format)

        picture = Picture(image, frame, method, f"view {format}", MEDIA_TYPES[format], make, {})
        return await self.answer(request, picture)

    async def consistency(self, request: Request) -> Response:
        image, frame, _ = self._viewport(request)

        def make(ticket: Task) -> bytes:
            levels, origin = self.renderer.consistency(image, frame, ticket.check)
            return overlay_png(levels, origin, CONSISTENCY_BLOCK, frame, image.size)

        return await self.answer(request, Picture(image, frame, "sr", "consistency", "image/png", make, {}))

    async def export(self, request: Request) -> Response:
        image, frame, method = self._viewport(request)
        scale = max(frame.scale(image.size))
        name = f"{image.id}_{method}_x{scale:.4g}_{frame.left}_{frame.top}.png"

        def make(ticket: Task) -> bytes:
            pixels = self.renderer.render(image, frame, method, ticket.check)
            return export_png(pixels, frame, image.size, image.mpp, image.icc, self._provenance(picture))

        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        picture = Picture(image, frame, method, "export", "image/png", make, headers)
        return await self.answer(request, picture)

    def _provenance(self, picture: Picture) -> dict[str, object]:
        """How a picture was made; of the slide a fingerprint, because its name may be a patient's."""
        image, frame = picture.image, picture.frame
        network = {key: self.about[key] for key in ("preset", "weights", "precision")} if picture.inferred else {}
        return {
            "version": monai_iste.__version__,
            "method": picture.shown,
            "inferred": picture.inferred,
            **network,
            "slide": f"sha256 {image.digest}",
            "slide_size": image.size,
            "size": frame.size,
            "scale": frame.scale(image.size),
            "region": frame.extent(image.size),
        }

    def _viewport(self, request: Request) -> tuple[ViewedImage, Frame, str]:
        image, asked = self.catalog[request.path_params["id"]], request.query_params
        x, y, w, h = (_number(asked.get(name), name, float) for name in ("x", "y", "w", "h"))
        width, height = (_number(asked.get(name), name, int) for name in ("width", "height"))
        method = asked.get("method", "sr")
        if method not in METHODS:
            raise ConfigError(f"a method: {', '.join(METHODS)}", repr(method[:100]), "Choose one of these.")
        return image, view_frame(image.size, x, y, w, h, width, height), method


def create_app(viewer: Viewer, hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")) -> FastAPI:
    """The viewer as an ASGI application; when it shuts down the viewer is closed.

    Args:
        hosts: names under which it may be asked; another site that points its own name here is refused. ``*``: any.
    Raises:
        ConfigError: the extra ``viewer`` is not installed.
    """
    fastapi, routing = require_extra("fastapi", "viewer"), require_extra("starlette.routing", "viewer")
    files = require_extra("starlette.staticfiles", "viewer")
    trusted = require_extra("starlette.middleware.trustedhost", "viewer")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        viewer.warm_up()
        try:
            yield
        finally:
            await asyncio.to_thread(viewer.close)

    def route(path: str, endpoint: Endpoint, method: str = "GET") -> Any:
        return routing.Route(path, viewer.guarded(endpoint), methods=[method])

    routes = [
        route("/", viewer.page),
        route("/api/images", viewer.images),
        route("/api/status", viewer.status),
        route("/api/requests/{token}", viewer.cancel, "DELETE"),
        route("/api/view/{id}", viewer.view),
        route("/api/consistency/{id}", viewer.consistency),
        route("/api/export/{id}", viewer.export),
        route("/iiif/{id}", viewer.iiif_base),
        route("/iiif/{id}/info.json", viewer.iiif_information),
        route("/iiif/{id}/{region}/{size}/{rotation}/{file}", viewer.iiif_image),
    ]
    if _STATIC.is_dir():
        routes.append(routing.Mount("/static", files.StaticFiles(directory=_STATIC)))
    app: FastAPI = fastapi.FastAPI(
        routes=routes, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, title="monai_iste viewer"
    )
    app.add_middleware(_Headers)
    app.add_middleware(trusted.TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


class _Headers:
    """Headers that all answers have."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
                if scope["path"].startswith("/iiif/"):
                    exposed = b"Link, X-Region, X-Scale, X-Method, X-Inferred, X-Preset"
                    headers += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", exposed)]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self.app(scope, receive, send_with if scope["type"] == "http" else send)


def _uri(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/iiif/{request.path_params['id']}"


def _virtual(image: ViewedImage, method: str | None) -> tuple[int, int]:
    factor = 1 if method is None else VIRTUAL_SCALE
    return factor * image.size[0], factor * image.size[1]


def _number(text: str | None, name: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text if text is not None and len(text) <= 40 else "")
    except ValueError:
        received = "none" if text is None else repr(text[:100])
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{what} as {name}", received, "Ask for x, y, w, h, width and height.") from None
