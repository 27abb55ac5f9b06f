"""A real Mosquitto that is killed, wiped, short of quota or slow."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.mosquitto import Mosquitto

# Too little of everything: batches are refused (and PUBACKed with an error) or silently dropped.
QUOTA = (
    ("message_size_limit 200",),
    ("max_packet_size 600",),
    ("max_queued_messages 1", "max_inflight_messages 1", "max_queued_bytes 1"),
    ("memory_limit 100000",),
)


class FaultyBroker(Mosquitto):
    """Keeps its port and, but for ``wipe``, what it has stored."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "store"
        self._store.mkdir(parents=True)
        options = (
            "persistence true",
            f"persistence_location {self._store}/",
            "autosave_interval 1",
        )
        super().__init__(folder, *options)

    def restart(self, *options: str) -> None:
        """SIGKILL, and up again with *options* more."""
        self.kill()
        self.start(*options)

    def wipe(self) -> None:
        """SIGKILL, and up again without anything it had stored."""
        self.kill()
        for path in self._store.iterdir():
            path.unlink()
        self.restart()

    def pause(self, paused: bool) -> None:
        """Stop the process where it is, or let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)
