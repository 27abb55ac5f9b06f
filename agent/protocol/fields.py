"""JSON to and from the network, and the error that names the field which is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

from agent.base.errors import MessageError

MAX_INTEGER = 2**53  # what every JSON reader keeps exactly
# json.dumps would make an encoder each time.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
