"""One kind of event as ``kinds.KINDS`` lists it: its words, its class, and the two ways."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.base.events import Moment
from agent.protocol.fields import name

E = TypeVar("E")

WORD = re.compile(r"[a-z0-9_]{1,32}")


@dataclass(frozen=True, slots=True)
class Kind(Generic[E]):
    """How events of the class ``event`` are written and read.

    ``words`` are what ``kind`` may say of them, ``fields`` what an item must have beside identity,
    kind and moment. ``read`` takes an item that has them; it raises FieldError. ``write`` gives
    what follows the moment, in its order: all but the resident and the place, which every kind
    has in the same form or not at all.
    """

    words: tuple[str, ...]
    event: type[E]
    fields: tuple[str, ...]
    read: Callable[[dict[str, Any], Moment], E]
    write: Callable[[E], dict[str, Any]]


def word(value: Any, what: str) -> str:
    """A short word of a set that may grow. Raises FieldError."""
    return name(value, what, WORD)
