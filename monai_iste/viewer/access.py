"""Access to a server on this machine: under which host names, and from the pages of which sites.

A browser sends requests of any page to any address. A page of another site must therefore neither read from these
servers nor change anything: the ``Host`` header tells under which name the server was reached, ``Origin`` and
``Sec-Fetch-Site`` tell which page asks.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from monai_iste.errors import ConfigError, ISTEError
from monai_iste.viewer.sockets import is_loopback, url_host

#: Origin that stands for every site.
ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Forbidden(ISTEError, PermissionError):
    """A page of another site asks."""


class UnknownHost(ISTEError, ValueError):
    """The server was reached under a name that is not its own."""


def check_origin(text: str) -> str:
    """Return an origin as browsers write it, or raise ConfigError.

    Example:
        >>> check_origin("http://LOCALHOST:3000/"), check_origin("https://example.org:443"), check_origin("*")
        ('http://localhost:3000', 'https://example.org', '*')
    """
    if text == ANY:
        return text
    with suppress(ValueError):
        parts = urlsplit(text)
        plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or "@" in parts.netloc)
        if parts.scheme in _DEFAULT_PORTS and plain and _is_host(parts.hostname):
            port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
            return f"{parts.scheme}://{url_host(str(parts.hostname))}{port}"
    raise ConfigError(
        "the address of a site", repr(text[:100]), "Such as http://localhost:3000, without a path; * is every site."
    )


def check_host_name(text: str) -> str:
    """Return a host name in small letters, or raise ConfigError.

    Example:
        >>> check_host_name("Slides.example.org")
        'slides.example.org'
    """
    if not _is_host(text):
        raise ConfigError("a host name", repr(text[:100]), "Such as slides.example.org, without http:// and port.")
    return text.lower()


class HostNames:
    """Names under which a server may be reached.

    A server of this machine alone is reached under its loopback addresses and ``localhost``. Any other is reached under
    every address, since a page cannot choose one for another site, and under this machine's own names.

    Args:
        host: address that the server listens at.
        names: further names, such as that of a proxy.

    Example:
        >>> own = HostNames("127.0.0.1")
        >>> [host in own for host in ("127.0.0.1:8000", "[::1]:80", "localhost", "evil.example:8000", "10.0.0.1")]
        [True, True, True, False, False]
        >>> "10.0.0.1:8000" in HostNames("0.0.0.0"), "evil.example" in HostNames("0.0.0.0")
        (True, False)
    """

    def __init__(self, host: str = "127.0.0.1", names: Iterable[str] = ()) -> None:
        self._is_loopback = is_loopback(host)
        self._names = {"localhost", *(check_host_name(name) for name in names)}
        if not self._is_loopback:
            machine = socket.gethostname().lower()
            self._names |= {host.lower(), machine, f"{machine.partition('.')[0]}.local", socket.getfqdn().lower()}

    def __contains__(self, header: str) -> bool:
        """Check the value of a Host header."""
        try:
            parts = urlsplit(f"//{header}")
            name, _ = parts.hostname, parts.port  # the port raises ValueError unless it is a number
        except ValueError:
            return False
        if name is None or parts.netloc != header or "@" in header:
            return False
        with suppress(ValueError):
            address = ipaddress.ip_address(name)
            return address.is_loopback or not self._is_loopback
        return name.rstrip(".") in self._names


class Access:
    """ASGI middleware that refuses requests under a foreign name, and those of pages of other sites.

    Args:
        app: the application.
        hosts: names of the server.
        origins: other sites whose pages may read the addresses in ``open_paths`` (:func:`check_origin`).
        open_paths: beginnings of these addresses.
        pages: regular expression of addresses to which another site may link.
        key: key of the sentence in the JSON of a refusal.
    """

    def __init__(
        self,
        app: Any,
        hosts: HostNames,
        origins: Sequence[str] = (),
        open_paths: tuple[str, ...] = (),
        pages: str = ".*",
        key: str = "error",
    ) -> None:
        self.app, self.hosts, self.origins, self.open_paths = app, hosts, origins, open_paths
        self.pages, self.key = re.compile(pages), key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except UnknownHost as error:
                await send_json(send, 400, {self.key: str(error)})
                return
            except Forbidden as error:
                await send_json(send, 403, {self.key: str(error)})
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Any) -> None:
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        host = hosts[0] if len(hosts) == 1 else ""
        if host not in self.hosts:
            raise UnknownHost(
                "a name of this server in the address",
                repr(host[:100]),
                "Add it when you start the server: --allow-host.",
            )
        is_open = bool(self.origins) and scope["path"].startswith(self.open_paths or "\0")
        for origin in origins:
            if not _is_own(origin, host) and not (is_open and (ANY in self.origins or origin in self.origins)):
                raise Forbidden("a page of this server", f"one of {origin[:100]!r}", _remedy(scope, self.open_paths))
        sites = {site.strip().lower() for site in _headers(scope, b"sec-fetch-site")}
        if origins or sites <= {"same-origin", "none"} or is_open or self._is_link(scope):
            return
        raise Forbidden("a page of this server", "one of another site", _remedy(scope, self.open_paths))

    def _is_link(self, scope: Any) -> bool:
        """Check whether somebody followed a link, which does not let the other site read anything."""
        if scope["method"] != "GET" or self.pages.fullmatch(scope["path"]) is None:
            return False
        return _headers(scope, b"sec-fetch-mode") == ["navigate"] and _headers(scope, b"sec-fetch-dest") == ["document"]


async def send_json(send: Any, status: int, content: Any) -> None:
    """Send a JSON response through an ASGI channel."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _is_own(origin: str, host: str) -> bool:
    """Check whether an origin is the server itself, reached under the name in the Host header."""
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"{parts.scheme}://{host}")
        default = _DEFAULT_PORTS.get(parts.scheme)
        return parts.scheme in _DEFAULT_PORTS and (parts.hostname, parts.port or default) == (
            own.hostname,
            own.port or default,
        )
    except ValueError:
        return False


def _remedy(scope: Any, open_paths: tuple[str, ...]) -> str:
    if open_paths and scope["path"].startswith(open_paths):
        return "Start the server with --allow-origin and the address of that site."
    return "Other sites have no access to this address."


def _is_host(name: str | None) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name or ""))
    return re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", (name or "").lower()) is not None
