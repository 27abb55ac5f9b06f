"""Publishing galleries, with the signing key here or elsewhere; and rotating their keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.base.audit import Note
from agent.base.values import PURPOSES
from agent.cityos.db.database import reading
from agent.cityos.galleries import receipts
from agent.cityos.galleries.publishing import VALID_DAYS, Noted, Published
from agent.cityos.galleries.receipts import HeldVersion
from agent.cityos.galleries.versions import drafted, head_of, latest
from agent.cityos.usecases.city import OpenCity, open_residents
from agent.cityos.usecases.office import Office
from agent.protocol.galleries.messages import Head


@dataclass(frozen=True, slots=True)
class Publication:
    """New versions in force, and the galleries whose changes wait for a key that is elsewhere."""

    published: tuple[Published, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GalleryState:
    """A gallery: the head in force, whether anything waits, and what devices have of it."""

    gallery: str
    head: Head | None
    waits_for_signature: bool
    changes_wait: bool
    serving: tuple[str, ...]
    held: dict[str, HeldVersion]


def publish(
    city: OpenCity,
    galleries: Iterable[str],
    now_ms: int,
    *,
    force: bool = False,
    valid_days: float = VALID_DAYS,
) -> Publication:
    """New versions of *galleries* where something changed, or of all of them with *force*."""
    published, waiting = [], []
    for gallery in galleries:
        if city.signer is None:
            if city.publisher.is_due(gallery, now_ms):
                waiting.append(gallery)
            continue
        _remove_without_key(city, force)
        with city.act() as note:
            made = city.publisher.publish(
                *(gallery, city.signer, now_ms, _noting(note, "gallery.published")),
                force=force,
                valid_days=valid_days,
            )
        if made is not None:
            published.append(made)
    return Publication(tuple(published), tuple(waiting))


def prepare(
    city: OpenCity, gallery: str, now_ms: int, *, force: bool, valid_days: float
) -> Published | None:
    """What is to be signed elsewhere next; None if nothing changed, unless *force*."""
    _remove_without_key(city, force)
    with city.act() as note:
        return city.publisher.prepare(
            *(gallery, now_ms, _noting(note, "gallery.prepared")),
            force=force,
            valid_days=valid_days,
        )


def finish(city: OpenCity, signed: bytes, now_ms: int) -> Head:
    """Put the version in force that was signed elsewhere. Raises CityError for another."""
    with city.act() as note:
        return city.publisher.finish(signed, now_ms, _noting(note, "gallery.published"))


def rekey(city: OpenCity, gallery: str) -> None:
    """Begin another template key with the next version of *gallery*: publish it."""
    with city.act() as note:
        note("gallery.rekeyed", gallery=gallery)
        city.keys.new_content(gallery, rekey=True)


def lock_out(office: Office, gallery: str, now_ms: int) -> Publication:
    """Publish *gallery* under another content key: who has only the last opens it no more."""
    with open_residents(office) as city:
        with city.act() as note:
            note("gallery.locked", gallery=gallery)
            city.keys.new_content(gallery)
        return publish(city, [gallery], now_ms)


def states(city: OpenCity, now_ms: int) -> list[GalleryState]:
    """Every gallery, and which version each device has."""
    found = []
    for gallery in PURPOSES:
        serving = tuple(city.office.registry.serving(gallery, now_ms))
        with reading(city.engine) as db:
            row, waits = latest(db, gallery), drafted(db, gallery)
            held = receipts.holdings(db, gallery)
        head = head_of(row) if row is not None else None
        due = city.publisher.is_due(gallery, now_ms)
        found.append(GalleryState(gallery, head, waits is not None, due, serving, held))
    return found


def _remove_without_key(city: OpenCity, force: bool) -> None:
    with city.act() as note:
        city.eraser.without_key(
            lambda count: note("residents.removed", residents=count), force=force
        )


def _noting(note: Note, action: str) -> Noted:
    return lambda head: note(
        action,
        gallery=head.gallery,
        epoch=head.epoch,
        version=head.version,
        residents=head.count,
    )
