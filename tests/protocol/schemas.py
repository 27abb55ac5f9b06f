"""Validates as JSON Schema 2020-12 says, where Python's regular expressions differ from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    # In ECMA-262, which JSON Schema means, "$" is the end; in Python also the place before "\n".
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError(f"does not match {pattern}")


Validator = extend(Draft202012Validator, {"pattern": _pattern})


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether *value* is one of *schema*. Raises SchemaError if that is none."""
    Validator.check_schema(schema)
    return bool(Validator(schema).is_valid(value))
