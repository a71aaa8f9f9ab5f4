"""HTTP interface of the viewer: IIIF images, and views at exactly the screen's scale.

==================================================  ================================================================
``GET /``, ``/static/...``                          the page
``GET /api/images``, ``/api/status``                the catalog, and the load of the server
``GET /api/departure/{id}``                         a sentence if the slide is outside what the weights learned
``GET /api/identity/{id}``                          the SHA-256 of the slide, under which a browser keeps annotations
``GET /manifest.json``                              IIIF Presentation 3.0 (:mod:`monai_iste.viewer.presentation`)
``GET /iiif/{id}/...``                              IIIF Image API 3.0, level 2 (:mod:`monai_iste.viewer.iiif`)
``GET /iiif/{id}-sr/...``, ``{id}-bicubic/...``     virtual images, :data:`VIRTUAL_SCALE` times as large as the slide
``GET /api/view/{id}?x=&y=&w=&h=&width=&height=``   a rectangle in slide pixels (or fractions) at the screen's size;
                                                    ``method=sr|bicubic|native``, ``format=png|jpg|webp``
``GET /api/consistency/{id}?...``                   a transparent consistency map of the same rectangle
``GET /api/export/{id}?...``                        the view as a PNG with its provenance
``DELETE /api/requests/{token}``                    cancel the requests with ``&token=``
==================================================  ================================================================

Image responses describe themselves in headers. ``X-Region`` is the exact rectangle x,y,w,h in slide pixels.
``X-Scale`` is the scale along x. ``X-Method`` is the method, or ``resampled`` if the view is not upscaled.
``X-Inferred: true`` marks pixels of a network; ``X-Preset`` then names it. ``X-Consistency`` is, for a consistency map,
the sentence with the means of network and bicubic interpolation in the rectangle.

Errors are ``{"error": sentence}``. The status is 400 for an invalid request or host name, 403 for a page of another
site, 404 for an image that is unknown or was removed, 409 for one that was replaced meanwhile and for a cancelled or
superseded request, 500 for an unreadable slide, and 503 if the queue is full (with ``Retry-After``) or the network
could not be loaded.

An upscaled (``^``) request under ``/iiif/{id}`` is super-resolved. Only images of the catalog are served. Pages of
other sites may read ``/iiif`` and ``/manifest.json`` if they were named when the server was started (level 2 requires
it), and never ``/api``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai_iste
from monai_iste.errors import ConfigError, check_choice, require_extra
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.slides.consistency import describe_means
from monai_iste.viewer import iiif
from monai_iste.viewer.access import Access, HostNames
from monai_iste.viewer.catalog import Catalog, CatalogImage, UnknownImage
from monai_iste.viewer.encoding import MEDIA_TYPES, encode_export, encode_image, encode_overlay
from monai_iste.viewer.headers import OPEN_PATHS, PAGE_POLICY, CommonHeaders, OpenToOrigins
from monai_iste.viewer.presentation import manifest
from monai_iste.viewer.rendering import CONSISTENCY_BLOCK, METHODS, CheckCancelled, Renderer
from monai_iste.viewer.responses import Endpoint, ImageFile, RenderRequest, ResponseBuilder
from monai_iste.viewer.viewport import Viewport, snap_viewport
from monai_iste.viewer.workers import check_token

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

#: Scale of the virtual images.
VIRTUAL_SCALE = 8

_STATIC = Path(__file__).parent / "static"


class Viewer:
    """Endpoints of the viewer: each parses a request and hands it to a :class:`ResponseBuilder`.

    Args:
        catalog: the images that are served.
        renderer: renders the pixels.
        network_info: preset, weights (their checksum), precision and device of the network, and ``input_blur`` if told.
        max_queued: largest number of requests that wait for the network; four times as many may wait for a slide.
        threads: processor threads of the network; default: as many as PyTorch has.
        learned: range of inputs that the network's weights were trained on, if known.
    """

    def __init__(
        self,
        catalog: Catalog,
        renderer: Renderer,
        network_info: dict[str, str],
        max_queued: int = 64,
        threads: int | None = None,
        learned: LearnedRange | None = None,
    ) -> None:
        self.catalog, self.renderer, self.network_info, self.learned = catalog, renderer, network_info, learned
        catalog.share_cache(renderer.cache)
        self.responses = ResponseBuilder(renderer, network_info, max_queued, threads)

    def close(self) -> None:
        """Stop all work and close the files."""
        self.responses.close()
        self.catalog.close()

    # --- the page -----------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        index = _STATIC / "index.html"
        if not index.is_file():
            return self.responses.error(UnknownImage("the viewer's page", "none", "Use /api/images and /iiif."))
        return self.responses.file(index, {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"})

    # --- catalog and status -------------------------------------------------------------------------------------------

    async def images(self, request: Request) -> Response:
        return self.responses.json([image.metadata() for image in self.catalog])

    async def departure(self, request: Request) -> Response:
        """Return a sentence if a slide is outside what the weights learned, else an empty string."""
        image = self.catalog[request.path_params["id"]]
        text = await asyncio.to_thread(image.departure, self.learned)
        return self.responses.json({"departure": text})

    async def identity(self, request: Request) -> Response:
        """Return the SHA-256 of a slide, which a renamed or moved file keeps."""
        image = self.catalog[request.path_params["id"]]
        return self.responses.json({"identity": await asyncio.to_thread(lambda: image.digest)})

    async def status(self, request: Request) -> Response:
        pools = self.responses.network_pool, self.responses.slide_pool
        return self.responses.json(
            {
                "preset": self.network_info["preset"],
                "device": self.network_info["device"],
                "input_blur": self.network_info.get("input_blur"),
                "grid": self.renderer.grid,
                "learned_mpp": self.learned.mpp if self.learned else None,
                "running": sum(pool.running for pool in pools),
                "queued": sum(pool.queued for pool in pools),
                "cache_bytes": self.renderer.cache.nbytes,
                "error": self.responses.load_error,
            }
        )

    async def cancel(self, request: Request) -> Response:
        token = check_token(request.path_params["token"]) or ""
        return self.responses.json({"cancelled": self.responses.cancel(token)})

    # --- IIIF ---------------------------------------------------------------------------------------------------------

    async def manifest(self, request: Request) -> Response:
        content = manifest(str(request.base_url).rstrip("/"), self.catalog, VIRTUAL_SCALE)
        media_type = "application/json"
        if "application/ld+json" in request.headers.get("accept", ""):
            media_type = f'application/ld+json;profile="{content["@context"]}"'
        return self.responses.json(content, media_type, {"Vary": "Accept"})

    async def iiif_base(self, request: Request) -> Response:
        self.catalog.resolve(request.path_params["id"])
        return self.responses.redirect(f"{_iiif_uri(request)}/info.json")

    async def iiif_info(self, request: Request) -> Response:
        image, method = self.catalog.resolve(request.path_params["id"])
        info = iiif.image_info(_iiif_uri(request), _image_size(image, method), image.size, tuple(MEDIA_TYPES))
        accepted = request.headers.get("accept", "")
        plain = "application/json" in accepted and "application/ld+json" not in accepted
        media_type = "application/json" if plain else f'application/ld+json;profile="{iiif.CONTEXT}"'
        return self.responses.json(info, media_type, {"Link": f'<{iiif.PROFILE}>;rel="profile"', "Vary": "Accept"})

    async def iiif_image(self, request: Request) -> Response:
        path = request.path_params
        image, method = self.catalog.resolve(path["id"])
        size, parts = _image_size(image, method), (path["region"], path["size"], path["rotation"], path["file"])
        parsed = iiif.parse_request(size, image.size, tuple(MEDIA_TYPES), *parts)
        viewport, method = parsed.viewport(size), method or "sr"

        def produce(check_cancelled: CheckCancelled) -> bytes:
            pixels = self.renderer.render(image, viewport, method, check_cancelled)
            return encode_image(pixels, parsed.format, parsed.quality, parsed.rotation)

        kind = f"iiif {parsed.rotation} {parsed.quality} {parsed.format}"
        links = f'<{_iiif_uri(request)}/{parsed.canonical}>;rel="canonical", <{iiif.PROFILE}>;rel="profile"'
        render = RenderRequest(image, viewport, method, kind, MEDIA_TYPES[parsed.format], produce, {"Link": links})
        return await self.responses.image(request, render)

    # --- exact views --------------------------------------------------------------------------------------------------

    async def view(self, request: Request) -> Response:
        image, viewport, method = self._parse_view(request)
        format = request.query_params.get("format", "png")
        check_choice("a format", format, MEDIA_TYPES)

        def produce(check_cancelled: CheckCancelled) -> bytes:
            return encode_image(self.renderer.render(image, viewport, method, check_cancelled), format)

        render = RenderRequest(image, viewport, method, f"view {format}", MEDIA_TYPES[format], produce)
        return await self.responses.image(request, render)

    async def consistency(self, request: Request) -> Response:
        image, viewport, _ = self._parse_view(request)

        def produce(check_cancelled: CheckCancelled) -> ImageFile:
            maps, origin = self.renderer.consistency(image, viewport, check_cancelled)
            body = encode_overlay(maps.excess, origin, CONSISTENCY_BLOCK, viewport, image.size)
            return ImageFile(body, {"X-Consistency": describe_means(*maps.means())} if maps.network.size else {})

        render = RenderRequest(image, viewport, "sr", "consistency", "image/png", produce)
        return await self.responses.image(request, render)

    async def export(self, request: Request) -> Response:
        image, viewport, method = self._parse_view(request)
        scale = max(viewport.scale(image.size))
        name = f"{image.id}_{method}_x{scale:.4g}_{viewport.left}_{viewport.top}.png"

        def produce(check_cancelled: CheckCancelled) -> bytes:
            pixels = self.renderer.render(image, viewport, method, check_cancelled)
            return encode_export(pixels, viewport, image.size, image.mpp, image.icc, self._provenance(render))

        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        render = RenderRequest(image, viewport, method, "export", "image/png", produce, headers)
        return await self.responses.image(request, render)

    def _provenance(self, render: RenderRequest) -> dict[str, object]:
        """Return the provenance of an image. The slide appears as a fingerprint: its name may identify a patient."""
        image, viewport = render.image, render.viewport
        network = {key: value for key, value in self.network_info.items() if key != "device"} if render.inferred else {}
        return {
            "version": monai_iste.__version__,
            "method": render.effective_method,
            "inferred": render.inferred,
            **network,
            "slide": f"sha256 {image.digest}",
            "slide_size": image.size,
            "size": viewport.size,
            "scale": viewport.scale(image.size),
            "region": viewport.extent(image.size),
            "pixels": (viewport.height, viewport.width),
        }

    def _parse_view(self, request: Request) -> tuple[CatalogImage, Viewport, str]:
        image, query = self.catalog[request.path_params["id"]], request.query_params
        x, y, w, h = (_parse_number(query.get(name), name, float) for name in ("x", "y", "w", "h"))
        width, height = (_parse_number(query.get(name), name, int) for name in ("width", "height"))
        method = query.get("method", "sr")
        check_choice("a method", method, METHODS)
        return image, snap_viewport(image.size, x, y, w, h, width, height), method


def create_app(viewer: Viewer, hosts: HostNames | None = None, origins: Sequence[str] = ()) -> FastAPI:
    """Create the ASGI application of a viewer, which is closed when the application shuts down.

    Args:
        hosts: names under which the server may be reached; default: those of this machine alone. This protects against
            other sites that resolve their own name to this machine.
        origins: sites whose pages may read ``/iiif`` and ``/manifest.json``, such as ``http://localhost:3000``; ``*``
            stands for all.
    Raises:
        ConfigError: the extra ``viewer`` is not installed.
    """
    fastapi, routing = require_extra("fastapi", "viewer"), require_extra("starlette.routing", "viewer")
    files = require_extra("starlette.staticfiles", "viewer")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        viewer.responses.load_network()
        try:
            yield
        finally:
            await asyncio.to_thread(viewer.close)

    def route(path: str, endpoint: Endpoint, method: str = "GET") -> Any:
        return routing.Route(path, viewer.responses.with_errors(endpoint), methods=[method])

    routes = [
        route("/", viewer.page),
        route("/api/images", viewer.images),
        route("/api/status", viewer.status),
        route("/api/departure/{id}", viewer.departure),
        route("/api/requests/{token}", viewer.cancel, "DELETE"),
        route("/api/identity/{id}", viewer.identity),
        route("/api/view/{id}", viewer.view),
        route("/api/consistency/{id}", viewer.consistency),
        route("/api/export/{id}", viewer.export),
        route("/manifest.json", viewer.manifest),
        route("/iiif/{id}", viewer.iiif_base),
        route("/iiif/{id}/info.json", viewer.iiif_info),
        route("/iiif/{id}/{region}/{size}/{rotation}/{file}", viewer.iiif_image),
    ]
    if _STATIC.is_dir():
        routes.append(routing.Mount("/static", files.StaticFiles(directory=_STATIC)))
    app: FastAPI = fastapi.FastAPI(
        routes=routes,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys((404, 405), viewer.responses.no_such_address),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        title="monai_iste viewer",
    )
    if origins:
        app.add_middleware(OpenToOrigins, origins=origins)
    app.add_middleware(CommonHeaders, is_open=bool(origins))
    app.add_middleware(Access, hosts=hosts or HostNames(), origins=origins, open_paths=OPEN_PATHS)
    return app


def _iiif_uri(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/iiif/{request.path_params['id']}"


def _image_size(image: CatalogImage, method: str | None) -> tuple[int, int]:
    """Return the (h, w) of the slide, or of its virtual image if a method is given."""
    factor = 1 if method is None else VIRTUAL_SCALE
    return factor * image.size[0], factor * image.size[1]


def _parse_number(text: str | None, name: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text if text is not None and len(text) <= 40 else "")
    except ValueError:
        received = "none" if text is None else repr(text[:100])
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{what} as {name}", received, "Ask for x, y, w, h, width and height.") from None
