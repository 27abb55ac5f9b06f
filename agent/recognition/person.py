"""Who can be enrolled, as the gallery tells of them: the words allowed, and what a check found."""

from __future__ import annotations

from dataclasses import dataclass

from agent.base.errors import UsageError
from agent.base.values import PURPOSES

MAX_ID_LENGTH = 128
MAX_NICKNAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody enrolled. ``templates`` counts their templates by model pack.

    ``source`` is "device" for whoever was enrolled here, "city" for a resident of the city's
    version, and "provisional" for whoever was enrolled here and waits for a version with them in
    it. ``linked`` and ``expires_ms`` are as in ``agent.protocol.galleries.records.Record``.
    """

    id: str
    nickname: str
    purposes: tuple[str, ...]
    created_ms: int
    templates: dict[str, int]
    source: str = "device"
    linked: bool = False
    expires_ms: int = 0


@dataclass(frozen=True, slots=True)
class Roster:
    """What the door needs to know of people beside their templates, by id.

    ``nicknames`` of those who chose one, ``linked`` of those known by one pseudonym in bus and
    hall, ``expires_ms`` of those whose consent lapses, Unix time.
    """

    nicknames: dict[str, str]
    linked: frozenset[str]
    expires_ms: dict[str, int]

    def but(self, gone: frozenset[str], new: Roster) -> Roster:
        """Without *gone*, and with those of *new*."""
        return Roster(
            {n: v for n, v in self.nicknames.items() if n not in gone} | new.nicknames,
            (self.linked - gone) | new.linked,
            {n: v for n, v in self.expires_ms.items() if n not in gone} | new.expires_ms,
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """What a full check found: how many of each there are, and how many of them do not open."""

    people: int
    damaged_people: int
    templates: int
    damaged_templates: int

    @property
    def sound(self) -> bool:
        return not (self.damaged_people or self.damaged_templates)


def check_words(person_id: str, nickname: str, purposes: tuple[str, ...]) -> None:
    """Raises UsageError for an id, a nickname or purposes that the gallery does not take."""
    if not person_id or len(person_id) > MAX_ID_LENGTH or not person_id.isprintable():
        raise UsageError(
            f"id {person_id!r}: must be 1 to {MAX_ID_LENGTH} characters, all of them printable"
        )
    if len(nickname) > MAX_NICKNAME_LENGTH or not nickname.isprintable():
        raise UsageError(
            f"nickname {nickname!r}: must be at most {MAX_NICKNAME_LENGTH} printable characters"
        )
    unknown = [purpose for purpose in purposes if purpose not in PURPOSES]
    if unknown or not purposes:
        raise UsageError(f"purposes {list(purposes)}: choose from {', '.join(PURPOSES)}")
