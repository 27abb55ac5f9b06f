"""Erasing residents: their key destroyed, their rows gone, and devices told by the next version."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from agent.base.errors import CityError
from agent.base.values import PURPOSES
from agent.cityos.db.database import committing, errors_named, reading
from agent.cityos.db.schema import DRAFT, ERASURE, EVENT, MEMBER, RELEASE, RESIDENT, TEMPLATE
from agent.cityos.keys.townkeys import ENROLMENT_KEY_DAYS
from agent.cityos.residents.profiles import DAY_MS, Seal
from agent.cityos.residents.residents import Residents
from agent.protocol.galleries.records import key_of

GONE_NEXT = -1  # MEMBER.version of who will be gone from the next version
_UNMADE = -1  # MEMBER.revision of a resident whose row has still to be made
CITY = "city"  # ERASURE.gallery of who was in no gallery
_CHUNK = 1000
_FEW = 20


class Eraser:
    """What removes residents; raises CityError."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents
        self._engine = residents.engine
        self._keys = residents.keys
        if self._keys.condemned():  # a cut came between: what was begun is done
            with self._keys.enrolling():  # or another process is at it, and done by then
                self._go_on()
            self.sweep()

    def say_again(self, db: Connection, gallery: str, person_id: str) -> None:
        """Have the next version say who *person_id* is, or that they are not in it.

        For a device that believes something else, or has enrolled them itself: if they leave before
        that version, it hears of it all the same.
        """
        ref = self._keys.ref(person_id)
        mine = (MEMBER.c.gallery == gallery, MEMBER.c.ref == ref)
        own = self._keys.resident(ref)
        if db.execute(update(MEMBER).where(*mine).values(version=GONE_NEXT)).rowcount:
            return
        enrolled = db.execute(select(RESIDENT.c.ref).where(RESIDENT.c.ref == ref)).first()
        if own is not None and enrolled is not None:
            wire = Seal(own, ref).seal(key_of(person_id), "wire")
            row = _tombstone(gallery, ref, GONE_NEXT, 0, wire)
            row["revision"] = _UNMADE
        else:
            stranger = secrets.token_bytes(32)
            fresh = Seal(self._keys.new_residents([stranger])[stranger], stranger)
            wire = fresh.seal(key_of(person_id), "wire")
            row = _tombstone(gallery, stranger, GONE_NEXT, 0, wire)
        db.execute(MEMBER.insert(), [row])

    def erase(self, person_id: str, now_ms: int, note: Callable[[], object]) -> str:
        """Destroy their key and everything of theirs; the receipt's number.

        The next version of each gallery that held them says that they are gone. *note* is called
        when it is sure that they are there, before anything of theirs goes.
        """
        with self._keys.enrolling():
            self._residents.get(person_id)
            ref = self._keys.ref(person_id)
            people = list(self._residents.pseudonyms(person_id).values())
            note()
            self._keys.mark_gone(people, now_ms + ENROLMENT_KEY_DAYS * DAY_MS)
            self._keys.condemn(ref)
            receipt = self._erase(ref, now_ms)
        self.forget_events(now_ms)
        self.sweep()
        return receipt

    def forget_events(self, now_ms: int) -> int:
        """Make events nobody's that belong to somebody erased: how many; late ones come for weeks.

        The events themselves stay, so that no sequence has a hole and no count changes.
        """
        people = self._keys.gone(now_ms)
        if not people:
            return 0
        key = (EVENT.c.device, EVENT.c.epoch, EVENT.c.seq)
        # Looking through all events must not hold up those that come.
        with reading(self._engine) as db:
            theirs = db.execute(select(*key).where(EVENT.c.person.in_(people))).all()
        with committing(self._engine, "events cannot be made nobody's") as db:
            for row in theirs:
                one = (EVENT.c.device == row.device, EVENT.c.epoch == row.epoch)
                nobody = update(EVENT).where(*one, EVENT.c.seq == row.seq).values(person="")
                db.execute(nobody)
        return len(theirs)

    def forget_keys(self, now_ms: int) -> None:
        """Destroy enrolment keys replaced long ago: what devices still hold under them is noise."""
        self._keys.prune_enrolment(now_ms)

    def without_key(self, note: Callable[[int], object], *, force: bool = False) -> None:
        """Remove what a restored database brought back of people erased since.

        *note* hears how many, if any, before they go. Raises CityError if they are so many that the
        keys must be the wrong ones, unless *force*.
        """
        with self._keys.enrolling():
            self._go_on()  # who is being erased is to be told to devices, not just removed
            keys = self._keys.residents()
            with reading(self._engine) as db:
                refs = [bytes(row.ref) for row in db.execute(select(RESIDENT.c.ref)).all()]
            orphans = [ref for ref in refs if ref not in keys]
            if len(orphans) > max(_FEW, len(refs) // 10) and not force:
                raise CityError(
                    f"the town's keys in {self._keys.directory} open {len(refs) - len(orphans)} of"
                    f" {len(refs)} residents: are they the right ones? Put them right; only if the"
                    " others' keys are lost for good: gallery publish --force, which removes them"
                )
            if not orphans:
                return
            note(len(orphans))
            with committing(self._engine, "residents cannot be removed") as db:
                for table in (RESIDENT, TEMPLATE, MEMBER, DRAFT):
                    for start in range(0, len(orphans), _CHUNK):
                        some = orphans[start : start + _CHUNK]
                        db.execute(delete(table).where(table.c.ref.in_(some)))

    def sweep(self) -> bool:
        """Have the database give up what deleted rows leave behind in its files.

        False if SQLite's log is still being read: it goes with the next sweep.
        """
        with errors_named(self._engine, "it cannot be swept"), self._engine.connect() as db:
            if self._engine.dialect.name == "sqlite":
                # What was deleted was overwritten (secure_delete); its log holds older pages.
                driver: Any = db.connection.dbapi_connection
                db.rollback()
                busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
            # Outside a transaction, as VACUUM wants it.
            alone = db.execution_options(isolation_level="AUTOCOMMIT")
            for table in (RESIDENT, TEMPLATE, MEMBER, DRAFT, EVENT):
                alone.exec_driver_sql(f"VACUUM {table.name}")
            return True

    def _go_on(self) -> None:
        for ref in self._keys.condemned():
            self._erase(ref, time.time_ns() // 1_000_000)

    def _erase(self, ref: bytes, now_ms: int) -> str:
        receipt, stranger = secrets.token_hex(8), secrets.token_bytes(32)
        # Its own key was condemned, so it is taken from where it lies.
        old = self._keys.condemned_key(ref)
        seal = Seal(old, ref) if old is not None else None
        fresh = Seal(self._keys.new_residents([stranger])[stranger], stranger)
        with committing(self._engine, "the resident cannot be erased") as db:
            # Gone already if the cut came after this transaction: the receipt was written then.
            held = select(RESIDENT.c.ref).where(RESIDENT.c.ref == ref).with_for_update()
            there = db.execute(held).one_or_none() is not None
            rows = db.execute(select(MEMBER).where(MEMBER.c.ref == ref)).all()
            noted = []
            for row in rows:
                if row.version == 0 or seal is None:
                    continue
                # Devices must still be told who is gone: under a key that goes once they know.
                wire = fresh.seal(seal.open(row.wire, "wire"), "wire")
                was_in = row.digest is not None
                version = GONE_NEXT if was_in else row.version
                db.execute(
                    MEMBER.insert(), [_tombstone(row.gallery, stranger, version, row.map, wire)]
                )
                noted.append((row.gallery, *self._gone_since(db, row.gallery, version)))
            for table in (MEMBER, DRAFT, TEMPLATE, RESIDENT):
                db.execute(delete(table).where(table.c.ref == ref))
            noted_rows = [
                {
                    **{"receipt": receipt, "gallery": gallery, "ref": stranger},
                    **{"at_ms": now_ms, "epoch": epoch, "version": version},
                }
                for gallery, epoch, version in noted or [(CITY, 0, 0)]
            ]
            if there:
                db.execute(ERASURE.insert(), noted_rows)
        if not noted:
            self._keys.destroy([stranger])
        # Devices get the new enrolment key with a new content key, so every gallery has one. Both
        # before the last of it is done: after a cut only what is still condemned goes on.
        self._keys.new_enrolment(now_ms)
        for gallery in PURPOSES:
            self._keys.new_content(gallery)
        self._keys.destroy([ref])
        return receipt

    def _gone_since(
        self, db: Connection, gallery: str, version: int
    ) -> tuple[int | None, int | None]:
        if version == GONE_NEXT:
            return None, None  # the next version says when
        epoch = db.execute(select(func.max(RELEASE.c.epoch)).where(RELEASE.c.gallery == gallery))
        return epoch.scalar_one(), version


def _tombstone(
    gallery: str, stranger: bytes, version: int, number: int, wire: bytes
) -> dict[str, Any]:
    """The row that says somebody is gone; revision 0 marks it as nobody's any more."""
    return {
        **{"gallery": gallery, "ref": stranger, "version": version, "revision": 0},
        **{"map": number, "next_ms": None, "bucket": -1, "wire": wire},
        **{"digest": None, "record": None},
    }
