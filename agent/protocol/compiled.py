"""A form's reader and writer as one Python expression each, as ``dataclasses`` does it.

Every event is read and written by them; by a loop over its fields, writing takes nearly three
times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.protocol.specs import Constant, Nullable, Optional, Spec


def reader(
    make: Callable[..., Any], fields: Mapping[str, Spec[Any]], names: Mapping[str, str]
) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    """What makes an object of a dict and of what is known from elsewhere.

    It raises FieldError for the first field that is wrong, KeyError for one that is missing.
    """
    known: dict[str, Any] = {"make": make}
    constants, told = [], []
    for number, (key, spec) in enumerate(fields.items()):
        known[f"read{number}"] = spec.read
        item = f"read{number}(value[{key!r}], {key!r})"
        if isinstance(spec, Constant):
            constants.append(f"{item}, ")
            continue
        if isinstance(spec, Optional):
            known[f"default{number}"] = spec.default
            item = f"({item} if {key!r} in value else default{number})"
        told.append(f"{names[key]!r}: {item}" if make is dict else f"{names[key]}={item}")
    told.append("**given")
    opening, closing = ("{", "}") if make is dict else ("make(", ")")
    made = f"{opening}{', '.join(told)}{closing}"
    if constants:  # read like the others, and left out
        made = f"({''.join(constants)}{made})[-1]"
    read: Callable[[dict[str, Any], dict[str, Any]], Any] = _function("value, given", made, known)
    return read


def writer(
    fields: Mapping[str, Spec[Any]], paths: Mapping[str, str], *, of_dict: bool
) -> Callable[[Any], dict[str, Any]]:
    """What makes a dict of an object, with None for an optional field that is to be left out."""
    known: dict[str, Any] = {}
    told = []
    for number, (key, spec) in enumerate(fields.items()):
        item = f"value.get({paths[key]!r})" if of_dict else f"value.{paths[key]}"
        if isinstance(spec, Constant):
            item = repr(spec.value)
        elif not _is_json(spec):
            known[f"write{number}"] = spec.write
            item = f"write{number}({item})"
        told.append(f"{key!r}: {item}")
    write: Callable[[Any], dict[str, Any]]
    write = _function("value", f"{{{', '.join(told)}}}", known)
    return write


def _is_json(spec: Spec[Any]) -> bool:
    """Whether *spec* writes every value as it is."""
    while isinstance(spec, Nullable | Optional):
        spec = spec.item
    return type(spec).write is Spec.write


def _function(arguments: str, expression: str, known: dict[str, Any]) -> Any:
    # All of it comes from the forms in this package, nothing from outside.
    return eval(f"lambda {arguments}: {expression}", known)  # noqa: S307
