"""Everything a device holds on one resident: gathered for them, or erased with a receipt."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

log = logging.getLogger(__name__)

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


def export(places: Places, person_id: str, *, now_ms: int) -> dict[str, Any]:
    """All that is held on *person_id*, ready for JSON; *now_ms* is Unix time.

    Raises PersonError when nothing is.
    """
    profile = citys = None
    ids = _spellings(person_id)
    if places.gallery.exists():
        with Gallery(places.gallery, places.ring, places.pack) as gallery:
            found = gallery.person(person_id)
            name = gallery.protection.name
            citys = gallery.city_keys()
        if found is not None:
            ids.add(found.id)
            profile = {
                "id": found.id,
                "nickname": found.nickname,
                "purposes": list(found.purposes),
                "created_ms": found.created_ms,
                "source": found.source,
                "linked": found.linked,
                "expires_ms": found.expires_ms,
                "templates": {
                    "count": found.templates,
                    "template_key": name,
                    "note": TEMPLATES_NOTE,
                },
            }
    pseudonyms = _pseudonyms(places.ring, citys, ids)
    events = []
    if places.journal.exists():
        key = places.ring.journal_key()
        with Journal(places.journal, key, read_only=True) as journal:
            theirs = _events_of(journal, places.device, pseudonyms)
            events = [as_record(entry, show_persons=True) for entry in theirs]
    if profile is None and not events:
        raise _nothing(person_id)
    return {
        "format": EXPORT_FORMAT,
        "device": places.device,
        "exported_ms": now_ms,
        "gallery": profile,
        "pseudonyms": [
            {"purpose": purpose, "pseudonym": pseudonym}
            for pseudonym, purpose in sorted(pseudonyms.items(), key=lambda item: item[1])
        ],
        "events": events,
    }


def erase(places: Places, person_id: str, *, now_ms: int) -> dict[str, Any]:
    """Erase all that is held on *person_id*; the receipt, signed with this device's receipt key.

    The gallery goes first, so that they are no longer recognised; whatever fails after that raises
    GalleryError or JournalError, and the whole is to be repeated. Raises PersonError when nothing
    is held.
    """
    erased: list[dict[str, Any]] = []
    citys = None
    ids = _spellings(person_id)
    if places.gallery.exists():
        with Gallery(places.gallery, places.ring, places.pack) as gallery:
            found = gallery.person(person_id)
            citys = gallery.city_keys()
            if found is not None:
                ids.add(found.id)
            if gallery.revoke(person_id):
                what = {
                    "file": places.gallery.name,
                    "what": ["key", "profile", "templates"],
                    "templates": sum(found.templates.values()) if found else 0,
                }
                erased.append(what)
    if places.journal.exists():
        persons = set(_pseudonyms(places.ring, citys, ids))
        gone = erase_events(places.journal, places.ring.journal_key(), persons, now_ms)
        if gone.events or gone.set_aside:
            erased.append(
                {
                    "file": places.journal.name,
                    "what": ["events"],
                    "events": gone.events,
                    "not_yet_at_the_city": gone.unacknowledged,
                    "set_aside": list(gone.set_aside),
                }
            )
    if not erased:
        raise _nothing(person_id)
    receipt: dict[str, Any] = {
        "format": RECEIPT_FORMAT,
        "receipt": secrets.token_hex(8),
        "device": places.device,
        "person": person_id,
        "erased_ms": now_ms,
        "erased": erased,
    }
    return {**receipt, "mac": _mac(places.ring, receipt)}


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


def _spellings(person_id: str) -> set[str]:
    """An id as given and in its composed form: the gallery takes both for the same person."""
    return {person_id, unicodedata.normalize("NFC", person_id)}


def _nothing(person_id: str) -> PersonError:
    return PersonError(
        f"this device holds nothing on {person_id!r}; who is enrolled: kaopass gallery list"
    )
