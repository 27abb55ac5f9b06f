"""A gallery's versions in the database: which is in force, and what there is of it.

Functions on a connection inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, select

from agent.cityos.db.schema import DRAFT, MEMBER, RELEASE
from agent.cityos.residents.profiles import DAY_MS, Seal
from agent.protocol.galleries.messages import Head, Position

KEPT_DAYS, KEPT_VERSIONS = 30, 64  # deltas reach back so far at least
MOST_IN_DELTA = 2_000  # residents: some 6 MB, which a device has to hold in memory whole


def latest(db: Connection, gallery: str) -> Row[Any] | None:
    """The version in force, None before the first."""
    wanted = (
        select(RELEASE)
        .where(RELEASE.c.gallery == gallery, RELEASE.c.head.is_not(None))
        .order_by(RELEASE.c.epoch.desc(), RELEASE.c.version.desc())
        .limit(1)
    )
    return db.execute(wanted).one_or_none()


def steady(engine: Engine) -> Engine:
    """*engine* for reading several tables as of one moment."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine  # in SQLite every transaction is


def drafted(db: Connection, gallery: str) -> Row[Any] | None:
    """The version that waits for its signature, None if there is none."""
    waits = (RELEASE.c.gallery == gallery, RELEASE.c.head.is_(None))
    return db.execute(select(RELEASE).where(*waits)).one_or_none()


def head_of(row: Row[Any]) -> Head:
    """The head of a version, as it was or is to be signed."""
    return Head(
        gallery=row.gallery,
        epoch=row.epoch,
        version=row.version,
        prev=row.prev,
        root=row.root,
        count=row.people,
        floor=row.floor,
        expires_ms=row.expires_ms,
        key=bytes.fromhex(row.content_key),
        issued_ms=row.issued_ms,
    )


def release_row(head: Head, buckets: list[bytes]) -> dict[str, Any]:
    """The row of a version that is to be signed."""
    return {
        "gallery": head.gallery,
        "epoch": head.epoch,
        "version": head.version,
        "prev": head.prev,
        "root": head.root,
        "people": head.count,
        "floor": head.floor,
        "expires_ms": head.expires_ms,
        "content_key": head.key.hex(),
        "issued_ms": head.issued_ms,
        "buckets": b"".join(buckets),
    }


def floor_for(
    db: Connection,
    last: Row[Any] | None,
    gallery: str,
    position: Position,
    changed: int,
    now_ms: int,
) -> int:
    """From which version on deltas lead to *position*: 30 days and 64 versions back at least.

    None leads there if *changed* residents are too many for one: buckets are as good then.
    """
    epoch, version = position
    if changed > MOST_IN_DELTA or last is None or last.epoch != epoch:
        return version
    old = select(func.max(RELEASE.c.version)).where(
        RELEASE.c.gallery == gallery,
        RELEASE.c.epoch == epoch,
        RELEASE.c.issued_ms < now_ms - KEPT_DAYS * DAY_MS,
    )
    oldest = db.execute(old).scalar_one() or 1
    return int(max(last.floor, min(oldest, version - KEPT_VERSIONS)))


def digests_to_be(db: Connection, gallery: str, keys: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Who is in the gallery once its draft is in force: record digests by key (``wire``)."""
    found: dict[bytes, bytes] = {}
    drafts = select(DRAFT.c.ref).where(DRAFT.c.gallery == gallery)
    for table in (MEMBER, DRAFT):
        wanted = select(table.c.ref, table.c.wire, table.c.digest).where(
            table.c.gallery == gallery, table.c.digest.is_not(None)
        )
        if table is MEMBER:
            wanted = wanted.where(MEMBER.c.ref.not_in(drafts))
        for row in db.execute(wanted):
            ref = bytes(row.ref)
            found[Seal(keys[ref], ref).open(bytes(row.wire), "wire")] = bytes(row.digest)
    return found


def count_to_be(db: Connection, gallery: str) -> int:
    """How many will be in the gallery once its draft is in force."""
    drafts = select(DRAFT.c.ref).where(DRAFT.c.gallery == gallery)
    kept = select(func.count()).where(
        MEMBER.c.gallery == gallery, MEMBER.c.digest.is_not(None), MEMBER.c.ref.not_in(drafts)
    )
    made = select(func.count()).where(DRAFT.c.gallery == gallery, DRAFT.c.digest.is_not(None))
    return int(db.execute(kept).scalar_one() + db.execute(made).scalar_one())


def adopt_draft(db: Connection, gallery: str) -> None:
    """Put the drafted rows in the place of those in force."""
    drafts = select(DRAFT.c.ref).where(DRAFT.c.gallery == gallery)
    db.execute(delete(MEMBER).where(MEMBER.c.gallery == gallery, MEMBER.c.ref.in_(drafts)))
    moved = select(DRAFT).where(DRAFT.c.gallery == gallery)
    db.execute(MEMBER.insert().from_select([column.name for column in DRAFT.c], moved))
    db.execute(delete(DRAFT).where(DRAFT.c.gallery == gallery))


def drop_tombstones(db: Connection, gallery: str, upto: int) -> list[bytes]:
    """Forget who was gone by version *upto*; the references whose keys are to go, too.

    Residents who withdrew are still enrolled: their row only says that they were never in it.
    """
    gone = (
        MEMBER.c.gallery == gallery,
        MEMBER.c.digest.is_(None),
        MEMBER.c.version > 0,
        MEMBER.c.version <= upto,
    )
    strangers = [
        bytes(row.ref)
        for row in db.execute(select(MEMBER.c.ref).where(*gone, MEMBER.c.revision == 0)).all()
    ]
    db.execute(delete(MEMBER).where(*gone, MEMBER.c.revision == 0))
    db.execute(MEMBER.update().where(*gone).values(version=0))
    others = select(MEMBER.c.ref).where(MEMBER.c.ref.in_(strangers))
    kept = {bytes(row.ref) for row in db.execute(others).all()}
    return [ref for ref in strangers if ref not in kept]
