"""Whether an ack can be true, before any of it is believed."""

from __future__ import annotations

from agent.base.errors import MessageError
from agent.base.values import Ack
from agent.journal.rows import MAX_SEQ

MAX_CODE_CHARACTERS = 64
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999


def check_ack(ack: Ack, last: int | None) -> None:
    """Raise MessageError unless *ack* fits an epoch whose last number handed out is *last*.

    *last* is None for an epoch from before a salvage: its end may have been lost with the damage,
    while the city rightly has it.
    """
    ranges = [("have", first, end) for first, end in ack.have]
    ranges += [("nack", nack.seq, nack.seq) for nack in ack.nack]
    if ack.upto != 0:
        ranges.append(("upto", 1, ack.upto))
    if not 0 <= ack.server_time_ms <= MAX_TIME_MS:
        raise MessageError(
            f"ack for epoch {ack.epoch}: server_time {ack.server_time_ms} is no time in ms"
        )
    for name, first, end in ranges:
        if not 1 <= first <= end <= MAX_SEQ:
            raise MessageError(
                f"ack for epoch {ack.epoch}: {name} {first}..{end} is no range of event numbers"
            )
        if last is not None and end > last:
            raise MessageError(
                f"ack for epoch {ack.epoch}: {name} {end} is beyond {last}, the last number this"
                " device has handed out; was its journal replaced by an older copy?"
            )


def storable_code(code: str) -> str:
    """The city's reason, short and storable: JSON may carry halves of characters."""
    return code[:MAX_CODE_CHARACTERS].encode("utf-8", "replace").decode()
