"""HTTP responses of the viewer: cached or newly rendered images, JSON, and errors with a status code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from monai_iste.errors import DataError, ISTEError, require_extra
from monai_iste.viewer.catalog import CatalogImage, ImageChanged, UnknownImage
from monai_iste.viewer.rendering import CheckCancelled, Renderer
from monai_iste.viewer.viewport import Viewport
from monai_iste.viewer.workers import Cancelled, QueueFull, Task, WorkerPool

if TYPE_CHECKING:
    from fastapi import Request, Response

_HTTP_STATUS = ((UnknownImage, 404), (ImageChanged, 409), (Cancelled, 409), (QueueFull, 503), (DataError, 500))

_POLL_SECONDS = 0.2  # interval between two checks whether the client is still connected

_log = logging.getLogger("monai_iste.viewer")

Endpoint = Callable[["Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class ImageFile:
    """File of an image, and headers that are known only once it is rendered."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the file, by which caches count."""
        return len(self.body)


@dataclass(frozen=True)
class RenderRequest:
    """Image response to be rendered.

    Attributes:
        image, viewport: place and size.
        method: a member of :data:`~monai_iste.viewer.rendering.METHODS`.
        kind: kind of file; with the place and the method it identifies the bytes.
        media_type: media type of the file.
        produce: renders and encodes the image; its argument raises once the request is cancelled.
        headers: further headers of the response.
    """

    image: CatalogImage
    viewport: Viewport
    method: str
    kind: str
    media_type: str
    produce: Callable[[CheckCancelled], bytes | ImageFile]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def inferred(self) -> bool:
        """True if the network computes the pixels."""
        return self.effective_method == "sr"

    @property
    def effective_method(self) -> str:
        """The method, or "resampled" if the slide itself has all the pixels."""
        return self.method if self.viewport.is_upscaled(self.image.size) else "resampled"


