"""Consent records, one a purpose, and an enrolment on its way from a device to the city.

Fields after ISO/IEC TS 27560: who may do what with which data, for how long, told in which words.
An enrolment is HPKE-sealed to the city's enrolment key and travels as an event: the journal and
the broker see noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.events.enrolment import MAX_SEALED_BYTES
from agent.protocol.fields import array, choice, compact, fields, flag, integer, parse, text
from agent.protocol.galleries.records import MAX_RECORD_BYTES, Record, decode_record, encode_record
from agent.protocol.hpke import open_sealed, seal_to

CONSENT_PURPOSES = ("bus", "hall", "linking", "statistics", "third_party")
GUARDIAN_AGE = 16  # below it a guardian consents [requirements A2]
_MAX_LIST = 32
_MAX_HEAD_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Consent:
    """A resident's consent to one purpose.

    ``text_version`` and ``language`` name the notice that was shown; ``guardian`` that a guardian
    gave it. Times are Unix milliseconds; ``given_ms`` is 0 where no clock was known.
    """

    purpose: str
    controller: str
    categories: tuple[str, ...]
    recipients: tuple[str, ...]
    retention_days: int
    text_version: str
    language: str
    given_ms: int
    expires_ms: int
    guardian: bool = False


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A resident enrolled at a device: templates under that device's gallery's template key."""

    record: Record
    template_version: int
    consents: tuple[Consent, ...]


def consent_fields(consent: Consent) -> dict[str, Any]:
    """*consent* as a JSON object."""
    return {
        "purpose": consent.purpose,
        "controller": consent.controller,
        "categories": list(consent.categories),
        "recipients": list(consent.recipients),
        "retention_days": consent.retention_days,
        "text_version": consent.text_version,
        "language": consent.language,
        "given_ms": consent.given_ms,
        "expires_ms": consent.expires_ms,
        "guardian": consent.guardian,
    }


def read_consent(value: Any) -> Consent:
    """Raises MessageError unless *value* is a whole consent record."""
    wanted = (
        *("purpose", "controller", "categories", "recipients", "retention_days"),
        *("text_version", "language", "given_ms", "expires_ms", "guardian"),
    )
    told = fields(value, wanted, "consent")
    return Consent(
        purpose=choice(told["purpose"], "consent.purpose", CONSENT_PURPOSES),
        controller=text(told["controller"], "consent.controller", 1, 200),
        categories=_texts(told["categories"], "consent.categories"),
        recipients=_texts(told["recipients"], "consent.recipients"),
        retention_days=integer(told["retention_days"], "consent.retention_days", 0, 36_500),
        text_version=text(told["text_version"], "consent.text_version", 1, 64),
        language=text(told["language"], "consent.language", 2, 16),
        given_ms=integer(told["given_ms"], "consent.given_ms"),
        expires_ms=integer(told["expires_ms"], "consent.expires_ms"),
        guardian=flag(told["guardian"], "consent.guardian"),
    )


def seal_enrolment(enrolment: Enrolment, device: str, public_key: bytes) -> bytes:
    """*enrolment*, made at *device*, for the city alone. Raises MessageError if it is too big."""
    head = {
        "template_version": enrolment.template_version,
        "consents": [consent_fields(consent) for consent in enrolment.consents],
    }
    plain = compact(head) + b"\n" + encode_record(enrolment.record)
    sealed = seal_to(public_key, plain, _info(device))
    if len(sealed) > MAX_SEALED_BYTES:
        raise MessageError(
            f"enrolment: {len(sealed)} bytes, at most {MAX_SEALED_BYTES} can be sent; enrol with"
            " fewer templates"
        )
    return sealed


def open_enrolment(sealed: bytes, device: str, private_key: bytes) -> Enrolment:
    """Raises MessageError unless *sealed* is a whole enrolment that *device* made."""
    if len(sealed) > MAX_SEALED_BYTES:
        raise MessageError(f"enrolment: at most {MAX_SEALED_BYTES} bytes are read")
    head, separator, record = open_sealed(private_key, sealed, _info(device)).partition(b"\n")
    if not separator or len(record) > MAX_RECORD_BYTES:
        raise MessageError("enrolment: it has no record")
    told = fields(
        parse(head, _MAX_HEAD_BYTES, "enrolment"), ("template_version", "consents"), "enrolment"
    )
    consents = array(told["consents"], len(CONSENT_PURPOSES), "consents")
    return Enrolment(
        record=decode_record(record),
        template_version=integer(told["template_version"], "template_version", 1),
        consents=tuple(read_consent(consent) for consent in consents),
    )


def _texts(value: Any, what: str) -> tuple[str, ...]:
    found: Sequence[Any] = array(value, _MAX_LIST, what)
    return tuple(text(item, what, 1, 200) for item in found)


def _info(device: str) -> bytes:
    return b"kaopass/1 enrolment\0" + device.encode()
