"""Where the servers listen: on this machine alone, unless somebody says otherwise."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

from monai_iste.errors import OutputError

#: What the Host header of a request says that came from a browser on this machine.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def in_address(host: str) -> str:
    """A host as addresses have it.

    Example:
        >>> in_address("::1")
        '[::1]'
    """
    return f"[{host}]" if ":" in host else host


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything is loaded for it.

    Raises:
        OutputError: the port is taken, or the address is not this machine's.
    """
    if not host:  # the system would take it for all of its addresses
        raise OutputError("a host to listen at", "none", "127.0.0.1 is this machine alone.")
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: no name that any machine has
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(
            f"a free port {port} at {host}", reason or str(error), "Choose another: --port 0 takes a free one."
        ) from error
