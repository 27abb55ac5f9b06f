"""A city of which every use case can be asked something, and all that it has written down."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import delete, select

from agent.base.audit import AuditLog, Fact, Note, audited
from agent.cityos.db.schema import DRAFT, ENROLMENT, METADATA, RELEASE
from agent.cityos.events.store import Arrival, Store
from agent.cityos.galleries.signing import decode_unsigned, encode_unsigned
from agent.cityos.pki.ca import Authority
from agent.cityos.residents.faces import EnrolledFaces
from agent.cityos.residents.residents import Newcomer
from agent.cityos.usecases import (
    authority,
    consents,
    devices,
    galleries,
    keys,
    steering,
    subject,
    upkeep,
)
from agent.cityos.usecases.city import CityDatabase
from agent.cityos.usecases.devices import Applicant, Certified
from agent.cityos.usecases.enrolling import enrol, enrol_many
from agent.cityos.usecases.from_devices import settle_waiting
from agent.cityos.usecases.office import Office
from agent.keys.certificates import new_key
from tests.events import EPOCH, stored
from tests.galleries.conftest import PACK, City, faces, noting, now_ms, seed_of
from tests.galleries.conftest import consents as given
from tests.galleries.test_enrolling import arrives, threshold

BUS = "bus-1"


def go_on() -> None:
    """What comes between an entry and its change, as a rule: nothing."""


@contextmanager
def interrupted(act: AbstractContextManager[Note], cut: Callable[[], object]) -> Iterator[Note]:
    """*act*, with *cut* called when an entry has just been written, before the act goes on."""
    with act as note:

        def noting(action: str, *, subject: str = "", **facts: Fact) -> None:
            note(action, subject=subject, **facts)
            cut()

        yield noting


@dataclass(frozen=True)
class CutOffice(Office):
    """An office whose acts are interrupted."""

    cut: Callable[[], object] = go_on

    def act(self) -> AbstractContextManager[Note]:
        return interrupted(audited(self.audit, self.actor), self.cut)


@dataclass(frozen=True)
class CutDatabase(CityDatabase):
    """A database with a given log, on which acts are interrupted."""

    log: AuditLog | None = None
    cut: Callable[[], object] = go_on

    def act(self) -> AbstractContextManager[Note]:
        return interrupted(audited(self.log, self.actor), self.cut)


class World:
    """The city in *folder*, acted upon under *log*; *cut* comes after each entry."""

    def __init__(
        self, folder: Path, database: str, log: AuditLog, cut: Callable[[], object] = go_on
    ) -> None:
        self.folder = folder
        ca = folder / "ca"
        self.city = City(folder, database, Authority(ca) if ca.exists() else None)
        known = self.city.office
        self.office = CutOffice(
            known.places, known.authority, known.registry, log, known.actor, cut
        )
        self.parts = replace(self.city.parts, office=self.office)
        self.database = CutDatabase(self.city.engine, ca, "clerk", log, cut)
        self.faces = EnrolledFaces(self.city.residents, threshold)
        self.now = now_ms()

    def close(self) -> None:
        self.city.close()
        self.city.registry.close()

    def fill(self) -> None:
        """Anna, a device with a certificate, one that enrolled somebody, and refused events."""
        self.city.enrol(["anna"])
        self.city.publish("bus")
        self.city.publish("hall")
        (self.folder / "bus.key").write_bytes(new_key())
        code = self.city.registry.claim(BUS, "S1", 1.0, self.now, noting, purpose="bus")
        certified = devices.enroll_device(self.city.office, code, self.applicant, self.now)
        assert isinstance(certified, Certified)
        (self.folder / "bus.pem").write_text(certified.issued.pem)
        enrolling = self.city.device("bus-2")
        self.city.talk(enrolling)
        arrives(self.city, enrolling, "not-anna", 1, face="anna")
        arrives(self.city, enrolling, "dan", 2)
        store = Store(self.city.database)
        arrival = Arrival({seq: stored(seq) for seq in (1, 2)}, rejected={3: "bad_kind"})
        store.commit({(BUS, EPOCH): arrival}, self.now)
        store.close()

    @property
    def applicant(self) -> Applicant:
        key = load_pem_private_key((self.folder / "bus.key").read_bytes(), None).public_key()
        return Applicant(BUS, "S1", key)  # type: ignore[arg-type]

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / "bus.pem").read_bytes())

    def written(self) -> dict[str, Any]:
        """All that is in force; not what is only prepared, nor which numbers are spent."""
        found: dict[str, Any] = {}
        with self.city.engine.connect() as db:
            for table in METADATA.sorted_tables:
                wanted = select(table)
                if table is RELEASE:
                    wanted = wanted.where(RELEASE.c.head.is_not(None))
                if table is not DRAFT:
                    found[table.name] = sorted(map(repr, db.execute(wanted).all()))
        for path in sorted(self.folder.rglob("*")):
            name = path.name
            if not path.is_file() or name.startswith(("audit", "city.db", "gallery-signed")):
                continue
            if name in ("keys.db", "registry.db"):
                found[name] = _tables(path)
            elif not name.endswith((".lock", "-wal", "-shm")):
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found


def _tables(path: Path) -> dict[str, list[str]]:
    db = sqlite3.connect(path)
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        name: sorted(map(repr, db.execute(f"SELECT * FROM {name}").fetchall()))  # noqa: S608
        for name in names
        if name != "drafted"
    }
    db.close()
    return found


@dataclass(frozen=True)
class Asked:
    """One thing that can be asked: the entry it has, and what comes before it."""

    action: str
    ask: Callable[[World], object]
    before: Callable[[World], object] = lambda _: None
    changes: bool = True  # else it only looks


def _newcomer(person: str) -> Newcomer:
    return Newcomer(person, "", {PACK: faces(2, seed_of(person))}, given("bus"))


def _people(person: str) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    return [(person, lambda: {PACK: faces(2, seed_of(person))})]


def _takes_only(world: World, seq: int) -> None:
    with world.city.engine.begin() as db:
        db.execute(delete(ENROLMENT).where(ENROLMENT.c.seq != seq))


def _prepared(world: World) -> None:
    world.city.enrol(["ben"])
    made = world.city.prepare()
    assert made is not None
    (world.folder / "signed").write_bytes(world.city.sign(made.head))


def _unsigned(world: World) -> None:
    world.city.enrol(["ben"])
    made = world.city.prepare()
    assert made is not None
    (world.folder / "unsigned").write_bytes(encode_unsigned(made.head))


def _brought_back(world: World) -> None:
    """Somebody erased, by a restored database."""
    world.city.enrol(["zoe"])
    world.city.keys.destroy([world.city.keys.ref("zoe")])


def _copied(world: World) -> None:
    keys.backup_keys(world.city.office, world.folder / "copy", world.now)
    (world.folder / "other").mkdir()
    shutil.copy2(world.folder / "keys" / "town-key", world.folder / "other" / "town-key")


def _restored(world: World) -> None:
    places = replace(world.office.places, keys_directory=world.folder / "other")
    keys.restore_keys(replace(world.office, places=places), world.folder / "copy")


def _waits_for_approval(world: World) -> str:
    registry = world.city.registry
    code = registry.claim(BUS, "S1", 1.0, world.now, noting, by_hand=True)
    registry.use(code, BUS, "S1", world.applicant.key_digest, world.now, _never)
    return code


def _never() -> Any:
    raise AssertionError("nothing is issued before it is approved")


def _claimed(world: World) -> None:
    code = world.city.registry.claim(BUS, "S1", 1.0, world.now, noting)
    (world.folder / "claim").write_text(code)


ASKED: dict[str, Asked] = {
    "enrol": Asked("resident.enrolled", lambda w: enrol(w.parts, w.faces, _newcomer("ben"), w.now)),
    "enrol again": Asked(
        "resident.enrolled", lambda w: enrol(w.parts, w.faces, _newcomer("anna"), w.now)
    ),
    "import": Asked(
        "resident.enrolled",
        lambda w: enrol_many(w.parts, w.faces, _people("ben"), given("bus"), now_ms),
    ),
    "take an enrolment": Asked(
        "resident.enrolled",
        lambda w: settle_waiting(w.parts, threshold, w.now),
        lambda w: _takes_only(w, 2),
    ),
    "refuse an enrolment": Asked(
        "enrolment.refused",
        lambda w: settle_waiting(w.parts, threshold, w.now),
        lambda w: _takes_only(w, 1),
    ),
    "give consent": Asked(
        "consent.given", lambda w: consents.give(w.parts, "anna", given("linking"), w.now)
    ),
    "renew consent": Asked(
        "consent.given",
        lambda w: consents.give(w.parts, "anna", given("bus"), w.now, renewal=True),
    ),
    "withdraw consent": Asked(
        "consent.withdrawn", lambda w: consents.withdraw(w.parts, "anna", ["bus"], w.now)
    ),
    "list residents": Asked("residents.listed", lambda w: subject.listed(w.parts), changes=False),
    "show a resident": Asked(
        "resident.shown", lambda w: subject.shown(w.parts, "anna"), changes=False
    ),
    "hand out": Asked(
        "resident.exported", lambda w: subject.handed_out(w.parts, "anna"), changes=False
    ),
    "erase": Asked("resident.erased", lambda w: subject.erase(w.parts, "anna", w.now)),
    "publish": Asked(
        "gallery.published",
        lambda w: galleries.publish(w.parts, ["bus"], w.now),
        lambda w: w.city.enrol(["ben"]),
    ),
    "publish without whom no key opens": Asked(
        "residents.removed",
        lambda w: galleries.publish(w.parts, ["bus"], w.now),
        _brought_back,
    ),
    "prepare": Asked(
        "gallery.prepared",
        lambda w: galleries.prepare(w.parts, "bus", w.now, force=True, valid_days=30),
        changes=False,  # nothing that is in force
    ),
    "finish": Asked(
        "gallery.published",
        lambda w: galleries.finish(w.parts, (w.folder / "signed").read_bytes(), w.now),
        _prepared,
    ),
    "rekey": Asked("gallery.rekeyed", lambda w: galleries.rekey(w.parts, "bus")),
    "lock out": Asked("gallery.locked", lambda w: galleries.lock_out(w.office, "bus", w.now)),
    "sign": Asked(
        "gallery.signed",
        lambda w: authority.sign_head(
            w.office, decode_unsigned((w.folder / "unsigned").read_bytes())
        ),
        _unsigned,
        changes=False,  # but for what the signer remembers
    ),
    "claim": Asked(
        "claim.made",
        lambda w: devices.claim(w.office, "bus-9", "S9", "bus", w.now, hours=1, by_hand=False),
    ),
    "approve": Asked(
        "device.approved", lambda w: devices.approve(w.office, BUS), _waits_for_approval
    ),
    "serve": Asked("device.serves", lambda w: devices.serve(w.office, BUS, "hall", w.now)),
    "revoke": Asked("device.revoked", lambda w: devices.revoke(w.office, BUS, w.now)),
    "first certificate": Asked(
        "device.enrolled",
        lambda w: devices.enroll_device(
            w.office, (w.folder / "claim").read_text(), w.applicant, w.now
        ),
        _claimed,
    ),
    "refused certificate": Asked(
        "claim.refused",
        lambda w: devices.enroll_device(
            w.office, (w.folder / "claim").read_text(), replace(w.applicant, serial="S2"), w.now
        ),
        _claimed,
        changes=False,
    ),
    "next certificate": Asked(
        "device.renewed",
        lambda w: devices.renew_certificate(w.office, w.certificate, w.applicant, w.now),
    ),
    "refused renewal": Asked(
        "renewal.refused",
        lambda w: devices.renew_certificate(
            w.office, w.certificate, replace(w.applicant, serial="S2"), w.now
        ),
        changes=False,
    ),
    "EST server": Asked(
        "service.issued", lambda w: authority.issue_server(w.office, ["localhost"])
    ),
    "worker": Asked("service.issued", lambda w: authority.issue_worker(w.office, "city-7")),
    "broker": Asked(
        "broker.configured",
        lambda w: authority.configure_broker(
            *(w.office, w.folder / "broker", w.now),
            hosts=["localhost"],
            port=8883,
            bind="",
            connections=10,
            message_bytes=1000,
            pid_file=None,
        ),
    ),
    "copy keys": Asked(
        "keys.copied",
        lambda w: keys.backup_keys(w.office, w.folder / "copy", w.now),
    ),
    "restore keys": Asked("keys.restored", _restored, _copied),
    "forget a copy": Asked(
        "keys.copy_destroyed",
        lambda w: keys.forget_copy(w.office, w.folder / "copy"),
        lambda w: w.city.keys.note_copy(w.folder / "copy", w.now),
    ),
    "release": Asked("quarantine.released", lambda w: upkeep.release(w.database, BUS, None, w.now)),
    "drop": Asked("quarantine.dropped", lambda w: upkeep.drop(w.database, BUS, None, w.now)),
    "prune": Asked(
        "events.pruned", lambda w: upkeep.prune(w.database, 1.0, w.now + 10 * 86_400_000)
    ),
    "copy the database": Asked(
        "database.copied", lambda w: upkeep.backup(w.database, str(w.folder / "events.copy"))
    ),
    "command": Asked(
        "command.ordered", lambda w: steering.send(w.database, BUS, "restart", {}, w.now)
    ),
    "settings": Asked(
        "settings.set",
        lambda w: steering.set_settings(w.database, BUS, {"vision": {"max_faces": 3}}, w.now),
    ),
}
