"""Everything a device holds on one resident: gathered for them, or erased with a receipt."""

from __future__ import annotations

import hmac
import json
import secrets
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.base.audit import AuditLog, audited
from agent.base.errors import PersonError
from agent.base.events import CorrectionEvent, EventRef, person_of
from agent.base.values import PURPOSES
from agent.gallery.gallery import Gallery
from agent.journal import Entry, Journal
from agent.journal.erasure import erase as erase_events
from agent.journal.export import as_record
from agent.keys.pseudonym import Pseudonyms
from agent.keys.ring import KeyRing
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import canonical_id
from agent.recognition.person import Person

EXPORT_FORMAT = "kaopass-subject/1"
RECEIPT_FORMAT = "kaopass-erasure/1"
# A template is of use to nobody but a device with the key, and is the one thing that could harm
# its owner in a file that is mailed about: it is counted, not copied.
TEMPLATES_NOTE = "kept encrypted and protected (ISO/IEC 24745); not copied out of the gallery"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a device keeps people: its name, keys and files. ``pack`` is its model pack's name."""

    device: str
    ring: KeyRing
    gallery: Path
    journal: Path
    pack: str


def export(
    places: Places, person_id: str, *, audit: AuditLog | None, actor: str, now_ms: int
) -> dict[str, Any]:
    """All that is held on *person_id*, ready for JSON; *now_ms* is Unix time.

    Raises PersonError when nothing is.
    """
    held = _look(places, person_id)
    if held.person is None and not held.events:
        raise _nothing(person_id)
    events = [as_record(entry, show_persons=True) for entry in held.events]
    with audited(audit, actor) as note:
        note("subject.exported", subject=canonical_id(person_id), events=len(events))
    return {
        "format": EXPORT_FORMAT,
        "device": places.device,
        "exported_ms": now_ms,
        "gallery": held.profile(),
        "pseudonyms": [
            {"purpose": purpose, "pseudonym": pseudonym}
            for pseudonym, purpose in sorted(held.pseudonyms.items(), key=lambda item: item[1])
        ],
        "events": events,
    }


def erase(
    places: Places, person_id: str, *, audit: AuditLog | None, actor: str, now_ms: int
) -> dict[str, Any]:
    """Erase all that is held on *person_id*; the receipt, signed with this device's receipt key.

    The gallery goes first, so that they are no longer recognised; whatever fails after that raises
    GalleryError or JournalError, and the whole is to be repeated. Raises PersonError when nothing
    is held.
    """
    receipt: dict[str, Any] = {
        "format": RECEIPT_FORMAT,
        "receipt": secrets.token_hex(8),
        "device": places.device,
        "person": person_id,
        "erased_ms": now_ms,
    }
    held = _look(places, person_id)
    if not (held.in_gallery or held.events or _is_set_aside(places.journal)):
        raise _nothing(person_id)
    with audited(audit, actor) as note:
        note("subject.erased", subject=canonical_id(person_id), receipt=receipt["receipt"])
        erased = [*_gone_from_gallery(places, person_id, held)]
        erased += _gone_from_journal(places, held, now_ms)
        if not erased:
            raise _nothing(person_id)
    receipt["erased"] = erased
    return {**receipt, "mac": _mac(places.ring, receipt)}


@dataclass(frozen=True, slots=True)
class _Held:
    """What lies here of one resident. ``in_gallery``: something may, though it need not open."""

    person: Person | None
    in_gallery: bool
    template_key: str
    pseudonyms: Mapping[str, str]  # and what each is for
    events: Sequence[Entry]

    def profile(self) -> dict[str, Any] | None:
        if self.person is None:
            return None
        return asdict(self.person) | {
            "purposes": list(self.person.purposes),
            "templates": {
                "count": self.person.templates,
                "template_key": self.template_key,
                "note": TEMPLATES_NOTE,
            },
        }


