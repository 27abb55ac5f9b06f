"""The city's tables, one definition for SQLite and PostgreSQL; ``migrations`` makes them so."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    TextClause,
    text,
)

from agent.base.events import FIX_COLUMNS, TIMETABLE_COLUMNS

METADATA = MetaData()


def _key(name: str) -> Column[Any]:
    return Column(name, String, primary_key=True)


def _number(
    name: str, *, key: bool = False, nullable: bool = False, default: str | None = None
) -> Column[Any]:
    return Column(
        name,
        BigInteger,
        primary_key=key,
        nullable=nullable,
        autoincrement=False,
        server_default=_default(default),
    )


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    return Column(name, String, nullable=nullable, server_default=_default(default))


def _flag(name: str, *, default: str | None = None) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=_default(default))


def _default(sql: str | None) -> TextClause | None:
    return None if sql is None else text(sql)


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index over the rows for which *where* holds, in either engine."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


def _bytes(name: str, *, key: bool = False, nullable: bool = False) -> Column[Any]:
    return Column(name, LargeBinary, primary_key=key, nullable=nullable)


# Counted versions before Alembic did, and turns the programs of that time away.
Table("migration", METADATA, _number("version", key=True), _number("at_ms"))
# Every event has the columns up to ``kind`` and from ``boot`` to ``received_ms``. Those of a
# resident have the others, and ``body`` is NULL; of all other kinds ``body`` is what came beside,
# as JSON, and the place is in the columns too where this program knows the kind.
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
    *(_text(name, nullable=True) for name in TIMETABLE_COLUMNS[:-1]),
    _number("stop_sequence", nullable=True),
    *(_number(f"fix_{name}", nullable=True) for name in FIX_COLUMNS),
    _text("body", nullable=True),
    _partial(
        *("event_uncorrected", "device", "boot"),
        where="corrected_ms IS NULL AND clock IN ('saved', 'unset')",
    ),
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
    _number("last", default="0"),
    _number("floor", default="0"),
    _number("waiting_ms", nullable=True),
    _flag("born", default="FALSE"),
    _partial("stream_waiting", "waiting_ms", where="waiting_ms IS NOT NULL"),
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
    _text("reason", default="'gone'"),
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
    _text("aside", default="''"),
    _number("returns", default="0"),
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
    _partial("command_open", "made_ms", where="state IN ('waiting', 'received')"),
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
    _partial("config_waiting", "made_ms", where="state = 'waiting'"),
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
    _partial("enrolment_new", "received_ms", where="state = 'new'"),
)
UNKNOWN_CLOCKS = ("saved", "unset")

# Residents. ``ref`` is an HMAC of their id; everything else about them is sealed under a key of
# their own, which is not in this database: without it a row is noise, here and in every copy.
# ``revision`` grows with every change; ``next_ms`` is when the next of their consents lapses.
RESIDENT = Table(
    "resident",
    METADATA,
    _bytes("ref", key=True),
    _bytes("profile"),
    _number("revision"),
    _number("next_ms", nullable=True),
)
# Their templates of one model pack, mapped by the city's own template key, then sealed.
TEMPLATE = Table(
    "template",
    METADATA,
    _bytes("ref", key=True),
    _key("pack"),
    _number("row_count"),
    _bytes("rows"),
)


def _member(name: str) -> Table:
    return Table(
        name,
        METADATA,
        _key("gallery"),
        _bytes("ref", key=True),
        _number("version"),
        _number("revision"),
        _number("map"),
        _number("next_ms", nullable=True),
        _number("bucket"),
        _bytes("wire"),
        _bytes("digest", nullable=True),
        _bytes("record", nullable=True),
    )


# Who is in a gallery. ``version`` is the one in which this last changed, so the rows of a version
# are its delta; 0 for who was never in it, -1 for who is said anew, or gone, in the next. ``wire``
# is the key by which devices know the resident and ``record`` what they get, both sealed; without
# ``digest`` they are not in it. ``revision`` and ``map`` (the template key's version) are those
# the row was made from.
MEMBER = _member("member")
Index("member_bucket", MEMBER.c.gallery, MEMBER.c.bucket)
Index("member_version", MEMBER.c.gallery, MEMBER.c.version)
# The same for the version that is being made.
DRAFT = _member("draft")
# A gallery's versions. ``head`` is the signed head, None while it is to be signed; ``buckets`` are
# the 256 digests under its root; ``announced_ms`` when devices were told.
RELEASE = Table(
    "release",
    METADATA,
    _key("gallery"),
    _number("epoch", key=True),
    _number("version", key=True),
    _text("prev"),
    _text("root"),
    _number("people"),
    _number("floor"),
    _number("expires_ms"),
    _text("content_key"),
    _number("issued_ms"),
    _bytes("buckets"),
    _text("head", nullable=True),
    _number("announced_ms", nullable=True),
)
# Versions that devices said they have: ``proven`` when the root they told is the signed one.
HELD = Table(
    "held",
    METADATA,
    _key("device"),
    _key("gallery"),
    _number("epoch", key=True),
    _number("version", key=True),
    _flag("proven"),
    _number("first_ms"),
    _number("last_ms"),
)
# Erasures: since which version of which gallery somebody is gone, None until it is published.
ERASURE = Table(
    "erasure",
    METADATA,
    _key("receipt"),
    _key("gallery"),
    _bytes("ref"),
    _number("at_ms"),
    _number("epoch", nullable=True),
    _number("version", nullable=True),
)
