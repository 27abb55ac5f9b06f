"""Objects of JSON messages: fields put together, read into a dataclass and written back.

What JSON Schema cannot express of an object, a ``CrossCheck`` says in words; its schema carries
them as a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.base.errors import MessageError
from agent.protocol.compiled import reader, writer
from agent.protocol.fields import CrossCheckError, FieldError, compact, parse
from agent.protocol.specs import Optional, Spec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CrossCheck(Generic[T]):
    """A rule across fields: unless ``holds``, ``field`` is to blame, and ``says`` what is wrong."""

    field: str
    says: str
    holds: Callable[[T], bool]


class Form(Spec[T]):
    """An object with these fields, and what *make* makes of them; more is for later versions.

    *make* gets each field by its name, or by the one that *names* gives it; what it makes has
    attributes called so, or keys where it is a dict, or has them where *paths* says
    ("moment.boot"). Constants are checked and handed to nobody.
    """

    def __init__(
        self,
        make: Callable[..., T],
        title: str,
        fields: Mapping[str, Spec[Any]],
        *,
        names: Mapping[str, str] | None = None,
        paths: Mapping[str, str] | None = None,
        checks: tuple[CrossCheck[T], ...] = (),
        most_bytes: int = 0,
        closed: bool = False,
    ) -> None:
        """*title* says what it is; *most_bytes* of JSON are read by ``decode``.

        *closed* ones have no fields of later versions.
        """
        self.title, self.fields, self.checks = title, fields, checks
        self.names = {key: key for key in fields} | dict(names or {})
        self._most_bytes, self._closed = most_bytes, closed
        self._build = reader(make, fields, self.names)
        self._tell = writer(fields, self.names | dict(paths or {}), of_dict=make is dict)
        self._spare = [key for key, spec in fields.items() if isinstance(spec, Optional)]

    def read(self, value: Any, what: str = "", **given: Any) -> T:
        """Raises FieldError: what is missing first, else the first field that is wrong.

        *make* gets *given*, too: what is known from elsewhere.
        """
        if not isinstance(value, dict):
            raise FieldError(what or self.title, "not an object")
        if self._closed and not value.keys() <= self.fields.keys():
            raise FieldError(
                what or self.title, f"has more than {', '.join(self.fields) or 'nothing'}"
            )
        try:
            made: T = self._build(value, given)
        except (KeyError, FieldError) as error:
            raise self._refusal(error, value, what) from None
        for check in self.checks:
            if not check.holds(made):
                raise CrossCheckError(f"{what}.{check.field}" if what else check.field, check.says)
        return made

    def write(self, value: T) -> dict[str, Any]:
        told = self._tell(value)
        for key in self._spare:
            if told[key] is None:
                del told[key]
        return told

    def decode(self, payload: bytes) -> T:
        """Raises MessageError unless *payload* is a whole one."""
        return self.read(parse(payload, self._most_bytes, self.title))

    def encode(self, value: T) -> bytes:
        """*value* as JSON in UTF-8. Raises MessageError if a text is none."""
        try:
            return compact(self.write(value))
        except UnicodeEncodeError as error:
            raise MessageError(f"{self.title}: a text is not Unicode: {error.reason}") from error

    def schema(self) -> dict[str, Any]:
        rules = [f"{check.field}: {check.says}" for check in self.checks]
        size = [f"at most {self._most_bytes} bytes"] if self._most_bytes else []
        return {
            **{"title": self.title, "type": "object"},
            "properties": {key: spec.schema() for key, spec in self.fields.items()},
            "required": [k for k, spec in self.fields.items() if not isinstance(spec, Optional)],
            **({"additionalProperties": False} if self._closed else {}),
            **({"$comment": "Refused also: " + "; ".join(rules + size)} if rules or size else {}),
        }

    def _refusal(self, error: Exception, value: dict[str, Any], what: str) -> FieldError:
        missing = [
            key
            for key, spec in self.fields.items()
            if key not in value and not isinstance(spec, Optional)
        ]
        if missing:
            return FieldError(what or self.title, f"{', '.join(missing)} missing")
        assert isinstance(error, FieldError)  # noqa: S101 - only a missing field is a KeyError
        return type(error)(f"{what}.{error.field}", error.why) if what else error
