"""The city's schema, version by version, on both engines; each step and its record are one commit.

A list of plain statements instead of a migration framework: the history is one straight line, the
statements are the same for SQLite and PostgreSQL, and a worker has to bring them with it when it
starts by itself. A test compares the outcome with ``schema.METADATA``.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine, inspect, text

from agent.base.errors import CityError

_IDENTITY = "device VARCHAR NOT NULL, epoch VARCHAR NOT NULL"
_MEMBER = (
    "gallery VARCHAR NOT NULL, ref BYTEA NOT NULL, version BIGINT NOT NULL,"
    " revision BIGINT NOT NULL, map BIGINT NOT NULL, next_ms BIGINT, bucket BIGINT NOT NULL,"
    " wire BYTEA NOT NULL, digest BYTEA, record BYTEA, PRIMARY KEY (gallery, ref)"
)
# Version 1 is what was made before versions were counted, so its tables may be there already.
_VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE IF NOT EXISTS event ({_IDENTITY}, seq BIGINT NOT NULL,"
        " kind VARCHAR NOT NULL, purpose VARCHAR NOT NULL, person VARCHAR NOT NULL,"
        " place_kind VARCHAR NOT NULL, place VARCHAR NOT NULL, door VARCHAR NOT NULL,"
        " stop VARCHAR, boot VARCHAR NOT NULL, mono_ms BIGINT NOT NULL, wall_ms BIGINT NOT NULL,"
        " clock VARCHAR NOT NULL, error_ms BIGINT NOT NULL, corrected_ms BIGINT,"
        " received_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, seq))",
        f"CREATE TABLE IF NOT EXISTS rejected ({_IDENTITY}, seq BIGINT NOT NULL,"
        " code VARCHAR NOT NULL, received_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, seq))",
        f"CREATE TABLE IF NOT EXISTS stream ({_IDENTITY}, upto BIGINT NOT NULL,"
        " PRIMARY KEY (device, epoch))",
        f"CREATE TABLE IF NOT EXISTS gap ({_IDENTITY}, first BIGINT NOT NULL,"
        " last BIGINT NOT NULL, noted_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, first))",
        "CREATE TABLE IF NOT EXISTS device (name VARCHAR NOT NULL PRIMARY KEY,"
        " online BOOLEAN NOT NULL, connection BIGINT NOT NULL, birth VARCHAR NOT NULL,"
        " last_seen_ms BIGINT NOT NULL)",
    ),
    (
        "ALTER TABLE stream ADD COLUMN last BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE stream ADD COLUMN floor BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE stream ADD COLUMN waiting_ms BIGINT",
        "ALTER TABLE stream ADD COLUMN born BOOLEAN NOT NULL DEFAULT FALSE",
        "UPDATE stream SET last = upto",
        "UPDATE stream SET last = newest.seq, waiting_ms = 0 FROM (SELECT device, epoch,"
        " max(seq) AS seq FROM event GROUP BY device, epoch) AS newest WHERE newest.seq > upto"
        " AND newest.device = stream.device AND newest.epoch = stream.epoch",
        "ALTER TABLE gap ADD COLUMN reason VARCHAR NOT NULL DEFAULT 'gone'",
        "ALTER TABLE device ADD COLUMN aside VARCHAR NOT NULL DEFAULT ''",
        "ALTER TABLE device ADD COLUMN returns BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE clock (device VARCHAR NOT NULL, boot VARCHAR NOT NULL,"
        " offset_ms BIGINT NOT NULL, PRIMARY KEY (device, boot))",
        f"CREATE TABLE ask (id VARCHAR NOT NULL PRIMARY KEY, {_IDENTITY},"
        " first BIGINT NOT NULL, last BIGINT NOT NULL, refused BOOLEAN NOT NULL,"
        " made_ms BIGINT NOT NULL, sent_ms BIGINT, sends BIGINT NOT NULL,"
        " state VARCHAR NOT NULL, count BIGINT)",
        "CREATE INDEX event_uncorrected ON event (device, boot)"
        " WHERE corrected_ms IS NULL AND clock IN ('saved', 'unset')",
        "CREATE INDEX stream_waiting ON stream (waiting_ms) WHERE waiting_ms IS NOT NULL",
    ),
    # BYTEA is PostgreSQL's word; SQLite takes any, and keeps bytes as they are.
    (
        "CREATE TABLE resident (ref BYTEA NOT NULL PRIMARY KEY, profile BYTEA NOT NULL,"
        " revision BIGINT NOT NULL, next_ms BIGINT)",
        "CREATE TABLE template (ref BYTEA NOT NULL, pack VARCHAR NOT NULL,"
        " row_count BIGINT NOT NULL, rows BYTEA NOT NULL, PRIMARY KEY (ref, pack))",
        f"CREATE TABLE member ({_MEMBER})",
        f"CREATE TABLE draft ({_MEMBER})",
        "CREATE TABLE release (gallery VARCHAR NOT NULL, epoch BIGINT NOT NULL,"
        " version BIGINT NOT NULL, prev VARCHAR NOT NULL, root VARCHAR NOT NULL,"
        " people BIGINT NOT NULL, floor BIGINT NOT NULL, expires_ms BIGINT NOT NULL,"
        " content_key VARCHAR NOT NULL, issued_ms BIGINT NOT NULL, buckets BYTEA NOT NULL,"
        " head VARCHAR, announced_ms BIGINT, PRIMARY KEY (gallery, epoch, version))",
        "CREATE TABLE held (device VARCHAR NOT NULL, gallery VARCHAR NOT NULL,"
        " epoch BIGINT NOT NULL, version BIGINT NOT NULL, proven BOOLEAN NOT NULL,"
        " first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL,"
        " PRIMARY KEY (device, gallery, epoch, version))",
        "CREATE TABLE erasure (receipt VARCHAR NOT NULL, gallery VARCHAR NOT NULL,"
        " ref BYTEA NOT NULL, at_ms BIGINT NOT NULL, epoch BIGINT, version BIGINT,"
        " PRIMARY KEY (receipt, gallery))",
        "CREATE INDEX member_bucket ON member (gallery, bucket)",
        "CREATE INDEX member_version ON member (gallery, version)",
    ),
    (
        f"CREATE TABLE enrolment ({_IDENTITY}, seq BIGINT NOT NULL, sealed VARCHAR NOT NULL,"
        " state VARCHAR NOT NULL, reason VARCHAR NOT NULL, received_ms BIGINT NOT NULL,"
        " PRIMARY KEY (device, epoch, seq))",
        "CREATE INDEX enrolment_new ON enrolment (received_ms) WHERE state = 'new'",
    ),
    (
        "CREATE TABLE command (id VARCHAR NOT NULL PRIMARY KEY, device VARCHAR NOT NULL,"
        " counter BIGINT NOT NULL, command VARCHAR NOT NULL, arguments VARCHAR NOT NULL,"
        " made_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, sent_ms BIGINT,"
        " sends BIGINT NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,"
        " detail VARCHAR NOT NULL, answered_ms BIGINT)",
        "CREATE INDEX command_open ON command (made_ms) WHERE state IN ('waiting', 'received')",
        "CREATE TABLE config (device VARCHAR NOT NULL, version BIGINT NOT NULL,"
        " base BIGINT NOT NULL, settings VARCHAR NOT NULL, state VARCHAR NOT NULL,"
        " problems VARCHAR NOT NULL, made_ms BIGINT NOT NULL, sent_ms BIGINT,"
        " answered_ms BIGINT, PRIMARY KEY (device, version))",
        "CREATE INDEX config_waiting ON config (made_ms) WHERE state = 'waiting'",
        # Replays were asked for without a signature; who still wants one asks again.
        "DROP TABLE ask",
    ),
)
LATEST = len(_VERSIONS)
_LOCK = 0x6B616F70  # any number, the same in every worker


def version(db: Connection) -> int:
    """The schema's version; 0 before the first. Raises CityError when it is a newer program's."""
    if not inspect(db).has_table("migration"):
        return 0
    found = int(db.execute(text("SELECT coalesce(max(version), 0) FROM migration")).scalar_one())
    if found > LATEST:
        raise CityError(
            f"the city database has version {found} of its tables, this program knows {LATEST}: "
            "install the newer kaopass again"
        )
    return found


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; workers that start together do it once."""
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        db.execute(
            text(
                "CREATE TABLE IF NOT EXISTS migration"
                " (version BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL)"
            )
        )
        for number in range(version(db) + 1, LATEST + 1):
            for statement in _VERSIONS[number - 1]:
                db.execute(text(statement))
            db.execute(
                text("INSERT INTO migration (version, at_ms) VALUES (:version, :at_ms)"),
                {"version": number, "at_ms": time.time_ns() // 1_000_000},
            )
