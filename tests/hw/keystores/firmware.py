"""A Raspberry Pi's firmware behind its mailbox, as far as OTP rows go.

Answers as the real one does: in place, in little-endian words, with bit 31 set in the codes of
what it understood, the length of the value beside it, and untouched tags it does not know.
"""

from __future__ import annotations

import struct

SUCCESS, FAILURE = 0x8000_0000, 0x8000_0001
GET_PRIVATE_KEY = 0x0003_0081
ROWS_OF_A_PI_4 = 8


class Firmware:
    """*rows* are the words burnt; *locked* as ``lock_device_private_key=1`` in config.txt does."""

    def __init__(self, rows: tuple[int, ...] = (0,) * ROWS_OF_A_PI_4, *, locked: bool = False):
        self.rows = rows
        self.locked = locked
        self.calls = 0

    def __call__(self, message: bytearray) -> None:
        self.calls += 1
        size, code = struct.unpack_from("<2I", message)
        if size != len(message) or size % 4 or code != 0:
            struct.pack_into("<I", message, 4, FAILURE)
            return
        at = 8
        while tag := struct.unpack_from("<I", message, at)[0]:
            room = struct.unpack_from("<I", message, at + 4)[0]
            if tag == GET_PRIVATE_KEY and not self.locked:
                self._answer(message, at, room)
            at += 12 + room
        struct.pack_into("<I", message, 4, SUCCESS)

    def _answer(self, message: bytearray, at: int, room: int) -> None:
        first, count = struct.unpack_from("<2I", message, at + 12)
        if first + count > len(self.rows):
            return
        value = struct.pack(f"<{2 + count}I", first, count, *self.rows[first : first + count])
        struct.pack_into("<I", message, at + 8, 1 << 31 | len(value))
        message[at + 12 : at + 12 + min(room, len(value))] = value[:room]
