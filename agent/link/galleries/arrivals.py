"""Bodies on their way: parts in any order, put together, and never more of them than was asked."""

from __future__ import annotations

from agent.base.errors import MessageError
from agent.protocol.galleries.bodies import Label, Part

HELD_BYTES = 32 * 2**20  # of all bodies on their way together; a bucket of a town takes 0.3 MB


class Arrivals:
    """The bodies that were asked for and are not whole yet. Holds at most *held_bytes* of them."""

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._most = held_bytes
        self._held = 0
        self._wanted: dict[Label, dict[int, bytes]] = {}
        self._counts: dict[Label, int] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def held_bytes(self) -> int:
        """What lies here of bodies that are not whole."""
        return self._held

    def want(self, label: Label) -> None:
        """Take the parts of *label* from now on."""
        self._wanted.setdefault(label, {})

    def missing(self) -> list[Label]:
        """What was asked for and is not whole."""
        return list(self._wanted)

    def take(self, part: Part) -> bytes | None:
        """The sealed body once *part* made it whole. Raises MessageError for what is refused."""
        parts = self._wanted.get(part.label)
        if parts is None:
            raise MessageError("gallery part: nobody asked for it")
        if self._counts.setdefault(part.label, part.parts) != part.parts:
            self.drop(part.label)
            raise MessageError("gallery part: of a body with another number of parts")
        if part.part in parts:
            return None
        if self._held + len(part.content) > self._most:
            self.drop(part.label)
            raise MessageError(f"gallery part: more than {self._most} bytes on their way")
        parts[part.part] = part.content
        self._held += len(part.content)
        if len(parts) < part.parts:
            return None
        body = b"".join(parts[number] for number in range(part.parts))
        self.drop(part.label)
        del self._wanted[part.label]
        return body

    def drop(self, label: Label) -> None:
        """Forget what came of *label*; it is still wanted."""
        parts = self._wanted.get(label, {})
        self._held -= sum(len(content) for content in parts.values())
        parts.clear()
        self._counts.pop(label, None)

    def clear(self) -> None:
        """Nothing is wanted any more."""
        self._wanted.clear()
        self._counts.clear()
        self._held = 0
