"""A gallery's next version: who is in it, what changed, one root over all, and a signed head.

Made in two steps, so that the signing key may be elsewhere: ``prepare`` writes what changes beside
the version in force and says what is to be signed; ``finish`` puts it in force in one transaction.
No delta is ever stored: the rows that last changed in a version *are* its delta, so an old one
holds nothing of a person who has changed or gone since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, or_, select, update

from agent.base.errors import CityError, MessageError
from agent.base.values import PURPOSES
from agent.cityos.db.database import committing, reading
from agent.cityos.db.schema import DRAFT, ERASURE, HELD, MEMBER, RELEASE, RESIDENT
from agent.cityos.galleries import receipts
from agent.cityos.galleries.drafting import draft
from agent.cityos.galleries.versions import (
    adopt_draft,
    count_to_be,
    digests_to_be,
    drafted,
    drop_tombstones,
    floor_for,
    head_of,
    latest,
    release_row,
)
from agent.cityos.residents.erasing import GONE_NEXT
from agent.cityos.residents.profiles import DAY_MS
from agent.cityos.residents.residents import Residents
from agent.protocol.galleries.messages import Head, Position, read_head
from agent.protocol.galleries.records import bucket_digests, root_of
from agent.protocol.signed import Trust

log = logging.getLogger(__name__)

VALID_DAYS = 30.0  # of a head: a device that hears of no newer one stops then
# A device may say what it likes; nobody begins more epochs than this because of it.
_MOST_EPOCHS_AHEAD = 16
_BELIEVED_MS = 600_000
_ATTEMPTS = 3
EMPTY_ROOT = root_of(bucket_digests({}))
Noted = Callable[[Head], object]  # hears of a version after all checks, before it counts


class StaleDraftError(CityError):
    """A resident changed while a version was made or signed."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version in force, or about to be: its head, and how many residents it changes."""

    head: Head
    changed: int