class ResponseBuilder:
    """Build responses from the cache or by one of two worker pools.

    The network has a pool of one thread. Reading and interpolation have a pool of two, so that they never wait for the
    network.

    Args:
        renderer: renders the pixels.
        network_info: preset, weights (their checksum), precision and device of the network, and ``input_blur`` if told.
        max_queued: largest number of requests that wait for the network; four times as many may wait for a slide.
        threads: processor threads of the network; default: as many as PyTorch has.
    Raises:
        ConfigError: the extra ``viewer`` is not installed.
    """

    def __init__(
        self, renderer: Renderer, network_info: dict[str, str], max_queued: int = 64, threads: int | None = None
    ) -> None:
        self._starlette: Any = require_extra("starlette.responses", "viewer")
        self.renderer, self.network_info = renderer, network_info
        threads = threads or torch.get_num_threads()
        self.network_pool = WorkerPool(1, max_queued, lambda: torch.set_num_threads(threads))
        self.slide_pool = WorkerPool(2, 4 * max_queued, lambda: torch.set_num_threads(1))
        self.load_error: str | None = None

    def load_network(self) -> None:
        """Load the network in the background."""

        def load(task: Task) -> None:
            try:
                self.renderer.network  # noqa: B018
            except ISTEError as error:
                self.load_error = str(error)
                _log.error("%s", error)

        self.network_pool.submit(load)

    def close(self) -> None:
        """Stop all work."""
        self.network_pool.close()
        self.slide_pool.close()

    def cancel(self, token: str) -> int:
        """Cancel all work with a token and return the number of tasks."""
        return self.network_pool.cancel(token) + self.slide_pool.cancel(token)

    async def image(self, request: Request, render: RenderRequest) -> Response:
        """Return an image: 304 if the client has it, else from the cache, else newly rendered.

        Older requests of the same client are cancelled.
        """
        started = time.perf_counter()
        newest = Task(request.query_params.get("token"))
        for pool in (self.network_pool, self.slide_pool):
            pool.cancel_older(newest)
        version = render.image.version
        key = self._cache_key(render)
        etag = f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'
        headers = self._image_headers(render, etag)
        if etag in request.headers.get("if-none-match", ""):
            not_modified: Response = self._starlette.Response(status_code=304, headers=headers)
            return not_modified
        file, source = self.renderer.cache.get(key), "cached"
        if file is None:
            file, source = await self._run_on(request, render, version), "computed"
            self.renderer.cache.put(key, file)
        _log_image(render, source, time.perf_counter() - started)
        headers |= file.headers
        response: Response = self._starlette.Response(file.body, media_type=render.media_type, headers=headers)
        return response

    def json(
        self,
        content: Any,
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        """Return a JSON response."""
        headers = {"Cache-Control": "no-cache", **(headers or {})}
        response: Response = self._starlette.Response(json.dumps(content), status, headers, media_type)
        return response

    def file(self, path: Any, headers: dict[str, str]) -> Response:
        """Return the content of a file."""
        response: Response = self._starlette.FileResponse(path, headers=headers)
        return response

    def redirect(self, url: str) -> Response:
        """Return a redirection (303)."""
        response: Response = self._starlette.RedirectResponse(url, 303)
        return response

    def error(self, error: ISTEError) -> Response:
        """Return an error message with its status code."""
        status = next((code for kind, code in _HTTP_STATUS if isinstance(error, kind)), 400)
        headers = {"Retry-After": "2"} if status == 503 else {}
        if status >= 500:
            _log.error("%s", error)
        return self.json({"error": str(error)}, headers=headers, status=status)

    async def no_such_address(self, request: Request, error: Any) -> Response:
        """Return the error for an address or a method that the server does not have."""
        what = "an address of this server" if error.status_code == 404 else "a method that this address has"
        sentence = f"Expected {what}, got another. See docs/viewer.md, or /api/images for the images."
        return self.json({"error": sentence}, headers=error.headers, status=error.status_code)

    def with_errors(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint so that errors become responses; the log has the traceback of a defect."""

        async def wrapped(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ISTEError as error:
                return self.error(error)
            except Exception as error:
                _log.exception("%s %s", request.method, request.url.path)
                sentence = f"Expected an answer, got {type(error).__name__}. The viewer's output says more."
                return self.json({"error": sentence}, status=500)

        return wrapped

    async def _run_on(self, request: Request, render: RenderRequest, version: str) -> ImageFile:
        """Render an image of a version of its file; those of a file that changed meanwhile are no result."""
        try:
            file = await self._run(request, render)
        except (Cancelled, QueueFull):
            raise
        except Exception:
            render.image.check_version(version)
            raise
        render.image.check_version(version)
        return file if isinstance(file, ImageFile) else ImageFile(file)

    async def _run(self, request: Request, render: RenderRequest) -> bytes | ImageFile:
        """Render an image in its pool, and cancel it when the client disconnects."""
        if render.inferred and self.load_error is not None:
            raise QueueFull("a network", self.load_error, "Start the viewer with another one.")
        pool = self.network_pool if render.inferred else self.slide_pool
        task = pool.submit(lambda task: render.produce(task.check), request.query_params.get("token"))
        assert task.future is not None
        result = asyncio.wrap_future(task.future)
        try:
            while not (await asyncio.wait({result}, timeout=_POLL_SECONDS))[0]:
                if await request.is_disconnected():
                    task.cancel()
            return result.result()
        except asyncio.CancelledError:
            task.cancel()
            if result.cancelled():  # cancelled before it started; otherwise this coroutine itself is being cancelled
                task.check()
            raise

    def _cache_key(self, render: RenderRequest) -> tuple[Any, ...]:
        info = self.network_info
        network = (
            (info["preset"], info["weights"], info["precision"], info.get("input_blur")) if render.inferred else ()
        )
        return render.image.id, render.image.version, render.kind, render.effective_method, render.viewport, network

    def _image_headers(self, render: RenderRequest, etag: str) -> dict[str, str]:
        native = render.image.size
        return {
            "ETag": etag,
            "Cache-Control": "private, no-cache",  # always revalidated: an id may be another slide after a restart
            "X-Region": ",".join(f"{n:.10g}" for n in render.viewport.extent(native)),
            "X-Scale": f"{render.viewport.scale(native)[1]:.10g}",
            "X-Method": render.effective_method,
            "X-Inferred": str(render.inferred).lower(),
            **({"X-Preset": self.network_info["preset"]} if render.inferred else {}),
            **render.headers,
        }


def _log_image(render: RenderRequest, source: str, seconds: float) -> None:
    viewport = render.viewport
    y, x = viewport.scale(render.image.size)
    _log.info(
        "%s %s %s x%.10g (y %.10g) grid %dx%d at %d,%d %dx%d %s %.3f s",
        *(render.kind, render.image.id, render.effective_method, x, y, viewport.size[1], viewport.size[0]),
        *(viewport.left, viewport.top, viewport.width, viewport.height, source, seconds),
    )
