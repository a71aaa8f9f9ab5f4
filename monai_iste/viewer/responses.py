"""How a request is answered: from memory, by the desk that has the pixels made, or with a sentence and a status."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from monai_iste.errors import DataError, ISTEError, require_extra
from monai_iste.viewer.catalog import UnknownImage, ViewedImage
from monai_iste.viewer.rendering import Renderer
from monai_iste.viewer.viewport import Frame
from monai_iste.viewer.workers import Cancelled, QueueFull, Task, WorkerPool

if TYPE_CHECKING:
    from fastapi import Request, Response

_HTTP_ERRORS = ((UnknownImage, 404), (Cancelled, 409), (QueueFull, 503), (DataError, 500))


_POLL = 0.2  # seconds between two looks whether the client is still there

_log = logging.getLogger("monai_iste.viewer")

Endpoint = Callable[["Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class Picture:
    """One answer with pixels, described before it is computed."""

    image: ViewedImage
    frame: Frame
    method: str
    kind: str
    media_type: str
    make: Callable[[Task], bytes]
    headers: dict[str, str]

    @property
    def inferred(self) -> bool:
        return self.shown == "sr"

    @property
    def shown(self) -> str:
        """The method, or "resampled" where the slide has all these pixels itself."""
        return self.method if self.frame.magnifies(self.image.size) else "resampled"


class ResponseBuilder:
    """Two desks, one thread for the network and two for everything else, and the answers that they give.

    Args:
        renderer: where pixels come from.
        about: of the network: preset, weights (their checksum), precision and device.
        queue: how many requests may wait for the network; four times as many for the slides.
        threads: processor threads of the network; default: PyTorch's choice.
    Raises:
        ConfigError: the extra ``viewer`` is not installed.
    """

    def __init__(self, renderer: Renderer, about: dict[str, str], queue: int = 64, threads: int | None = None) -> None:
        self.responses: Any = require_extra("starlette.responses", "viewer")
        self.renderer, self.about = renderer, about
        self.computing = WorkerPool(1, queue, None if threads is None else lambda: torch.set_num_threads(threads))
        self.reading = WorkerPool(2, 4 * queue)
        self.failure: str | None = None

    def warm_up(self) -> None:
        """Load the network while the first picture is looked at."""

        def load(ticket: Task) -> None:
            try:
                self.renderer.network  # noqa: B018
            except ISTEError as error:
                self.failure = str(error)
                _log.error("%s", error)

        self.computing.submit(load)

    def close(self) -> None:
        """Stop all work."""
        self.computing.close()
        self.reading.close()

    async def answer(self, request: Request, picture: Picture) -> Response:
        """A picture from memory, from the browser's, or from the desk that makes it."""
        started = time.perf_counter()
        newer = Task(request.query_params.get("token"))
        for desk in (self.computing, self.reading):
            desk.overtake(newer)
        frame, native = picture.frame, picture.image.size
        network = (self.about["preset"], self.about["weights"], self.about["precision"]) if picture.inferred else ()
        key = picture.image.digest, picture.kind, picture.shown, frame, network
        tag = f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'
        y, x = frame.scale(native)
        headers = {
            "ETag": tag,
            "Cache-Control": "private, no-cache",  # asked for again each time: an id may be another slide tomorrow
            "X-Region": ",".join(f"{n:.10g}" for n in frame.extent(native)),
            "X-Scale": f"{x:.10g}",
            "X-Method": picture.shown,
            "X-Inferred": str(picture.inferred).lower(),
            **({"X-Preset": self.about["preset"]} if picture.inferred else {}),
            **picture.headers,
        }
        if tag in request.headers.get("if-none-match", ""):
            unchanged: Response = self.responses.Response(status_code=304, headers=headers)
            return unchanged
        body, source = self.renderer.cache.get(key), "memory"
        if body is None:
            body, source = await self._made(request, picture), "computed"
            self.renderer.cache.put(key, body)
        _log.info(
            "%s %s %s x%.10g (y %.10g) grid %dx%d at %d,%d %dx%d %s %.3f s",
            *(picture.kind, picture.image.id, picture.shown, x, y, frame.size[1], frame.size[0]),
            *(frame.left, frame.top, frame.width, frame.height, source, time.perf_counter() - started),
        )
        response: Response = self.responses.Response(body, media_type=picture.media_type, headers=headers)
        return response

    async def _made(self, request: Request, picture: Picture) -> bytes:
        if picture.inferred and self.failure is not None:
            raise QueueFull("a network", self.failure, "Start the viewer with another one.")
        desk = self.computing if picture.inferred else self.reading
        ticket = desk.submit(picture.make, request.query_params.get("token"))
        assert ticket.future is not None
        result = asyncio.wrap_future(ticket.future)
        try:
            while not (await asyncio.wait({result}, timeout=_POLL))[0]:
                if await request.is_disconnected():
                    ticket.cancel()
            return result.result()
        except asyncio.CancelledError:
            ticket.cancel()
            if result.cancelled():  # before it began; otherwise it is this task that ends
                ticket.check()
            raise

    def json(
        self,
        content: Any,
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        headers = {"Cache-Control": "no-cache", **(headers or {})}
        response: Response = self.responses.Response(json.dumps(content), status, headers, media_type)
        return response

    def refuse(self, error: ISTEError) -> Response:
        status = next((code for kind, code in _HTTP_ERRORS if isinstance(error, kind)), 400)
        headers = {"Retry-After": "2"} if status == 503 else {}
        if status >= 500:
            _log.error("%s", error)
        return self.json({"error": str(error)}, headers=headers, status=status)

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, whose errors of the family become answers."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ISTEError as error:
                return self.refuse(error)

        return answer
