"""Whom an event is about, on the wire: a purpose and the pseudonym for it."""

from __future__ import annotations

import re
from typing import Any

from agent.protocol.events.kind import word
from agent.protocol.fields import name

FIELDS = ("purpose", "person")
PERSON = re.compile(r"[0-9a-f]{64}")


def read_resident(value: dict[str, Any]) -> tuple[str, str]:
    """(purpose, person) of an item that has both. Raises FieldError."""
    return word(value["purpose"], "purpose"), name(value["person"], "person", PERSON)
