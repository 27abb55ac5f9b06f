"""How each device stands with the city, told from its claims and certificates."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device at a glance: "claimed", "waiting" for approval, "active", "expired", "revoked".

    ``key`` is the SHA-256 of the public key that waits, for comparing with what the device shows.
    ``purpose`` says whose gallery it may have, "bus" or "hall"; empty for none.
    """

    name: str
    serial: str
    state: str
    certificates: int
    ends_ms: int
    key: str
    purpose: str


def listed(db: sqlite3.Connection, now_ms: int) -> list[DeviceState]:
    """Every device of the registry *db*, whose rows go by column names; by name."""
    claims = {row["device"]: row for row in db.execute("SELECT * FROM claim")}
    issued = {
        row["device"]: row
        for row in db.execute(
            "SELECT device, serial, COUNT(*) AS count, MAX(ends_ms) AS ends_ms, "
            "MAX(issued_ms), SUM(revoked_ms IS NULL) AS live FROM certificate "
            "GROUP BY device"
        )
    }
    purposes = dict(db.execute("SELECT device, purpose FROM purpose").fetchall())
    return [
        _state(name, claims.get(name), issued.get(name), purposes.get(name, ""), now_ms)
        for name in sorted(claims.keys() | issued.keys())
    ]


def _state(
    name: str,
    claim: sqlite3.Row | None,
    issued: sqlite3.Row | None,
    purpose: str,
    now_ms: int,
) -> DeviceState:
    live = issued["live"] if issued is not None else 0
    ends_ms = issued["ends_ms"] if issued is not None else 0
    waiting = claim is not None and not claim["approved"] and claim["key"] is not None
    if waiting:
        state = "waiting"
    elif live:
        state = "active" if ends_ms > now_ms else "expired"
    elif claim is not None:
        state = "claimed" if claim["expires_ms"] > now_ms else "expired"
    else:
        state = "revoked"
    newest = claim if claim is not None else issued
    assert newest is not None  # noqa: S101 - one of both is why it is listed
    return DeviceState(
        name, newest["serial"], state, live, ends_ms, claim["key"] or "" if claim else "", purpose
    )
