"""What is wrong with settings, one line a mistake, with the name that was probably meant."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic import BaseModel, ValidationError


def in_words(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each mistake that *error* found in a *model* of sections, with its value unless secret."""
    found = []
    for item in error.errors():
        place = tuple(str(part) for part in item["loc"])
        key = ".".join(place)
        if item["type"] == "extra_forbidden":
            hint = _nearest(place, model)
            found.append(
                f"{key}: there is no such setting" + (f"; did you mean {hint}?" if hint else "")
            )
            continue
        secret = "password" in place
        value = "" if secret or item["type"] == "missing" else f" = {item['input']!r}"
        found.append(f"{key}{value}: {item['msg'].removeprefix('Value error, ')}")
    return found


def _nearest(place: tuple[str, ...], model: type[BaseModel]) -> str:
    if len(place) > 1:
        field = model.model_fields.get(place[0])
        if field is None or not isinstance(field.annotation, type):
            return ""
        model = field.annotation
    close = get_close_matches(place[-1], model.model_fields, n=1, cutoff=0.6)
    return ".".join((*place[:-1], close[0])) if close else ""
