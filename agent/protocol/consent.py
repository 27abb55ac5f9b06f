"""Consent records, one a purpose, and an enrolment on its way from a device to the city.

Fields after ISO/IEC TS 27560: who may do what with which data, for how long, told in which words.
An enrolment is HPKE-sealed to the city's enrolment key and travels as an event: the journal and
the broker see noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.events.enrolment import MAX_SEALED_BYTES
from agent.protocol.forms import Form
from agent.protocol.galleries.records import MAX_RECORD_BYTES, Record, decode_record, encode_record
from agent.protocol.hpke import open_sealed, seal_to
from agent.protocol.specs import Array, Choice, Flag, Integer, Text

CONSENT_PURPOSES = ("bus", "hall", "linking", "statistics", "third_party")
GUARDIAN_AGE = 16  # below it a guardian consents [requirements A2]
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
class EnrolmentRecord:
    """A resident enrolled at a device: templates under that device's gallery's template key."""

    record: Record
    template_version: int
    consents: tuple[Consent, ...]


_TEXTS = Array(Text(1, 200), 32)
CONSENT = Form(
    Consent,
    "consent",
    {
        "purpose": Choice(CONSENT_PURPOSES),
        "controller": Text(1, 200),
        "categories": _TEXTS,
        "recipients": _TEXTS,
        "retention_days": Integer(0, 36_500),
        "text_version": Text(1, 64),
        "language": Text(2, 16),
        "given_ms": Integer(),
        "expires_ms": Integer(),
        "guardian": Flag(),
    },
)
CONSENTS = Array(CONSENT, len(CONSENT_PURPOSES))
# An enrolment's JSON line; the record follows it.
ENROLMENT_HEAD: Form[dict[str, Any]] = Form(
    dict,
    "enrolment",
    {"template_version": Integer(1), "consents": CONSENTS},
    most_bytes=_MAX_HEAD_BYTES,
)
consent_fields = CONSENT.write


def read_consent(value: Any) -> Consent:
    """Raises MessageError unless *value* is a whole consent record."""
    return CONSENT.read(value, "consent")


def seal_enrolment(enrolment: EnrolmentRecord, device: str, public_key: bytes) -> bytes:
    """*enrolment*, made at *device*, for the city alone. Raises MessageError if it is too big."""
    head = {"template_version": enrolment.template_version, "consents": enrolment.consents}
    plain = ENROLMENT_HEAD.encode(head) + b"\n" + encode_record(enrolment.record)
    sealed = seal_to(public_key, plain, _info(device))
    if len(sealed) > MAX_SEALED_BYTES:
        raise MessageError(
            f"enrolment: {len(sealed)} bytes, at most {MAX_SEALED_BYTES} can be sent; enrol with"
            " fewer templates"
        )
    return sealed


def open_enrolment(sealed: bytes, device: str, private_key: bytes) -> EnrolmentRecord:
    """Raises MessageError unless *sealed* is a whole enrolment that *device* made."""
    if len(sealed) > MAX_SEALED_BYTES:
        raise MessageError(f"enrolment: at most {MAX_SEALED_BYTES} bytes are read")
    head, separator, record = open_sealed(private_key, sealed, _info(device)).partition(b"\n")
    if not separator or len(record) > MAX_RECORD_BYTES:
        raise MessageError("enrolment: it has no record")
    told = ENROLMENT_HEAD.decode(head)
    return EnrolmentRecord(record=decode_record(record), **told)


def _info(device: str) -> bytes:
    return b"kaopass/1 enrolment\0" + device.encode()
