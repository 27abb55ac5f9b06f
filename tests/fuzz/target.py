"""What a target of the fuzz campaign is.

It takes spoilt messages and says whether each was refused or taken. Whatever else it raises is a
defect, and so is a change of state by a message that was refused.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from pathlib import Path

REFUSED, TAKEN = "refused", "taken"


def corpus_of(name: str) -> Path:
    """Inputs that once reached new code of the target called *name*; see ``guided``."""
    return Path(__file__).parent / "corpus" / name.replace(": ", "-").replace(" ", "-")


class Target(ABC):
    """One way in. ``name`` is what reports call it; ``share`` how many of all messages it gets."""

    name: str
    share: int = 10

    @abstractmethod
    def spoilt(self, chance: random.Random) -> bytes:
        """One spoilt message."""

    @abstractmethod
    def feed(self, message: bytes) -> str:
        """Give it in; REFUSED or TAKEN. Raises what is a defect."""

    def seeds(self) -> list[bytes]:
        """Good inputs for ``guided``; empty where only whole messages make sense."""
        return []

    def guided(self, content: bytes) -> None:
        """Give in what a coverage-guided fuzzer made of a seed. Raises what is a defect."""
        self.feed(content)

    def state(self) -> object:
        """What a refused message must leave as it is; compared after each."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of files."""