def _look(places: Places, person_id: str) -> _Held:
    person = citys = None
    in_gallery, template_key = False, ""
    # As given and in its composed form: the gallery takes both for the same person.
    ids = {person_id, unicodedata.normalize("NFC", person_id)}
    if places.gallery.exists():
        with Gallery(places.gallery, places.ring, places.pack) as gallery:
            person, citys = gallery.person(person_id), gallery.city_keys()
            in_gallery, template_key = gallery.may_hold(person_id), gallery.protection.name
    if person is not None:
        ids.add(person.id)
    pseudonyms = _pseudonyms(places.ring, citys, ids)
    events: list[Entry] = []
    if places.journal.exists():
        with Journal(places.journal, places.ring.journal_key(), read_only=True) as journal:
            events = list(_events_of(journal, places.device, pseudonyms))
    return _Held(person, in_gallery, template_key, pseudonyms, events)


def _is_set_aside(journal: Path) -> bool:
    """Whether files of *journal* were set aside after damage, which nobody has searched."""
    return journal.exists() and any(journal.parent.glob(f"{journal.name}.damaged-*"))


def _gone_from_gallery(places: Places, person_id: str, held: _Held) -> Iterator[dict[str, Any]]:
    if not held.in_gallery:
        return
    with Gallery(places.gallery, places.ring, places.pack) as gallery:
        if gallery.revoke(person_id):
            yield {
                "file": places.gallery.name,
                "what": ["key", "profile", "templates"],
                "templates": sum(held.person.templates.values()) if held.person else 0,
            }


def _gone_from_journal(places: Places, held: _Held, now_ms: int) -> Iterator[dict[str, Any]]:
    if not places.journal.exists():
        return
    persons = set(held.pseudonyms)
    gone = erase_events(places.journal, places.ring.journal_key(), persons, now_ms)
    if gone.events or gone.set_aside:
        yield {
            "file": places.journal.name,
            "what": ["events"],
            "events": gone.events,
            "not_yet_at_the_city": gone.unacknowledged,
            "set_aside": list(gone.set_aside),
        }


def is_receipt(ring: KeyRing, receipt: dict[str, Any]) -> bool:
    """Whether this device gave *receipt*, and nobody changed it since."""
    body = {name: value for name, value in receipt.items() if name != "mac"}
    return hmac.compare_digest(_mac(ring, body), str(receipt.get("mac", "")))


def _events_of(journal: Journal, device: str, pseudonyms: Collection[str]) -> Iterator[Entry]:
    """Events that are about one of *pseudonyms*, and the corrections of those."""
    theirs: set[EventRef] = set()
    for entry in journal.entries():
        event = entry.event
        if isinstance(event, CorrectionEvent):
            if event.corrects in theirs:
                yield entry
        elif event is not None and person_of(event) in pseudonyms:
            theirs.add(EventRef(device, entry.epoch, entry.seq))
            yield entry


def _mac(ring: KeyRing, receipt: dict[str, Any]) -> str:
    text = json.dumps(receipt, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hmac.digest(ring.receipt_key(), text.encode(), "sha256").hex()


def _pseudonyms(ring: KeyRing, citys: GalleryKeys | None, ids: set[str]) -> dict[str, str]:
    """Pseudonym -> purpose, for every spelling of the id, every purpose, and whoever gave the key.

    The device's own keys count even where the city's are in use: events from before may be there.
    """
    own = Pseudonyms(ring.pseudonym_key)
    found = {own.of(name, purpose): purpose for name in ids for purpose in PURPOSES}
    if citys is not None:
        theirs = Pseudonyms(lambda purpose: citys.pseudonyms[purpose])
        found |= {theirs.of(name, kind): kind for name in ids for kind in citys.pseudonyms}
    return found


def _nothing(person_id: str) -> PersonError:
    return PersonError(
        f"this device holds nothing on {person_id!r}; who is enrolled: kaopass gallery list"
    )
