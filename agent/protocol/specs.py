"""Fields of JSON messages, each said once: a specification reads strictly, writes, and is a schema.

``Integer(1).read(value, "seq")`` gives the number or raises FieldError. ``forms.Form``
puts fields together to an object.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.protocol.fields import (
    MAX_INTEGER,
    CrossCheckError,
    FieldError,
    encode_bytes,
)

# Control characters and lone surrogates: no database keeps them all, and no text needs them.
_UNPRINTABLE = r"\u0000-\u001f\u007f\ud800-\udfff"
_UNPRINTABLE_PATTERN = re.compile(f"[{_UNPRINTABLE}]")
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_BASE64_PATTERN = re.compile(_BASE64)

T = TypeVar("T")


class Spec(Generic[T]):
    """What one JSON value must be. As a dataclass field it would be of type T."""

    __slots__ = ()

    def read(self, value: Any, what: str) -> T:
        """*value* in Python. Raises FieldError, which calls it *what*."""
        raise NotImplementedError

    def write(self, value: T) -> Any:
        """What ``read`` takes for *value*."""
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of what ``read`` takes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Integer(Spec[int]):
    """A whole number, without fraction or exponent."""

    least: int = 0
    most: int = MAX_INTEGER - 1

    def read(self, value: Any, what: str) -> int:
        # bool is an int to Python but not to the protocol.
        if type(value) is not int or not self.least <= value <= self.most:
            top = "2^53" if self.most == MAX_INTEGER - 1 else str(self.most)
            raise FieldError(what, f"not an integer from {self.least} to {top}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Flag(Spec[bool]):
    """True or false."""

    def read(self, value: Any, what: str) -> bool:
        if not isinstance(value, bool):
            raise FieldError(what, "not true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Constant(Spec[Any]):
    """Always the same text, number or truth value; a ``Form`` hands it to nobody."""

    value: str | int | bool

    def read(self, value: Any, what: str) -> Any:
        if type(value) is not type(self.value) or value != self.value:
            raise FieldError(what, f"not {json.dumps(self.value)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"const": self.value}


@dataclass(frozen=True, slots=True)
class Text(Spec[str]):
    """Printable Unicode, *least* to *most* characters long."""

    least: int
    most: int

    def read(self, value: Any, what: str) -> str:
        if (
            not isinstance(value, str)
            or not self.least <= len(value) <= self.most
            or (not value.isprintable() and _UNPRINTABLE_PATTERN.search(value))
        ):
            raise FieldError(what, f"not a text of {self.least} to {self.most} characters")
        return value

    def schema(self) -> dict[str, Any]:
        return {
            **{"type": "string", "minLength": self.least, "maxLength": self.most},
            "pattern": f"^[^{_UNPRINTABLE}]*$",
        }


@dataclass(frozen=True, slots=True)
class Name(Spec[str]):
    """A text that matches *pattern* as a whole; the pattern is the same in ECMA-262."""

    pattern: re.Pattern[str]

    def read(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise FieldError(what, f"does not match {self.pattern.pattern}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern.pattern}$"}


@dataclass(frozen=True, slots=True)
class Choice(Spec[str]):
    """One of a few words."""

    choices: tuple[str, ...]

    def read(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise FieldError(what, f"not one of {', '.join(self.choices)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@dataclass(frozen=True, slots=True)
class Hexadecimal(Spec[bytes]):
    """Exactly *size* bytes written as lower-case hexadecimal digits."""

    size: int

    def read(self, value: Any, what: str) -> bytes:
        if not isinstance(value, str) or not re.fullmatch(self._pattern, value):
            raise FieldError(what, f"not {2 * self.size} hexadecimal digits")
        return bytes.fromhex(value)

    def write(self, value: bytes) -> str:
        return value.hex()

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self._pattern}$"}

    @property
    def _pattern(self) -> str:
        return f"[0-9a-f]{{{2 * self.size}}}"


@dataclass(frozen=True, slots=True)
class Base64(Spec[bytes]):
    """*least* to *most* bytes in base64 (RFC 4648, section 4), padded."""

    least: int
    most: int

    def read(self, value: Any, what: str) -> bytes:
        if not isinstance(value, str) or len(value) > (self.most + 2) // 3 * 4:
            raise FieldError(what, f"not base64 of {self.least} to {self.most} bytes")
        if not _BASE64_PATTERN.fullmatch(value):
            raise FieldError(what, "not base64")
        found = base64.b64decode(value)
        if not self.least <= len(found) <= self.most:
            # The schema counts characters, of which there are the same for up to three sizes.
            raise CrossCheckError(what, f"not base64 of {self.least} to {self.most} bytes")
        return found

    def write(self, value: bytes) -> str:
        return encode_bytes(value)

    def schema(self) -> dict[str, Any]:
        least, most = ((size + 2) // 3 * 4 for size in (self.least, self.most))
        return {
            **{"type": "string", "contentEncoding": "base64", "pattern": f"^{_BASE64}$"},
            **{"minLength": least, "maxLength": most},
            "$comment": f"{self.least} to {self.most} bytes",
        }


@dataclass(frozen=True, slots=True)
class Array(Spec[tuple[T, ...]]):
    """At most *most* of *item*."""

    item: Spec[T]
    most: int
    least: int = 0

    def read(self, value: Any, what: str) -> tuple[T, ...]:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise FieldError(what, f"not an array of at most {self.most}")
        return tuple([self.item.read(item, what) for item in value])

    def write(self, value: tuple[T, ...]) -> list[Any]:
        return [self.item.write(item) for item in value]

    def schema(self) -> dict[str, Any]:
        return {
            **{"type": "array", "items": self.item.schema()},
            **{"minItems": self.least, "maxItems": self.most},
        }


@dataclass(frozen=True, slots=True)
class Pair(Spec[tuple[T, T]], Generic[T]):
    """An array of two, for example the first and last number of a range."""

    item: Spec[T]

    def read(self, value: Any, what: str) -> tuple[T, T]:
        if not isinstance(value, list) or len(value) != 2:
            raise FieldError(what, "not an array of two")
        return self.item.read(value[0], what), self.item.read(value[1], what)

    def write(self, value: tuple[T, T]) -> list[Any]:
        return [self.item.write(item) for item in value]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), "minItems": 2, "maxItems": 2}


@dataclass(frozen=True, slots=True)
class Nullable(Spec["T | None"], Generic[T]):
    """*item*, or null for what is not known."""

    item: Spec[T]

    def read(self, value: Any, what: str) -> T | None:
        return None if value is None else self.item.read(value, what)

    def write(self, value: T | None) -> Any:
        return None if value is None else self.item.write(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Optional(Spec["T | None"], Generic[T]):
    """A field that may be left out, and is read as *default* then; None is left out."""

    item: Spec[T]
    default: T | None = None

    def read(self, value: Any, what: str) -> T | None:
        return self.item.read(value, what)

    def write(self, value: T | None) -> Any:
        return None if value is None else self.item.write(value)

    def schema(self) -> dict[str, Any]:
        return self.item.schema()


@dataclass(frozen=True, slots=True)
class OpenObject(Spec[dict[str, Any]]):
    """An object whose fields are judged elsewhere, of at most *most_bytes* of JSON."""

    most_bytes: int
    of_objects: bool = False

    def read(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise FieldError(what, "not an object")
        if self.of_objects and not all(isinstance(item, dict) for item in value.values()):
            raise FieldError(what, "not an object of objects")
        if len(json.dumps(value)) > self.most_bytes:
            raise CrossCheckError(what, f"at most {self.most_bytes} bytes are read")
        return value

    def write(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return dict(value)

    def schema(self) -> dict[str, Any]:
        inner = {"additionalProperties": {"type": "object"}} if self.of_objects else {}
        return {"type": "object", **inner, "$comment": f"at most {self.most_bytes} bytes of JSON"}


# What several messages have.
DEVICE = Name(re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"))
EPOCH = Name(re.compile(r"[A-Za-z0-9_-]{1,64}"))
BOOT = Name(re.compile(r"[A-Za-z0-9_-]{1,64}"))
CODE = Name(re.compile(r"[a-z0-9_]{1,64}"))
COMMAND_ID = Name(re.compile(r"[A-Za-z0-9_-]{1,64}"))
DIGEST = Name(re.compile(r"[0-9a-f]{64}"))
