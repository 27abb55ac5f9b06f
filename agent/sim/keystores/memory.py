"""Keys in memory, to try things out: with the process they are gone, and what they open."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from agent.base.drivers import KeySourceDriver
from agent.base.errors import KeySourceError

KEY_BYTES = 32


class MemoryKeySource:
    """A ``ports.ChangeableKeySource`` that begins with *keys* by name."""

    def __init__(self, keys: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self._keys = dict(keys)

    def __str__(self) -> str:
        return "memory"

    def load(self, name: str) -> bytes | None:
        """The key called *name*, None if there is none."""
        return self._keys.get(name)

    def create(self, name: str) -> bytes:
        """Make a random key. Raises KeySourceError if there is one of that name."""
        if name in self._keys:
            raise KeySourceError(f"key {name!r} in memory exists already; it is never replaced")
        self._keys[name] = secrets.token_bytes(KEY_BYTES)
        return self._keys[name]

    def promote(self, name: str, to: str) -> None:
        """Make the key called *name* the one called *to*. Raises KeySourceError without one."""
        if name not in self._keys:
            raise KeySourceError(f"key {name!r} is not in memory")
        self._keys[to] = self._keys.pop(name)


_KEYS = MemoryKeySource()  # of the whole process, as a directory of files is


def _shared(directory: Path) -> MemoryKeySource:
    del directory
    return _KEYS


DRIVER = KeySourceDriver(_shared, _shared, protects="everybody, for nothing is kept")
