"""Who may be matched at this moment: asked for every match, answered from memory.

What takes longer follows: rows on the disk and the templates in memory lose a revoked person
seconds later, but from the moment they are named here nobody matches them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from agent.protocol.galleries.records import key_of


class Admission:
    """Any thread may call it. ``faces`` says whether faces are used at all."""

    def __init__(self, clock: Callable[[], int | None], trouble: Callable[[], str]) -> None:
        """*clock* gives Unix milliseconds, None while no clock is known; *trouble* why faces may
        not be used, "" when they may."""
        self._clock = clock
        self._trouble = trouble
        self._lock = threading.Lock()
        self._gone: dict[bytes, bool] = {}  # whether the disk knows
        self._expires_ms: Mapping[str, int] = {}

    @property
    def faces(self) -> bool:
        """False: nobody is matched, and everybody is offered the usual way."""
        return not self._trouble()

    def admits(self, person: str) -> bool:
        """Whether *person*, whom the search found, may be matched now."""
        if not self.faces:
            return False
        if self._gone and key_of(person) in self._gone:
            return False
        expires_ms = self._expires_ms.get(person, 0)
        now_ms = self._clock() if expires_ms else None
        return now_ms is None or now_ms < expires_ms

    def revoke(self, keys: Iterable[bytes]) -> None:
        """Nobody of *keys* (``agent.protocol.galleries.records.key_of``) is matched from now on."""
        with self._lock:
            for key in keys:
                self._gone.setdefault(key, False)

    def written(self, keys: Iterable[bytes]) -> None:
        """The gallery on the disk is without *keys*."""
        with self._lock:
            self._gone.update(dict.fromkeys(keys, True))

    def reading(self) -> frozenset[bytes]:
        """The gallery is about to be read: whom ``reread`` need not name any more afterwards."""
        with self._lock:
            return frozenset(key for key, written in self._gone.items() if written)

    def reread(self, without: frozenset[bytes], expires_ms: Mapping[str, int]) -> None:
        """What was read after ``reading`` is in use: none of *without* is in it."""
        with self._lock:
            self._gone = {key: known for key, known in self._gone.items() if key not in without}
            self._expires_ms = expires_ms
