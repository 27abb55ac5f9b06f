"""What happens to a town that is upgraded: founded by the old version, then one half after another.

Devices are upgraded while they hold what the city has not heard yet, the city while devices are
out of its reach.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from sqlalchemy import create_engine, text

from agent.cityos.db.database import address
from agent.sim.photographs import passengers, picture
from tests.hw.models.networks import networks
from tests.upgrade.town import (
    ANNA,
    BEN,
    DOOR,
    PHOTOGRAPH,
    SERIAL,
    MixedTown,
    Running,
    UpgradeError,
    Version,
    until,
)

ORDERS = ("city-first", "device-first")
QUARANTINED = "bad_kind"
Identity = tuple[str, int]  # epoch and sequence number


@dataclass
class Figures:
    """What was counted in the end. ``doubled``: at the city under two identities."""

    events: int = 0
    told: int = 0
    waiting: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.told} told to passengers, {self.waiting} waited over the"
            f" upgrade; lost {self.lost}, doubled {self.doubled}, changed {self.changed}"
        )


def tell(
    folder: Path, database: str, old: Version, new: Version, order: str, boardings: int
) -> Figures:
    """Upgrade a town in *folder*, after *boardings* in each of its four stretches.

    Raises UpgradeError where something does not come about.
    """
    town = MixedTown(folder, database, boardings)
    try:
        return _told(town, old, new, order)
    finally:
        town.broker.stop()


def _told(town: MixedTown, old: Version, new: Version, order: str) -> Figures:
    told: set[Identity] = set()
    spare = _founded(town, old)
    _filled(town, old, told)
    before, waiting = at_city(town.database), unacknowledged(town)
    halves = (new, old) if order == "city-first" else (old, new)
    for city, device in (halves, (new, new)):
        with town.city(city), town.door(device) as door:
            told |= _boarding(town, door)
            _answers(town, city)
            _settled(town)
        told |= set(town.boarded(door))
    figures = verdict(told, journalled(town), at_city(town.database), before)
    if len(told) < 4 * town.boardings:
        figures.problems.append(f"only {len(told)} boardings")
    figures.waiting = len(waiting)
    figures.problems += list(_checks(town, new, spare))
    return figures


def _founded(town: MixedTown, old: Version) -> str:
    """The authority, one device in service, one revoked, and the code of a claim not yet used."""
    town.found(old)
    town.provision(old, town.claim(old, DOOR, SERIAL))
    other = town.folder / "other.toml"
    settings = town.settings.read_text().replace(DOOR, "bus-3").replace(SERIAL, "S3")
    other.write_text(settings.replace(str(town.state), str(town.folder / "other")))
    town.provision(old, town.claim(old, "bus-3", "S3"), other)
    town.run(old, "city", "device", "revoke", "bus-3", "--ca-directory", town.ca)
    return town.claim(old, "bus-2", "S2")


def _filled(town: MixedTown, old: Version, told: set[Identity]) -> None:
    """Residents, boardings that the city has, then some that it has not, and an enrolment."""
    ben = town.folder / "ben.png"
    _cut_out(ben)
    for resident, shown in ((ANNA, picture(PHOTOGRAPH)), (BEN, ben)):
        where = ("--purpose", "bus", "--settings", town.settings)
        town.town(old, "resident", "add", resident, shown, *where)
    ben.unlink()
    with town.city(old), town.door(old) as door:
        told |= _boarding(town, door)
        _settled(town)
    told |= set(town.boarded(door))
    place = ("--ca-directory", town.ca)
    town.run(old, "city", "keys", "backup", town.folder / "keys.copy", *place)
    with town.door(old) as door:  # the city is away
        told |= _boarding(town, door)
    told |= set(town.boarded(door))
    (consent, *_) = town.town(old, "consent", "show", ANNA)
    asked = ("--agreed", "bus", "--notice", consent["text_version"], "--controller", "Izumi")
    town.device(old, "gallery", "enroll", ANNA, picture(PHOTOGRAPH), *asked)
    with closing(sqlite3.connect(town.state / "journal.db")) as db, db:
        # As after a refusal: the city has it, but the device set it aside.
        db.execute(
            "UPDATE event SET state = 'quarantined', code = ? WHERE id ="
            " (SELECT min(id) FROM event WHERE state = 'acked')",
            (QUARANTINED,),
        )


def _cut_out(target: Path) -> None:
    """One person of a photograph of many, alone."""
    person = passengers(networks().detector)[0]
    x1, y1, x2, y2 = (int(value) for value in person.face)
    edge = (x2 - x1) // 2
    cut = person.photograph[max(0, y1 - edge) : y2 + edge, max(0, x1 - edge) : x2 + edge]
    cv2.imwrite(str(target), cv2.resize(cut, None, fx=2, fy=2))


def _boarding(town: MixedTown, door: Running) -> set[Identity]:
    """Wait until some have boarded; who was told so."""
    until(lambda: len(town.boarded(door)) >= town.boardings or door.process.poll(), door.said)
    return set(town.boarded(door))


def _answers(town: MixedTown, city: Version) -> None:
    """A signed command is carried out whichever of both is newer."""
    (answer,) = town.town(city, "command", "send", DOOR, "ping", "--wait", "60")[-1:]
    if answer["state"] != "done":
        raise UpgradeError(f"ping: {answer}")


def _settled(town: MixedTown) -> None:
    """Wait until nothing of what was there at the beginning is left to be sent."""
    waiting = unacknowledged(town)
    until(lambda: not waiting & unacknowledged(town), lambda: f"pending {len(waiting)}")


# What is where.


def journalled(town: MixedTown) -> dict[Identity, str]:
    """The state of every event in the door's journal."""
    path = town.state / "journal.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT lower(hex(epoch)), seq, state FROM event").fetchall()
    return {(epoch, seq): state for epoch, seq, state in rows}


