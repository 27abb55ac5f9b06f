"""A template key changed beside a running agent: it goes on recognising, under the new key."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.gallery.gallery import Gallery
from tests.line.door import KAOPASS, Door, networks, people_of
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_a_running_agent_goes_on_after_a_rekey(tmp_path: Path) -> None:
    residents = people_of("players.jpg")
    with Door(tmp_path / "door", 1, sync={"enabled": False}) as door:
        door.enrol(residents)
        door.start(door.queue_of("players.jpg"))
        until(lambda: len(door.ledger) >= 5, what="the first boardings")
        read = door.log().count("people read in")
        subprocess.run(
            [*KAOPASS, "gallery", "rekey", "--settings", door.settings],
            check=True,
            capture_output=True,
        )
        with Gallery(door.state / "gallery.db", door.ring, networks().embedder.pack) as gallery:
            assert gallery.protection.version == 2
        # What was under way before may still come, until the agent has read the gallery again.
        until(lambda: door.log().count("people read in") > read, what="the gallery read again")
        known = len(door.ledger)
        until(lambda: len(door.ledger) >= known + 10, what="boardings under the new key")
        door.stop()
