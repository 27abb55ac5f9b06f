"""The city's keys and the one copy of them: kept up to date, put back, said to be destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import CityError
from agent.cityos.keys import keybackup
from agent.cityos.usecases.office import CityPlaces, Office, open_keys


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """How many residents have a key, and when each copy was last up to date, Unix ms."""

    residents: int
    copies: Mapping[Path, int]


def keys_status(places: CityPlaces) -> KeysStatus:
    with open_keys(places) as keys:
        return KeysStatus(len(keys.residents()), keys.copies())


def backup_keys(office: Office, target: Path, now_ms: int) -> int:
    """Make or bring up to date the copy at *target*; how many destroyed keys went from it."""
    with open_keys(office.places) as keys, office.act() as note:
        return keybackup.backup(keys, target, now_ms, lambda: note("keys.copied"))


def restore_keys(office: Office, copy: Path) -> None:
    """Put the keys of *copy* where there are none, and see that they open."""
    with office.act() as note:
        keybackup.restore(copy, office.places.keys, lambda: note("keys.restored"))
        with open_keys(office.places):
            pass


def forget_copy(office: Office, copy: Path) -> None:
    """The copy at *copy* was destroyed: receipts no longer name it. CityError if it is unknown."""
    copy = copy.absolute()
    with open_keys(office.places) as keys, office.act() as note:
        if copy not in keys.copies():
            raise CityError(f"{copy} is no known copy: see kaopass city keys status")
        note("keys.copy_destroyed")
        keys.forget_copy(copy)
