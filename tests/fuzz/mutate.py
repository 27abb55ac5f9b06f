"""Spoils messages: bytes at random, JSON by its structure, always repeatable from a seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_NUMBERS = (0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308)
_TEXTS = (
    "",
    "\0",
    "\ud800",
    "../../etc/passwd",
    "' OR 1=1 --",
    "か\u3099",
    "a" * 70_000,
    "kp1-head",
    "🚌" * 65,
    "%s%n",
    "-" * 64,
)
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None] * 3_000, {"a": {"a": {}}})
_TOKENS = (b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b".", b"\0", b"\xff", b"NaN", b"1e999")


def spoil_bytes(message: bytes, chance: random.Random) -> bytes:
    """*message* with one to eight changes to its bytes."""
    found = bytearray(message)
    for _ in range(1 << chance.randrange(4)):
        place = chance.randrange(len(found) + 1)
        kind = chance.randrange(8)
        if kind == 0 and found:
            found[place % len(found)] ^= 1 << chance.randrange(8)
        elif kind == 1 and found:
            found[place % len(found)] = chance.randrange(256)
        elif kind == 2:
            del found[place:]  # cut short
        elif kind == 3:
            del found[place : place + chance.randrange(1, 64)]
        elif kind == 4:
            found[place:place] = chance.choice(_TOKENS)
        elif kind == 5:
            found[place:place] = chance.randbytes(chance.randrange(1, 64))
        elif kind == 6:
            other = chance.randrange(len(found) + 1)
            piece = found[other : other + chance.randrange(1, 256)]
            found[place : place + len(piece)] = piece
        else:
            piece = found[place : place + chance.randrange(1, 256)]
            found[place:place] = piece * chance.randrange(1, 8)
    return bytes(found)


def spoil_value(value: Any, chance: random.Random) -> Any:
    """A copy of the JSON *value* with one to three of its parts changed, moved, added or gone."""
    found = copy.deepcopy(value)
    for _ in range(chance.randrange(1, 4)):
        found = _spoil_once(found, chance)
    return found


def dumps(value: Any) -> bytes:
    """*value* as JSON, whatever is in it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _spoil_once(value: Any, chance: random.Random) -> Any:
    inner = chance.random() < 0.85
    if isinstance(value, dict) and value and inner:
        key = chance.choice(sorted(value))
        action = chance.randrange(6)
        if action == 0:
            del value[key]
        elif action == 1:
            value[chance.choice(_TEXTS)[:100]] = copy.deepcopy(value[key])
        elif action == 2:
            value[key] = copy.deepcopy(value[chance.choice(sorted(value))])
        else:
            value[key] = _spoil_once(value[key], chance)
        return value
    if isinstance(value, list) and value and inner:
        place = chance.randrange(len(value))
        action = chance.randrange(5)
        if action == 0:
            del value[place]
        elif action == 1:
            return [copy.deepcopy(item) for item in value * chance.randrange(2, 40)]
        elif action == 2:
            value.insert(place, _any(chance))
        else:
            value[place] = _spoil_once(value[place], chance)
        return value
    if isinstance(value, str) and value and inner:
        text = spoil_bytes(value.encode("utf-8", "surrogatepass"), chance)
        return text.decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool) and inner:
        return value + chance.choice((-1, 1, -value, 1 << chance.randrange(1, 60)))
    return _any(chance)


def _any(chance: random.Random) -> Any:
    # A copy: what is put in may be spoilt in turn, and must not become part of itself.
    return copy.deepcopy(chance.choice((_NUMBERS, _TEXTS, _OTHERS)[chance.randrange(3)]))
