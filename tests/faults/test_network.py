"""The misbehaving network does what its name says, and carries everything otherwise."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from random import Random

import pytest

from tests.faults.network import Proxy
from tests.waiting import LATE_SECONDS


@pytest.fixture
def ends() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and both ends of a connection through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(Proxy(server.getsockname()[1])) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), 5.0) as near,
        server.accept()[0] as far,
    ):
        far.settimeout(LATE_SECONDS)
        yield proxy, near, far


def test_it_carries_both_ways(ends: tuple[Proxy, socket.socket, socket.socket]) -> None:
    _, near, far = ends
    near.sendall(b"up")
    assert far.recv(10) == b"up"
    far.sendall(b"down")
    assert near.recv(10) == b"down"


def test_a_delay_holds_back_and_a_stall_holds_until_it_ends(
    ends: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    proxy, near, far = ends
    proxy.delay(0.2)
    begun = time.monotonic()
    near.sendall(b"late")
    assert far.recv(10) == b"late"
    assert time.monotonic() - begun >= 0.2
    proxy.delay(0.0)
    proxy.stall(True)
    far.settimeout(0.1)
    near.sendall(b"held")
    with pytest.raises(TimeoutError):
        far.recv(10)
    far.settimeout(LATE_SECONDS)
    proxy.stall(False)
    assert far.recv(10) == b"held"


def test_a_cut_resets_both_ends(ends: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = ends
    near.sendall(b"x")
    assert far.recv(10) == b"x"
    proxy.cut()
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.recv(10)


def test_a_half_close_ends_one_direction_only(
    ends: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    """At one end reading is over at once; what it writes still arrives at the other."""
    proxy, near, far = ends
    near.sendall(b"x")
    assert far.recv(10) == b"x"
    proxy.half_close(Random(0))
    for end in (near, far):
        end.settimeout(0.2)
    ended, other = near, far
    try:
        assert near.recv(10) == b""
    except TimeoutError:
        ended, other = far, near
        assert far.recv(10) == b""
    ended.sendall(b"still")
    other.settimeout(LATE_SECONDS)
    assert other.recv(10) == b"still"
