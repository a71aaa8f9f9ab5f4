"""Listening sockets, on the loopback address unless another host is given."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

from monai_iste.errors import OutputError


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the host.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def url_host(host: str) -> str:
    """Return a host as it is written in a URL: IPv6 addresses in brackets.

    Example:
        >>> url_host("::1")
        '[::1]'
    """
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket, so that a bad address is reported before anything is loaded.

    Raises:
        OutputError: the port is taken, or the address is not one of this machine's.
    """
    if not host:  # the system would listen at all of its addresses
        raise OutputError("a host to listen at", "none", "127.0.0.1 is this machine alone.")
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except (OSError, TypeError, UnicodeError) as error:  # TypeError, UnicodeError: not a valid host name
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(
            f"a free port {port} at {host}", reason or str(error), "Choose another: --port 0 takes a free one."
        ) from error