def unacknowledged(town: MixedTown) -> set[Identity]:
    return {identity for identity, state in journalled(town).items() if state == "pending"}


def at_city(database: str) -> dict[Identity, Sequence[Any]]:
    """Every event and enrolment of the door that the city has, each with what it says."""
    engine = create_engine(address(database))
    found: dict[Identity, Sequence[Any]] = {}
    with engine.connect() as db:
        columns = "kind, purpose, person, place, door, boot, mono_ms, wall_ms, received_ms"
        events = text(f"SELECT epoch, seq, {columns} FROM event WHERE device = :d")  # noqa: S608
        sealed = text("SELECT epoch, seq, received_ms FROM enrolment WHERE device = :d")
        for query in (events, sealed):
            for epoch, seq, *rest in db.execute(query, {"d": DOOR}):
                found[epoch, seq] = tuple(rest)
    engine.dispose()
    return found


def verdict(
    told: set[Identity],
    journal: dict[Identity, str],
    city: dict[Identity, Sequence[Any]],
    before: dict[Identity, Sequence[Any]],
) -> Figures:
    """Compare what passengers were *told*, what the *journal* holds, and what the *city* has.

    *before* is what the city had before the upgrade.
    """
    pending = {identity for identity, state in journal.items() if state == "pending"}
    moments = [row[5:7] for row in city.values() if len(row) > 1]
    figures = Figures(
        events=len(city),
        told=len(told),
        lost=len((told | set(journal)) - set(city) - pending),
        doubled=len(set(city) - set(journal)) + len(moments) - len(set(moments)),
        changed=sum(city.get(identity) != row for identity, row in before.items()),
    )
    if figures.lost or figures.doubled or figures.changed:
        figures.problems.append("events are not what they were")
    if not told <= set(journal):
        figures.problems.append("a passenger was told of an event that is in no journal")
    if list(journal.values()).count("quarantined") != 1:
        figures.problems.append("what was set aside is not any more")
    return figures


def _checks(town: MixedTown, new: Version, spare: str) -> list[str]:
    """What the new version makes of everything else that the old one wrote."""
    problems = []

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            problems.append(f"{what}: {found!r} instead of {wanted!r}")

    (door,) = town.rows(new, "city", "devices", "--database", town.database)
    expect("gaps", door["gaps"], 0)
    (enrolment,) = town.rows(new, "city", "enrolments", "list", "--database", town.database)
    expect("enrolment", enrolment["state"], "taken")
    place = ("--ca-directory", town.ca)
    devices = town.rows(new, "city", "device", "list", *place)
    states = {row["name"]: row["state"] for row in devices}
    expect("registry", states, {DOOR: "active", "bus-2": "claimed", "bus-3": "revoked"})
    expect("residents", {row["id"] for row in town.town(new, "resident", "list")}, {ANNA, BEN})
    (copy, *_) = town.town(new, "resident", "show", ANNA)
    expect("templates", list(copy["templates"].values()), [1])
    stats = town.device(new, "journal", "stats")[0]
    expect("quarantined", stats["quarantined"], 1)
    (checked,) = town.device(new, "gallery", "verify")
    expect("gallery", checked["damaged_templates"] + checked["damaged_people"], 0)
    # A claim of the old city makes a device of the new one.
    other = town.folder / "bus-2.toml"
    settings = town.settings.read_text().replace(DOOR, "bus-2").replace(SERIAL, "S2")
    other.write_text(settings.replace(str(town.state), str(town.folder / "bus-2")))
    town.provision(new, spare, other)
    _erased(town, new, expect)
    _restored(town, new, expect)
    return problems


def _erased(town: MixedTown, new: Version, expect: Any) -> None:
    """Who is erased now is gone from the door, and from the old copy of the keys."""
    with town.city(new), town.door(new):
        (receipt,) = town.town(new, "resident", BEN, "--erase")
        until(
            lambda: town.town(new, "resident", "receipts", receipt["receipt"])[0]["devices"],
            lambda: json.dumps(town.town(new, "resident", "receipts", receipt["receipt"])),
        )
    (listed,) = town.device(new, "gallery", "list")
    people = [row["id"] for row in listed]
    expect("at the door", people, [ANNA])
    expect("copies left", receipt["copies_left"], [])


def _restored(town: MixedTown, new: Version, expect: Any) -> None:
    """The copy of the keys that the old version made opens the database."""
    keys = town.ca / "keys"
    (keys / "keys.db").rename(keys / "keys.lost")
    place = ("--ca-directory", town.ca)
    town.run(new, "city", "keys", "restore", town.folder / "keys.copy", *place)
    listed = [row["id"] for row in town.town(new, "resident", "list")]
    expect("residents under restored keys", listed, [ANNA])
