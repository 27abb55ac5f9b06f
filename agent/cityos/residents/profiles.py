"""What the city keeps of a resident, in memory and sealed under a key of their own.

AES-256-GCM with a random 96-bit nonce in front; the associated data says what a value is and whose,
so that no row passes for another's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.base.errors import CityError
from agent.base.values import BUILT_MS, PURPOSES, Vector
from agent.protocol.consent import Consent, consent_fields, read_consent

CONSENT_DAYS = 365  # requirements A7
DAY_MS = 86_400_000
NONCE_BYTES = 12
_BLOCK = 512  # profiles are filled up, so that their size does not tell how many consents there are


@dataclass(frozen=True, slots=True)
class Given:
    """A consent as the city has it. ``source`` is a device's name, or empty for the city's desk.

    How long it lasts goes by the city's own clock alone: ``accepted_ms``. ``withdrawn_ms`` is None
    while it stands.
    """

    consent: Consent
    accepted_ms: int
    source: str = ""
    withdrawn_ms: int | None = None

    @property
    def ends_ms(self) -> int:
        """When it lapses by itself."""
        longest = self.accepted_ms + CONSENT_DAYS * DAY_MS
        if self.consent.given_ms < BUILT_MS:  # the clock where it was given was never set
            return longest
        return min(self.consent.expires_ms or longest, longest)

    @property
    def since_ms(self) -> int:
        """When it was given, which at a device may be weeks before the city accepted it."""
        if self.source and self.consent.given_ms >= BUILT_MS:
            return min(self.consent.given_ms, self.accepted_ms)
        return self.accepted_ms

    def stands(self, now_ms: int) -> bool:
        return self.withdrawn_ms is None and now_ms < self.ends_ms


@dataclass(frozen=True, slots=True)
class Profile:
    """A resident without their templates; ``consents`` in the order they were given."""

    id: str
    nickname: str
    created_ms: int
    consents: tuple[Given, ...]

    def standing(self, purpose: str, now_ms: int) -> Given | None:
        """The consent to *purpose* that lasts longest; None if none stands."""
        found = [
            given
            for given in self.consents
            if given.consent.purpose == purpose and given.stands(now_ms)
        ]
        return max(found, key=lambda given: given.ends_ms, default=None)

    def next_ms(self, now_ms: int) -> int | None:
        """When the next of their consents lapses, None if none stands."""
        ends = [given.ends_ms for given in self.consents if given.stands(now_ms)]
        return min(ends, default=None)

    def heeding(self, ref: bytes, withdrawals: Mapping[tuple[bytes, str], int]) -> Profile:
        """The same without what was withdrawn, though an old copy of the database forgot it."""
        found = self
        for purpose in {given.consent.purpose for given in self.consents}:
            at_ms = withdrawals.get((ref, purpose))
            if at_ms is not None:
                found = replace(
                    found,
                    consents=tuple(
                        replace(given, withdrawn_ms=at_ms)
                        if given.consent.purpose == purpose
                        and given.withdrawn_ms is None
                        and given.since_ms <= at_ms
                        else given
                        for given in found.consents
                    ),
                )
        return found

    def without(self, purpose: str, now_ms: int) -> Profile:
        """The same with every consent to *purpose* withdrawn."""
        return replace(
            self,
            consents=tuple(
                replace(given, withdrawn_ms=now_ms)
                if given.consent.purpose == purpose and given.withdrawn_ms is None
                else given
                for given in self.consents
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """A resident as the database has them. ``templates`` counts them by pack."""

    ref: bytes
    profile: Profile
    revision: int
    templates: Mapping[str, int] = field(default_factory=dict)


class Seal:
    """Opens and seals what belongs to one resident; ``repr`` shows no key."""

    __slots__ = ("_cipher", "_ref")

    def __init__(self, key: bytes, ref: bytes) -> None:
        self._cipher = AESGCM(key)
        self._ref = ref

    def seal(self, value: bytes, what: str) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, what.encode() + b"\0" + self._ref)

    def open(self, sealed: bytes, what: str) -> bytes:
        """Raises CityError if *sealed* was altered, or is another's."""
        try:
            return self._cipher.decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], what.encode() + b"\0" + self._ref
            )
        except InvalidTag as error:
            raise CityError(
                f"city database: the {what.partition(' ')[0]} of resident"
                f" {self._ref.hex()[:8]} was altered, or the town's keys are of another time"
            ) from error

    def seal_profile(self, profile: Profile) -> bytes:
        value = {
            "id": profile.id,
            "nickname": profile.nickname,
            "created_ms": profile.created_ms,
            "consents": [given_fields(given) for given in profile.consents],
        }
        plain = json.dumps(value, ensure_ascii=False).encode()
        return self.seal(plain.ljust(-(-len(plain) // _BLOCK) * _BLOCK), "profile")

    def open_profile(self, sealed: bytes) -> Profile:
        value = json.loads(self.open(sealed, "profile"))
        return Profile(
            value["id"],
            value["nickname"],
            value["created_ms"],
            tuple(
                Given(
                    read_consent(given),
                    given["accepted_ms"],
                    given["source"],
                    given["withdrawn_ms"],
                )
                for given in value["consents"]
            ),
        )

    def seal_templates(self, pack: str, rows: Vector) -> bytes:
        """*rows* is float32 (n, d), mapped by the city's own template key."""
        return self.seal(np.ascontiguousarray(rows, "<f4").tobytes(), f"templates {pack}")

    def open_templates(self, pack: str, count: int, sealed: bytes) -> Vector:
        plain = self.open(sealed, f"templates {pack}")
        return np.frombuffer(plain, "<f4").reshape(count, -1)


def given_fields(given: Given) -> dict[str, object]:
    """*given* as a JSON object."""
    return {
        **consent_fields(given.consent),
        "accepted_ms": given.accepted_ms,
        "source": given.source,
        "withdrawn_ms": given.withdrawn_ms,
    }


def served(profile: Profile, gallery: str, now_ms: int) -> tuple[int, bool] | None:
    """Whether *gallery* holds them: (when that consent lapses, whether bus and hall are linked)."""
    assert gallery in PURPOSES  # noqa: S101 - one gallery a purpose
    given = profile.standing(gallery, now_ms)
    if given is None:
        return None
    return given.ends_ms, profile.standing("linking", now_ms) is not None
