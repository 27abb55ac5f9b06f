"""Event bodies encrypted for the disk: what is stored names no person, place or stop.

AES-256-GCM with a random 12-byte nonce a row. Identity and times stay readable beside the sealed
body, because retention and acks work on them, and are authenticated with it: a row that was moved,
renumbered or re-timed no longer opens.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.base.errors import JournalError, MessageError
from agent.base.events import Event, Moment
from agent.protocol.events.kinds import read_body, write_body
from agent.protocol.fields import compact

KEY_BYTES = 32
NONCE_BYTES = 12


class Sealer:
    """Seals and opens event bodies under one 32-byte key. Raises JournalError for another size."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise JournalError(
                f"the journal key has {len(key)} bytes instead of {KEY_BYTES}: check the key source"
            )
        self._aes = AESGCM(key)
        self.key_check = hmac.new(key, b"kaopass journal key check 1", hashlib.sha256).hexdigest()
        """Tells another key from this one; says nothing about either."""

    def seal(self, epoch: str, seq: int, event: Event) -> bytes:
        """Nonce and ciphertext of *event* as number *seq* of *epoch*."""
        text = compact(write_body(event))
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, text, _identity(epoch, seq, event.moment))

    def resealed(
        self, epoch: str, seq: int, moment: Moment, sealed: bytes, other: Sealer
    ) -> bytes | None:
        """What is *sealed* here, as *other* seals it; None when it does not open."""
        data = _identity(epoch, seq, moment)
        try:
            text = self._aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], data)
        except (InvalidTag, ValueError):
            return None
        nonce = os.urandom(NONCE_BYTES)
        return nonce + other._aes.encrypt(nonce, text, data)

    def unseal(self, epoch: str, seq: int, moment: Moment, sealed: bytes) -> Event | None:
        """The event behind *sealed*; None when row, body or key are not those it was sealed with.

        What this version cannot read, as a newer one may have written it, is an UnknownEvent.
        """
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            text = self._aes.decrypt(nonce, ciphertext, _identity(epoch, seq, moment))
            return read_body(json.loads(text.decode()), moment)
        except (InvalidTag, MessageError, ValueError, KeyError, TypeError, struct.error):
            return None


def _identity(epoch: str, seq: int, moment: Moment) -> bytes:
    numbers = struct.pack(">qqqq", seq, moment.mono_ms, moment.wall_ms, moment.error_ms)
    return b"\0".join(
        (
            b"kaopass event 1",
            bytes.fromhex(epoch),
            numbers,
            f"{moment.boot}\0{moment.clock}".encode(),
        )
    )
