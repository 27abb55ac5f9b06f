"""Signing a gallery's head where the key is: here, or on a machine that is on no network.

What is to be signed travels as a JSON file, the signed head as a text file. The signer remembers
what it signed: whoever has the city's online machine still cannot have an older version signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from agent.base.errors import CityError, MessageError, UsageError
from agent.base.wholefile import write_file
from agent.cityos.pki.ca import Authority
from agent.protocol.forms import Form
from agent.protocol.galleries.messages import HEAD_MESSAGE, Head, Position, sign_head

SIGNED = "gallery-signed.json"


# As the signed head, but each field by the name that ``Head`` gives it.
_HEAD = HEAD_MESSAGE.form
_UNSIGNED = Form(
    Head,
    "unsigned head",
    {_HEAD.names[key]: spec for key, spec in _HEAD.fields.items()},
    checks=_HEAD.checks,
    most_bytes=4_096,
)


def encode_unsigned(head: Head) -> bytes:
    """*head* as a file for the signer."""
    return json.dumps(_UNSIGNED.write(head), indent=1).encode() + b"\n"


def decode_unsigned(told: bytes) -> Head:
    """Raises UsageError unless *told* is what ``encode_unsigned`` makes."""
    try:
        return _UNSIGNED.decode(told)
    except MessageError as error:
        raise UsageError(f"not a head that waits for its signature: {error}") from error


class HeadSigner:
    """Signs heads with the town's gallery key, each position once. Raises CityError."""

    def __init__(self, authority: Authority) -> None:
        self._signer = authority.signer("gallery")
        self._path = authority.directory / SIGNED

    def __call__(self, head: Head, note: Callable[[], object] = lambda: None) -> bytes:
        """The signed head; refused if it is not newer than the last of its gallery.

        *note* is called before it is signed, if it may be.
        """
        signed = self._signed()
        last = signed.get(head.gallery)
        if last is not None:
            position, root = last
            if head.position < position or (head.position == position and head.root != root):
                raise CityError(
                    f"gallery {head.gallery} {head.epoch}.{head.version}: {position[0]}."
                    f"{position[1]} was signed already, and no older or other one is after that"
                )
        note()
        message = sign_head(head, self._signer)
        signed[head.gallery] = head.position, head.root
        try:
            write_file(self._path, json.dumps(signed).encode())
        except OSError as error:
            raise CityError(f"{self._path}: cannot be written: {error.strerror}") from error
        return message

    def last(self, gallery: str) -> Position:
        """The newest version that was signed here, (0, 0) before the first."""
        found = self._signed().get(gallery)
        return found[0] if found else (0, 0)

    def _signed(self) -> dict[str, tuple[Position, str]]:
        try:
            value = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                gallery: ((int(position[0]), int(position[1])), str(root))
                for gallery, (position, root) in value.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise CityError(
                f"{self._path}: cannot be read: {error}; it says what was signed last"
            ) from error


def head_signer(authority: Authority) -> HeadSigner | None:
    """None if the gallery key is not on this machine."""
    if not (Path(authority.directory) / "gallery.key").exists():
        return None
    return HeadSigner(authority)