class Publisher:
    """Makes versions of galleries. Raises CityError."""

    def __init__(self, engine: Engine, residents: Residents, trust: Trust) -> None:
        self._engine = engine
        self._residents = residents
        self._keys = residents.keys
        self._trust = trust

    def publish(
        self,
        gallery: str,
        sign: Callable[[Head], bytes],
        now_ms: int,
        note: Noted,
        *,
        force: bool = False,
        valid_days: float = VALID_DAYS,
    ) -> Published | None:
        """Make and sign the next version; None if nothing changed, unless *force*."""
        with self._keys.publishing():
            for attempt in range(_ATTEMPTS):
                try:
                    made = self._prepare(gallery, now_ms, None, force, valid_days)
                    if made is not None:
                        self._finish(sign(made.head), now_ms, note)
                    return made
                except StaleDraftError:
                    if attempt == _ATTEMPTS - 1:
                        raise
        return None

    def prepare(
        self,
        gallery: str,
        now_ms: int,
        note: Noted,
        *,
        force: bool = False,
        valid_days: float = VALID_DAYS,
    ) -> Published | None:
        """What is to be signed next, None if nothing changed. What was prepared before is void."""
        with self._keys.publishing():
            return self._prepare(gallery, now_ms, note, force, valid_days)

    def finish(self, signed: bytes, now_ms: int, note: Noted) -> Head:
        """Put the version in force whose head *signed* is.

        Raises CityError if it is not the one that was prepared, or a resident has changed since.
        """
        with self._keys.publishing():
            return self._finish(signed, now_ms, note)

    def all_have(self, gallery: str, version: int) -> None:
        """Every device has *version* or a later one: who was gone by then is forgotten."""
        with self._writing() as db:
            forgotten = drop_tombstones(db, gallery, version)
        self._keys.destroy(forgotten)

    def prune(self, before_ms: int) -> None:
        """Forget versions replaced, and reports of devices made, before *before_ms*.

        Of newer reports go those that nothing follows from any more.
        """
        with self._writing() as db:
            db.execute(delete(HELD).where(HELD.c.last_ms < before_ms))
            for gallery in PURPOSES:
                receipts.prune(db, gallery)
            newer = RELEASE.alias()
            replaced = select(newer.c.version).where(
                newer.c.gallery == RELEASE.c.gallery,
                newer.c.head.is_not(None),
                newer.c.issued_ms > RELEASE.c.issued_ms,
            )
            old = RELEASE.c.issued_ms < before_ms
            db.execute(delete(RELEASE).where(old, replaced.exists()))

    def is_due(self, gallery: str, now_ms: int) -> bool:
        """Whether a new version is worth making: cheap to ask."""
        with reading(self._engine) as db:
            last = latest(db, gallery)
            if last is None:
                return db.execute(select(RESIDENT.c.ref).limit(1)).first() is not None
            if self._must(last, now_ms, self._keys.content(gallery)[0]):
                return True
            # Not at once: a device that lies must not keep the whole town busy.
            epoch, _ = self._next(db, gallery, last)
            if now_ms > last.issued_ms + _BELIEVED_MS and epoch != last.epoch:
                return True
            gone = select(MEMBER.c.ref).where(
                MEMBER.c.gallery == gallery, MEMBER.c.version == GONE_NEXT
            )
            if db.execute(gone.limit(1)).first() is not None:
                return True
            number = self._keys.map_version(gallery)
            same = select(MEMBER.c.ref).where(
                MEMBER.c.gallery == gallery,
                MEMBER.c.ref == RESIDENT.c.ref,
                MEMBER.c.revision == RESIDENT.c.revision,
                MEMBER.c.map == number,
                or_(MEMBER.c.next_ms.is_(None), MEMBER.c.next_ms > now_ms),
            )
            changed = select(RESIDENT.c.ref).where(~same.exists())
            return db.execute(changed.limit(1)).first() is not None

    def _prepare(
        self, gallery: str, now_ms: int, note: Noted | None, force: bool, valid_days: float
    ) -> Published | None:
        with self._writing() as db:
            if latest(db, gallery) is None and self._keys.position(gallery) > (0, 0) and not force:
                raise CityError(
                    f"gallery {gallery}: this database knows no version of it, but"
                    f" {'.'.join(map(str, self._keys.position(gallery)))} was published: is it the"
                    " right one? To begin anew with who is in it: gallery publish --force"
                )
            db.execute(delete(DRAFT).where(DRAFT.c.gallery == gallery))
            waiting = (RELEASE.c.gallery == gallery, RELEASE.c.head.is_(None))
            db.execute(delete(RELEASE).where(*waiting))
            last = latest(db, gallery)
            position = self._next(db, gallery, last)
        key_id, _ = self._keys.content(gallery)
        restored = last is None or position[0] != last.epoch
        draft(self._engine, self._residents, gallery, position[1], now_ms, restored=restored)
        with self._writing() as db:
            changed = self._changed(db, gallery, position[1])
            must = last is None or position[0] != last.epoch or self._must(last, now_ms, key_id)
            if not (changed or must or force):
                adopt_draft(db, gallery)  # what was looked at and found the same
                return None
            digests = digests_to_be(db, gallery, self._keys.residents())
            buckets = bucket_digests(digests)
            head = Head(
                gallery=gallery,
                epoch=position[0],
                version=position[1],
                prev=last.root if last is not None else EMPTY_ROOT,
                root=root_of(buckets),
                count=len(digests),
                floor=floor_for(db, last, gallery, position, changed, now_ms),
                expires_ms=now_ms + round(valid_days * DAY_MS),
                key=key_id,
                issued_ms=now_ms,
            )
            if note is not None:
                note(head)
            db.execute(RELEASE.insert(), [release_row(head, buckets)])
        # From here on somebody may sign it: whatever comes of that, its number is spent.
        self._keys.note_drafted(gallery, head.position)
        if last is not None and head.epoch != last.epoch:
            log.warning(
                "gallery %s: versions after %d.%d were published that the database does not know:"
                " it is an old copy, and epoch %d begins",
                *(gallery, last.epoch, last.version, head.epoch),
            )
        return Published(head, changed)

    def _finish(self, signed: bytes, now_ms: int, note: Noted) -> Head:
        try:
            head = read_head(signed, self._trust, wall_ms=now_ms)
        except MessageError as error:
            raise CityError(f"this head cannot be put in force: {error}") from error
        self._keys.note_drafted(head.gallery, head.position)  # keys from a copy may not know it
        with self._writing() as db:
            row = drafted(db, head.gallery)
            if row is None or head_of(row) != head:
                raise CityError(
                    f"gallery {head.gallery} {head.epoch}.{head.version}: not what waits for its"
                    " signature here; prepare it anew: gallery publish --unsigned FILE"
                )
            self._check_fresh(db, row)
            note(head)
            last = latest(db, head.gallery)
            adopt_draft(db, head.gallery)
            rows = update(MEMBER).where(MEMBER.c.gallery == head.gallery)
            gone = MEMBER.c.version == GONE_NEXT
            if last is not None and last.epoch != head.epoch:
                # Versions count anew, and nobody can ask for what was before.
                rows = rows.where(MEMBER.c.version != 0)
                db.execute(rows.values(version=head.version))
            else:
                db.execute(rows.where(gone).values(version=head.version))
            forgotten = drop_tombstones(db, head.gallery, head.floor)
            erased = (ERASURE.c.gallery == head.gallery, ERASURE.c.epoch.is_(None))
            since = {"epoch": head.epoch, "version": head.version}
            db.execute(update(ERASURE).where(*erased).values(since))
            mine = (RELEASE.c.gallery == head.gallery, RELEASE.c.head.is_(None))
            db.execute(update(RELEASE).where(*mine).values(head=signed.decode("ascii")))
        self._keys.destroy(forgotten)
        self._keys.published(head.gallery, head.position, head.key)
        return head

    def _must(self, last: Row[Any], now_ms: int, key_id: bytes) -> bool:
        """Whether even unchanged content needs a new head: another key, or half its time is over.

        *last* was published by a database that knew no less than this one.
        """
        return bool(
            last.content_key != key_id.hex()
            or now_ms > (last.issued_ms + last.expires_ms) // 2
            or self._keys.position(last.gallery) > (last.epoch, last.version)
        )

    def _next(self, db: Connection, gallery: str, last: Row[Any] | None) -> Position:
        """After the newest version anybody ever heard of; in a new epoch if this database has not.

        It was restored from a copy then: going on from there would tell devices two truths. A
        number that may have been signed is never given again: no signer signs it for other content.
        """
        known = (last.epoch, last.version) if last is not None else (0, 0)
        told = select(HELD.c.epoch, HELD.c.version).where(
            HELD.c.gallery == gallery, HELD.c.epoch <= known[0] + _MOST_EPOCHS_AHEAD
        )
        heard = [(row.epoch, row.version) for row in db.execute(told).all()]
        highest = max([known, self._keys.position(gallery), *heard])
        following = (max(known[0], 1), known[1] + 1) if highest == known else (highest[0] + 1, 1)
        epoch, version = self._keys.drafted(gallery)
        return max(following, (epoch, version + 1)) if epoch else following

    def _changed(self, db: Connection, gallery: str, version: int) -> int:
        """How many residents are in the draft's delta."""
        made = (DRAFT.c.gallery == gallery, DRAFT.c.version == version)
        again = (MEMBER.c.gallery == gallery, MEMBER.c.version == GONE_NEXT)
        also = MEMBER.c.ref.not_in(select(DRAFT.c.ref).where(*made))
        return sum(
            int(db.execute(select(func.count()).where(*which)).scalar_one())
            for which in (made, (*again, also))
        )

    def _check_fresh(self, db: Connection, row: Row[Any]) -> None:
        mine = select(DRAFT.c.ref).outerjoin(RESIDENT, RESIDENT.c.ref == DRAFT.c.ref)
        stale = or_(RESIDENT.c.ref.is_(None), RESIDENT.c.revision != DRAFT.c.revision)
        changed = db.execute(mine.where(DRAFT.c.gallery == row.gallery, stale).limit(1)).first()
        if changed is not None or count_to_be(db, row.gallery) != row.people:
            raise StaleDraftError(
                f"gallery {row.gallery} {row.epoch}.{row.version}: a resident has changed since it"
                " was prepared; prepare it anew"
            )

    def _writing(self) -> AbstractContextManager[Connection]:
        return committing(self._engine, "the gallery cannot be published")
