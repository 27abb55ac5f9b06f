"""The city's tables, one definition for SQLite and PostgreSQL; ``migrations`` makes them so."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table

METADATA = MetaData()


def _key(name: str) -> Column[Any]:
    return Column(name, String, primary_key=True)


def _number(name: str, *, key: bool = False, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, primary_key=key, nullable=nullable, autoincrement=False)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, String, nullable=nullable)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False)


EVENT = Table(
    "event",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("kind"),
    _text("purpose"),
    _text("person"),
    _text("place_kind"),
    _text("place"),
    _text("door"),
    _text("stop", nullable=True),
    _text("boot"),
    _number("mono_ms"),
    _number("wall_ms"),
    _text("clock"),
    _number("error_ms"),
    _number("corrected_ms", nullable=True),
    _number("received_ms"),
)
# Events the city could not take: known, so that the sequence has no hole there.
REJECTED = Table(
    "rejected",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("code"),
    _number("received_ms"),
)
# One sequence. Up to ``upto`` every number is an event, rejected, or a known gap; ``last`` is the
# greatest number heard of; up to ``floor`` events were deleted after their time, so a repeat of
# one is no news. While something is missing, ``waiting_ms`` says since when there was no progress.
STREAM = Table(
    "stream",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("upto"),
    _number("last"),
    _number("floor"),
    _number("waiting_ms", nullable=True),
    _flag("born"),
)
# Numbers the device said it will never send, and why.
GAP = Table(
    "gap",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("first", key=True),
    _number("last"),
    _number("noted_ms"),
    _text("reason"),
)
# ``aside`` says why nothing more is taken from a device; empty when it is in order. ``returns``
# counts births that went back to a journal it had left.
DEVICE = Table(
    "device",
    METADATA,
    _key("name"),
    _flag("online"),
    _number("connection"),
    _text("birth"),
    _number("last_seen_ms"),
    _text("aside"),
    _number("returns"),
)
# Unix less monotonic time of a boot, for events whose clock was unknown when they were stored.
CLOCK = Table("clock", METADATA, _key("device"), _key("boot"), _number("offset_ms"))
# What devices were commanded, until it is answered or its time is over, and what came of it.
COMMAND = Table(
    "command",
    METADATA,
    _key("id"),
    _text("device"),
    _number("counter"),
    _text("command"),
    _text("arguments"),
    _number("made_ms"),
    _number("expires_ms"),
    _number("sent_ms", nullable=True),
    _number("sends"),
    _text("state"),
    _text("reason"),
    _text("detail"),
    _number("answered_ms", nullable=True),
)
# Settings set from here, every version.
CONFIG = Table(
    "config",
    METADATA,
    _key("device"),
    _number("version", key=True),
    _number("base"),
    _text("settings"),
    _text("state"),
    _text("problems"),
    _number("made_ms"),
    _number("sent_ms", nullable=True),
    _number("answered_ms", nullable=True),
)
# Residents enrolled at a device: ``sealed`` is base64, for the city's enrolment key alone, and goes
# when the enrolment is settled. ``state`` is "new", then "taken" or "refused".
ENROLMENT = Table(
    "enrolment",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("sealed"),
    _text("state"),
    _text("reason"),
    _number("received_ms"),
)
# Residents enrolled at a device: ``sealed`` is base64, for the city's enrolment key alone, and goes
# when the enrolment is settled. ``state`` is "new", then "taken" or "refused".
ENROLMENT = Table(
    "enrolment",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("sealed"),
    _text("state"),
    _text("reason"),
    _number("received_ms"),
)
UNKNOWN_CLOCKS = ("saved", "unset")
