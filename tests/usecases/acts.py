"""A device, and everything that a use case changes on it or hands out of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.base.audit import AuditEntry, AuditLog, Fact
from agent.base.errors import ProvisioningError
from agent.base.events import Place
from agent.base.values import Nack
from agent.gallery.city.meta import KEYS
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.journal import Journal
from agent.keys.certificates import Identity
from agent.packs.manifest import load_manifest
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.hpke import encode_keys, public_key_of
from agent.recognition.templates import TemplateSet
from agent.settings.sections import DecisionSettings
from agent.usecases import (
    calibration,
    enrolling,
    events,
    liveness,
    membership,
    residents,
    rotation,
    subject,
)
from tests.journal.events import ack, event, moment
from tests.recognition.people import NOW_MS, PACK, person_id, templates
from tests.recognition.scores import views

NEW = residents.Enrollee("resident-new", templates(9, values=64))
IDENTITY = Identity("door-1", "0a", 0, 1, "f")


class WatchedLog(AuditLog):
    """Calls *before* and *after* around its first entry."""

    def __init__(self, path: Path, key: bytes) -> None:
        super().__init__(path, key)
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def append(
        self, action: str, *, actor: str = "", subject: str = "", **facts: Fact
    ) -> AuditEntry:
        before, after = self.before, self.after
        self.before = self.after = lambda: None
        before()
        entry = super().append(action, actor=actor, subject=subject, **facts)
        after()
        return entry


class Door:
    """Two residents, three events of which one is quarantined, a calibration, no identity."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.out = (self.state / "handed-out").open("w", encoding="utf-8")
        self.source = FileKeySource(self.state / "keys")
        ring = rotation.open_ring(self.source, self.state, may_create=True)
        self.audit_file = self.state / "audit.jsonl"
        self.audit = WatchedLog(self.audit_file, ring.audit_key())
        self.gallery = Gallery(self.state / "gallery.db", ring, PACK)
        for number in (1, 2):
            self.gallery.enroll(person_id(number), templates(number, values=64), now_ms=NOW_MS)
        keys = GalleryKeys(
            bytes(8), bytes(32), bytes(32), 1, {"bus": bytes(32)}, public_key_of(bytes(32))
        )
        with self.gallery.store.writing():
            self.gallery.store.seal_meta(KEYS, encode_keys(keys))
        self.journal = Journal(self.state / "journal.db", ring.journal_key())
        for number in (1, 2, 3):
            self.journal.append(event(number))
        self.journal.confirm(ack(self.journal.epoch, 1, nack=(Nack(2, "unknown_stop"),)))
        self.calibration = self.state / "calibration.json"
        self.calibration.write_text("{}")
        self.places = subject.Places(
            "door-1", ring, self.state / "gallery.db", self.state / "journal.db", PACK
        )

    def stepped(self, step: str) -> None:
        """A step of a change of keys is done."""
        del step
        self.audit.after()

    def release(self) -> None:
        """Close everything, and let go of the keys."""
        self.out.close()
        for part in ("gallery", "journal"):
            if part in vars(self):
                vars(self).pop(part).close()
        vars(self).pop("places", None)


def looked_at(state: Path) -> dict[str, Any]:
    """What is on the disk in *state*, a door's own or a copy of it."""
    ring = rotation.open_ring(FileKeySource(state / "keys"), state, may_create=False)
    with Gallery(state / "gallery.db", ring, PACK) as gallery:
        people = {person.id: person.templates for person in gallery.people()}
        template_key = gallery.protection.name
    with Journal(state / "journal.db", ring.journal_key(), read_only=True) as journal:
        rows = [(entry.seq, entry.state) for entry in journal.entries()]
    small = ("calibration.json", "liveness.json", "identity", "handed-out")
    return {
        "people": people,
        "template_key": template_key,
        "events": rows,
        "files": {name: (state / name).read_text() for name in small if (state / name).exists()},
        "device_key": ring.fingerprint(),
    }


def copied(door: Door, to: Path) -> Path:
    """The disk as a kill at this moment would leave it."""
    door.out.flush()
    return Path(shutil.copytree(door.state, to))


@dataclass(frozen=True)
class Act:
    """A use case, and what makes it fail once its entry is on the disk (None: nothing can)."""

    run: Callable[[Door], object]
    spoil: Callable[[Door], object] | None


