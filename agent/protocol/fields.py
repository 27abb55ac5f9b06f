"""Strict reading of JSON from the network: what is asked for, in its range, or a MessageError."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, cast

from agent.base.errors import MessageError

# json.dumps would make an encoder each time.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

MAX_INTEGER = 2**53  # what every JSON reader keeps exactly
CODE = re.compile(r"[a-z0-9_]{1,64}")
BOOT = re.compile(r"[A-Za-z0-9_-]{1,64}")

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
# Control characters and lone surrogates: no database keeps them all, and no text needs them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class FieldError(MessageError):
    """One field is wrong. The message never holds its value: it may be a pseudonym."""

    def __init__(self, field: str, why: str) -> None:
        self.field, self.why = field, why
        super().__init__(f"{field}: {why}")

    @property
    def code(self) -> str:
        """The nack code for it, for example "bad_place_name"."""
        return f"bad_{self.field.replace('.', '_')}"


class CrossCheckError(FieldError):
    """What a schema allows breaks a rule that schemas cannot express."""


def fields(value: Any, wanted: tuple[str, ...], what: str) -> dict[str, Any]:
    """*value* as an object with all of *wanted*; more is left for later versions to mean."""
    if not isinstance(value, dict):
        raise FieldError(what, "not an object")
    missing = [key for key in wanted if key not in value]
    if missing:
        raise FieldError(what, f"{', '.join(missing)} missing")
    return cast("dict[str, Any]", value)


def array(value: Any, most: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise FieldError(what, f"not an array of at most {most}")
    return value


def integer(value: Any, what: str, least: int = 0, most: int = MAX_INTEGER - 1) -> int:
    # bool is an int to Python but not to the protocol.
    if type(value) is not int or not least <= value <= most:
        top = "2^53" if most == MAX_INTEGER - 1 else str(most)
        raise FieldError(what, f"not an integer from {least} to {top}")
    return value


def flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise FieldError(what, "not true or false")
    return value


def text(value: Any, what: str, least: int, most: int) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most or _UNPRINTABLE.search(value):
        raise FieldError(what, f"not a text of {least} to {most} characters")
    return value


def name(value: Any, what: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise FieldError(what, f"does not match {pattern.pattern}")
    return value


def choice(value: Any, what: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise FieldError(what, f"not one of {', '.join(choices)}")
    return value


def device_name(value: Any) -> str:
    return name(value, "device", _DEVICE)


def epoch_name(value: Any) -> str:
    return name(value, "epoch", _EPOCH)


def hexadecimal(value: Any, what: str, size: int) -> bytes:
    """Exactly *size* bytes written as lower-case hexadecimal digits."""
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        raise FieldError(what, f"not {2 * size} hexadecimal digits")
    return bytes.fromhex(value)


def encoded(value: Any, what: str, least: int, most: int) -> bytes:
    """*least* to *most* bytes in base64 (RFC 4648, section 4)."""
    if not isinstance(value, str) or len(value) > (most + 2) // 3 * 4:
        raise FieldError(what, f"not base64 of {least} to {most} bytes")
    try:
        found = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise FieldError(what, "not base64") from error
    if not least <= len(found) <= most:
        raise FieldError(what, f"not base64 of {least} to {most} bytes")
    return found


def encode_bytes(value: bytes) -> str:
    """*value* in base64, for JSON."""
    return base64.b64encode(value).decode("ascii")


def compact(value: Any) -> bytes:
    """*value* as JSON without spaces, in UTF-8."""
    return _COMPACT(value).encode()


def parse(payload: bytes, most: int, what: str) -> Any:
    """*payload* as JSON of at most *most* bytes. Raises MessageError."""
    if len(payload) > most:
        raise MessageError(f"{what}: {len(payload)} bytes, at most {most} are read")
    try:
        return json.loads(payload.decode(), parse_constant=_no_constant)
    # ValueError: no UTF-8, no JSON, a number of thousands of digits; RecursionError: nested deep.
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{what}: not JSON: {type(error).__name__}") from error


def parse_topic(topic: str) -> tuple[str, str]:
    """(device, the rest) of ``kp1/{device}/...``, for example ("bus-7", "u/ev")."""
    parts = topic.split("/", 2)
    if len(parts) != 3 or parts[0] != "kp1" or not _DEVICE.fullmatch(parts[1]):
        raise MessageError(f"topic {topic[:80]!r} is not kp1/<device>/...")
    return parts[1], parts[2]


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
