"""What the kernel is told about a connection of small packets that should not wait."""

from __future__ import annotations

import socket
from typing import Any

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux alone has it


def send_at_once(sock: Any) -> None:
    """Have the kernel send what it is given (tcp(7), TCP_NODELAY).

    Else a second small packet waits in it until the broker has confirmed the first, and the
    broker's kernel puts that off by 40 ms in the hope of an answer to send along.
    """
    if sock is not None:  # else the connection is over already, and the next turn says why
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def confirm_at_once(sock: Any) -> None:
    """Have the kernel confirm at once what was read (TCP_QUICKACK, which it soon forgets).

    A Mosquitto with its defaults does what ``send_at_once`` avoids: acks would wait for this.
    """
    if sock is not None and _QUICKACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