class FakeProvisioning:
    """Gets a certificate and puts it into use, unless the disk is gone by then."""

    def __init__(self, door: Door) -> None:
        self._file = door.state / "identity"

    def enrol(self, *given: Any) -> SimpleNamespace:
        return self.renew(given[-1])

    def renew(self, before_use: Callable[[Identity], None]) -> SimpleNamespace:
        before_use(IDENTITY)
        if self._file.is_dir():
            raise ProvisioningError("identity: cannot be written")
        self._file.write_text(IDENTITY.serial)
        return SimpleNamespace(identity=IDENTITY)


def directory_at(name: str) -> Callable[[Door], None]:
    """Nothing can be written as *name* any more, nor what is there be opened or removed."""

    def spoil(door: Door) -> None:
        (door.state / name).unlink(missing_ok=True)
        (door.state / name).mkdir()

    return spoil


def _town() -> Any:
    rows, _ = views(520, 1)
    people = [(f"resident-{number}", row) for number, row in enumerate(rows)]
    return SimpleNamespace(load=lambda: TemplateSet.build([(name, r[None]) for name, r in people]))


def _for_the_city(door: Door) -> object:
    consents = enrolling.consents_to(
        ["bus"],
        controller="泉区",
        text_version="1",
        language="ja",
        guardian=False,
        days=0,
        now_ms=NOW_MS,
    )
    return enrolling.enroll_for_city(
        *(door.gallery, door.journal, NEW, consents),
        device="door-1",
        place=Place("bus", "7", "front"),
        moment=moment(),
        pack=PACK,
        audit=door.audit,
        actor="tanaka",
    )


def _rotate(door: Door) -> object:
    door.release()
    return rotation.rotate(door.source, door.state, door.stepped, actor="tanaka")


def _close_gallery(door: Door) -> None:
    door.gallery.close()


def _close_journal(door: Door) -> None:
    door.journal.close()


def _power_cut(door: Door) -> None:
    raise ProvisioningError(f"the power of {door.state} goes")


def _by(door: Door) -> dict[str, Any]:
    return {"audit": door.audit, "actor": "tanaka"}


ACTS = {
    "residents.enroll": Act(
        lambda door: residents.enroll(door.gallery, NEW, None, now_ms=NOW_MS, **_by(door)),
        _close_gallery,
    ),
    "residents.revoke": Act(
        lambda door: residents.revoke(door.gallery, person_id(1), **_by(door)), _close_gallery
    ),
    "residents.rekey": Act(
        lambda door: residents.rekey(door.gallery, "bus", **_by(door)), _close_gallery
    ),
    "enrolling.enroll_for_city": Act(_for_the_city, _close_journal),
    "calibration.calibrate": Act(
        lambda door: calibration.calibrate(
            _town(),
            door.calibration,
            load_manifest().pack(PACK),
            DecisionSettings(),
            **_by(door),
        ),
        directory_at("calibration.json"),
    ),
    "calibration.forget_calibration": Act(
        lambda door: calibration.forget_calibration(door.calibration, **_by(door)),
        directory_at("calibration.json"),
    ),
    "liveness.calibrate_camera": Act(
        lambda door: liveness.calibrate_camera(
            SimpleNamespace(),  # type: ignore[arg-type]  # no attacks are looked at
            [0.9] * 5,
            {},
            lambda _file: (),
            pack="p",
            bpcer=0.0,
            file=door.state / "liveness.json",
            **_by(door),
        ),
        directory_at("liveness.json"),
    ),
    "subject.export": Act(
        lambda door: door.out.write(
            str(subject.export(door.places, person_id(1), now_ms=NOW_MS, **_by(door)))
        ),
        None,
    ),
    "subject.erase": Act(
        lambda door: subject.erase(door.places, person_id(1), now_ms=NOW_MS, **_by(door)),
        directory_at("gallery.db"),
    ),
    "events.export": Act(
        lambda door: events.export(
            *(door.journal, door.out, "csv", events.EventFilter()),
            show_persons=False,
            **_by(door),
        ),
        _close_journal,
    ),
    "events.requeue": Act(
        lambda door: events.requeue(door.journal, None, 1, None, **_by(door)), _close_journal
    ),
    "membership.provision": Act(
        lambda door: membership.provision(
            FakeProvisioning(door),  # type: ignore[arg-type]  # the real one: tests/provisioning
            "claim",
            server="https://city",
            device="door-1",
            serial="S1",
            trust=None,
            **_by(door),
        ),
        directory_at("identity"),
    ),
    "membership.renew": Act(
        lambda door: membership.renew(FakeProvisioning(door), audit=door.audit),  # type: ignore[arg-type]
        directory_at("identity"),
    ),
    "rotation.rotate": Act(_rotate, _power_cut),
}
