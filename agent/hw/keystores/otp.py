"""The Raspberry Pi's one-time-programmable key, read from the firmware through its mailbox.

Eight rows of 32 bits, burnt once with Raspberry Pi's ``rpi-otp-private-key``, lie in the processor
and not on the card. The device key is derived from them and from a random salt in a 0600 file, so
a card alone opens nothing, and the device key can be changed although the rows cannot.

Protects against whoever takes the card. Not against root on this very board, nor, without signed
boot, against whoever boots the board from a card of their own: the firmware gives them the rows.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.base.drivers import KeySourceDriver
from agent.base.errors import KeySourceError
from agent.hw.keystores.file import FileKeySource

DEVICE = Path("/dev/vcio")
# _IOWR(100, 0, char *), include/uapi of the vcio driver; the size of a pointer is part of it.
IOCTL_PROPERTY = 3 << 30 | struct.calcsize("P") << 16 | 100 << 8
# The property interface of the firmware: a message is its size in bytes and a code, then tags of
# (number, size of the value, code, value), then 0; all are 32-bit little-endian words.
GET_PRIVATE_KEY = 0x0003_0081
SUCCESS = 0x8000_0000
ANSWERED = 0x8000_0000
ROWS = 8
KEY_BYTES = 4 * ROWS

Exchange = Callable[[bytearray], None]
"""Hands a message to the firmware, which answers in place. Raises OSError."""


class Salts(Protocol):
    """Where the salts are kept: a ``FileKeySource``."""

    def load(self, name: str) -> bytes | None: ...
    def create(self, name: str) -> bytes: ...
    def promote(self, name: str, to: str) -> None: ...


class OtpKeySource:
    """Keys that exist only on one board: derived from its OTP rows and a salt each."""

    def __init__(self, salts: Salts, exchange: Exchange | None = None) -> None:
        """*exchange* stands in for the firmware behind /dev/vcio."""
        self._salts = salts
        self._exchange = exchange or _through_device

    def __str__(self) -> str:
        return f"this board's OTP rows and the salts in {self._salts}"

    def load(self, name: str) -> bytes | None:
        """The key called *name*, None if there is no salt for it.

        Raises KeySourceError if the rows are not burnt or cannot be read, or the salt is unsafe.
        """
        salt = self._salts.load(_salt(name))
        return None if salt is None else self._derived(salt)

    def create(self, name: str) -> bytes:
        """A new key under a new salt. Raises KeySourceError as ``load``, or if there is one."""
        read_private_key(self._exchange)  # no salt without rows to use it with
        return self._derived(self._salts.create(_salt(name)))

    def promote(self, name: str, to: str) -> None:
        """Make the key called *name* the one called *to*, in one step; the old one is gone."""
        self._salts.promote(_salt(name), _salt(to))

    def _derived(self, salt: bytes) -> bytes:
        rows = read_private_key(self._exchange)
        return HKDF(SHA256(), 32, salt=salt, info=b"kaopass/1 otp device key").derive(rows)


def read_private_key(exchange: Exchange) -> bytes:
    """The 32 bytes burnt into this board. Raises KeySourceError saying what to do."""
    value = struct.pack("<2I", 0, ROWS) + bytes(KEY_BYTES)
    tag = struct.pack("<3I", GET_PRIVATE_KEY, len(value), 0) + value
    message = bytearray(struct.pack("<2I", 12 + len(tag), 0) + tag + bytes(4))
    try:
        exchange(message)
    except OSError as error:
        raise KeySourceError(
            f"the firmware's mailbox {DEVICE} cannot be used: {error.strerror}; the OTP key is a"
            " Raspberry Pi's: the agent's user must be in the group video, and its unit needs"
            f" DeviceAllow={DEVICE} rw"
        ) from error
    code, answered = (
        struct.unpack_from("<I", message, 4)[0],
        struct.unpack_from("<I", message, 16)[0],
    )
    if code != SUCCESS or not answered & ANSWERED or answered & ~ANSWERED < len(value):
        raise KeySourceError(
            f"the firmware did not give the OTP key (code {code:#010x}, tag {answered:#010x}): it"
            " is too old, or locked by lock_device_private_key in config.txt; update or unlock it"
        )
    rows = b"".join(struct.pack(">I", row) for row in struct.unpack_from(f"<{ROWS}I", message, 28))
    if rows == bytes(KEY_BYTES):
        raise KeySourceError(
            "the OTP rows of this board are empty; burn a key once and for all with:"
            " rpi-otp-private-key -w $(openssl rand -hex 32)"
        )
    return rows


def _salt(name: str) -> str:
    # Another name than a key file's, which must not be taken for a salt when the source changes.
    return f"otp-{name}"


def _through_device(message: bytearray) -> None:
    handle = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, IOCTL_PROPERTY, message, True)
    finally:
        os.close(handle)


def _with_salts(directory: Path) -> OtpKeySource:
    return OtpKeySource(FileKeySource(directory))


DRIVER = KeySourceDriver(
    _with_salts,
    _with_salts,
    protects="whoever holds the card alone; not whoever holds the board",
    file=_salt("device-key"),
)
