"""What use cases about events and residents work on: the database, the keys, galleries, opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from agent.base.audit import Note, audited
from agent.base.errors import CityError
from agent.base.values import PURPOSES
from agent.cityos.db.database import open_engine
from agent.cityos.galleries.publishing import Publisher
from agent.cityos.galleries.signing import head_signer
from agent.cityos.keys.audit import audit_log
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.residents import Residents
from agent.cityos.usecases.office import CityPlaces, Office, open_keys, open_office
from agent.protocol.galleries.messages import Head
from agent.protocol.signed import Trust


@dataclass(frozen=True, slots=True)
class CityDatabase:
    """The city's database, where the log of what is asked of it is, and who asks."""

    engine: Engine
    authority: Path
    actor: str = ""

    def act(self) -> AbstractContextManager[Note]:
        """``audited`` for whoever acts. Raises CityError.

        Without an authority there is no log: nothing is signed there, and no device obeys.
        """
        try:
            there = (self.authority / "issuing.pem").exists()
        except OSError as error:
            raise CityError(f"{self.authority}: cannot be read: {error.strerror}") from error
        return audited(audit_log(self.authority) if there else None, self.actor)


@dataclass(frozen=True, slots=True)
class OpenCity:
    """Everything about residents. ``signer`` is None if the gallery key is elsewhere."""

    office: Office
    engine: Engine
    residents: Residents
    eraser: Eraser
    publisher: Publisher
    signer: Callable[[Head], bytes] | None

    @property
    def keys(self) -> TownKeys:
        return self.residents.keys

    def act(self) -> AbstractContextManager[Note]:
        """``audited`` for whoever acts."""
        return self.office.act()


@contextmanager
def open_database(places: CityPlaces, actor: str = "") -> Iterator[CityDatabase]:
    """The database in *places*, which must be there. Raises CityError."""
    engine = open_engine(places.database, create=False)
    try:
        yield CityDatabase(engine, places.ca_directory, actor)
    finally:
        engine.dispose()


@contextmanager
def open_city(places: CityPlaces, actor: str = "") -> Iterator[OpenCity]:
    """The residents of the city in *places*. Raises CityError."""
    with open_office(places, actor) as office, open_residents(office) as city:
        yield city


@contextmanager
def open_residents(office: Office) -> Iterator[OpenCity]:
    """The residents of *office*'s city. Raises CityError."""
    # Beside keys there is a database: a new one in a wrong place would make every gallery empty.
    fresh = not office.places.has_keys
    with open_keys(office.places) as keys:
        engine = open_engine(office.places.database, create=fresh)
        try:
            yield city_of(office, engine, keys)
        finally:
            engine.dispose()


def city_of(office: Office, engine: Engine, keys: TownKeys) -> OpenCity:
    """The parts put together. Raises CityError for keys that are not this database's."""
    signer = head_signer(office.authority)
    if signer is not None:
        for gallery in PURPOSES:
            keys.heard(gallery, signer.last(gallery))
    residents = Residents(engine, keys)
    publisher = Publisher(engine, residents, Trust(office.authority.certificates_pem()))
    return OpenCity(office, engine, residents, Eraser(residents), publisher, signer)
