"""Hosts that only this machine can reach."""

import pytest

from monai_iste.viewer.sockets import is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_are_this_machine_alone(host, loopback):
    assert is_loopback(host) == loopback
