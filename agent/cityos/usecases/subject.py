"""What the city holds on a resident: listed, shown, handed out to them, erased with a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.base.errors import CityError, UsageError
from agent.base.values import PURPOSES
from agent.cityos.db.database import reading
from agent.cityos.galleries import receipts
from agent.cityos.galleries.receipts import Applied
from agent.cityos.keys.keybackup import backup
from agent.cityos.residents.profiles import DAY_MS, Profile, Resident
from agent.cityos.usecases.city import OpenCity
from agent.protocol.galleries.messages import Position

KEPT_DAYS = 400  # what silent devices said they have, and versions long replaced


@dataclass(frozen=True, slots=True)
class HeldOn:
    """All that is held on a resident. ``templates`` counts them by pack; ``devices`` says who has
    them, by gallery. Of what is handed out there are ``pseudonyms`` by purpose, and ``events``."""

    profile: Profile
    templates: Mapping[str, int]
    devices: Mapping[str, list[str]]
    pseudonyms: Mapping[str, str] = field(default_factory=dict)
    events: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """The receipt's number, and copies of the keys that could not be brought up to date."""

    receipt: str
    copies_left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure has come to: since which version, on which devices, and older copies."""

    erased_ms: int
    versions: Mapping[str, Position | None]
    devices: tuple[Applied, ...]
    copies_left: tuple[str, ...]


def listed(city: OpenCity) -> list[Resident]:
    """Every resident, by id."""
    with city.act() as note:
        found = sorted(city.residents.all(), key=lambda each: each.profile.id)
        note("residents.listed", residents=len(found))
        return found


def shown(city: OpenCity, person_id: str) -> HeldOn:
    """What is held on *person_id*, without their events."""
    with city.act() as note:
        found = _held(city, person_id)
        note("resident.shown", subject=person_id)
        return found


def handed_out(city: OpenCity, person_id: str) -> HeldOn:
    """All that is held on *person_id*, for them."""
    with city.act() as note:
        found = _held(city, person_id)
        events = tuple(city.residents.events(person_id))
        note("resident.exported", subject=person_id, events=len(events))
        pseudonyms = city.residents.pseudonyms(person_id)
        return HeldOn(found.profile, found.templates, found.devices, pseudonyms, events)


def erase(city: OpenCity, person_id: str, now_ms: int) -> ErasureReceipt:
    """Erase all that is held on *person_id*, in every copy of the keys, too; then publish.

    Their key goes first, so that no copy of the database opens; a cut after that is made up for by
    whoever opens the city next.
    """
    with city.act() as note:
        receipt = city.eraser.erase(
            person_id, now_ms, lambda: note("resident.erased", subject=person_id)
        )
    return ErasureReceipt(receipt, tuple(_purge_copies(city, now_ms)))


def erasure(city: OpenCity, receipt: str, now_ms: int) -> ErasureReport:
    """Which device has applied the version without the person erased under *receipt*, and when."""
    serving = {each: city.office.registry.serving(each, now_ms) for each in PURPOSES}
    with reading(city.engine) as db:
        found = receipts.erasure(db, receipt, serving)
    if found is None:
        raise CityError(f"there is no receipt {receipt!r}: it was printed by resident ID --erase")
    at_ms, since, applied = found
    left = (str(path) for path, copied_ms in city.keys.copies().items() if copied_ms < at_ms)
    return ErasureReport(at_ms, since, tuple(applied), tuple(left))


def forget_applied(city: OpenCity, now_ms: int) -> None:
    """Forget whoever was gone by the version that every device has.

    This and ``forget_late`` end what was noted when somebody asked for it: no entry of their own.
    """
    for gallery in PURPOSES:
        devices = city.office.registry.serving(gallery, now_ms)
        with reading(city.engine) as db:
            version = receipts.everybody_has(db, gallery, devices)
        city.publisher.all_have(gallery, version)


def forget_late(city: OpenCity, now_ms: int) -> None:
    """Make late events of the erased nobody's; destroy keys and versions replaced long ago."""
    city.eraser.forget_events(now_ms)
    city.eraser.forget_keys(now_ms)
    city.publisher.prune(now_ms - KEPT_DAYS * DAY_MS)


def _held(city: OpenCity, person_id: str) -> HeldOn:
    found = city.residents.get(person_id)
    with reading(city.engine) as db:
        devices = {each: receipts.holders(db, each, found.ref) for each in PURPOSES}
    held = {each: names for each, names in devices.items() if names is not None}
    return HeldOn(found.profile, found.templates, held)


def _purge_copies(city: OpenCity, now_ms: int) -> list[str]:
    """Bring every copy of the keys up to date; those that cannot be reached."""
    left = []
    for path in city.keys.copies():
        try:
            if not path.exists():
                raise CityError("it is not there")
            backup(city.keys, path, now_ms)
        except (CityError, UsageError):
            left.append(str(path))
    return left
