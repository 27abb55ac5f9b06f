"""Objects of JSON messages: fields put together, read into a dataclass and written back.

What JSON Schema cannot express of an object, a ``CrossCheck`` says in words; its schema carries
them as a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from agent.base.errors import MessageError
from agent.protocol.fields import CrossCheckError, FieldError, compact, parse
from agent.protocol.specs import Constant, Nullable, Optional, Spec

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
        self._make, self._most_bytes, self._closed = make, most_bytes, closed
        self._constants = [
            (key, spec.read) for key, spec in fields.items() if isinstance(spec, Constant)
        ]
        self._spare = [
            (key, self.names[key], spec.read, spec.default)
            for key, spec in fields.items()
            if isinstance(spec, Optional)
        ]
        self._needed = [
            (key, self.names[key], spec.read)
            for key, spec in fields.items()
            if not isinstance(spec, Constant | Optional)
        ]
        # What is written is fetched at once, then changed where JSON has it otherwise.
        told = {key: spec for key, spec in fields.items() if not isinstance(spec, Constant)}
        lie = self.names | dict(paths or {})
        self._keys = tuple(told)
        self._fetch = (_items if make is dict else _attributes)([lie[key] for key in told])
        self._omitted = [key for key, spec in told.items() if isinstance(spec, Optional)]
        self._changed = [(key, spec.write) for key, spec in told.items() if not _is_json(spec)]
        self._always = {key: s.value for key, s in fields.items() if isinstance(s, Constant)}

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
            for key, read in self._constants:
                read(value[key], key)
            for key, name, read in self._needed:
                given[name] = read(value[key], key)
            for key, name, read, default in self._spare:
                given[name] = read(value[key], key) if key in value else default
        except (KeyError, FieldError) as error:
            raise self._refusal(error, value, what) from None
        made = self._make(**given)
        for check in self.checks:
            if not check.holds(made):
                raise CrossCheckError(f"{what}.{check.field}" if what else check.field, check.says)
        return made

    def write(self, value: T) -> dict[str, Any]:
        told = dict(zip(self._keys, self._fetch(value), strict=True))
        for key in self._omitted:
            if told[key] is None:
                del told[key]
        for key, write in self._changed:
            if key in told:
                told[key] = write(told[key])
        if self._always:
            all_of_it = self._always | told
            told = {key: all_of_it[key] for key in self.fields if key in all_of_it}
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


def _is_json(spec: Spec[Any]) -> bool:
    """Whether *spec* writes every value as it is."""
    while isinstance(spec, Nullable | Optional):
        spec = spec.item
    return type(spec).write is Spec.write


def _attributes(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What fetches the attributes *names* of a value."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(attrgetter(name)(value) for name in names)


def _items(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What fetches the items *names* of a dict; None for one that is not there."""
    return lambda value: tuple(value.get(name) for name in names)
