"""One device of the gallery fleet: the agent's own downlink, gallery and search, without a camera.

A process of its own. It decides on every probe all the time, as a door does with a queue before
it, and prints one JSON line for everything that changes: a version in force, a probe matched or no
more. A search holds no state, so the same one is not asked the same again: twenty devices on one
machine would measure the memory they share. Whether a match is admitted is asked every time.
Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.base.audit import AuditLog
from agent.base.values import Candidate
from agent.device.clock import SystemClock
from agent.door.faces import NOBODY, Faces
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.journal import Journal
from agent.keys.ring import open_keyring
from agent.link.control.trustedtime import TrustedTime
from agent.recognition.decision import Rule
from agent.recognition.matcher import Matcher
from agent.recognition.rules import Side
from agent.settings.model import load
from agent.wiring.galleries import downlink_for
from agent.wiring.link import open_sync, revoking

LOOK_SECONDS = 0.02
RULE = Rule(threshold=0.5, min_margin=0.0, min_frames=1, max_frames=1)


class Door:
    """What of a recogniser the gallery's owner needs: it takes another search between frames."""

    def __init__(self) -> None:
        self.matcher = Matcher(NOBODY)

    def use(self, matcher: Matcher, rule: Rule, former: Side | None = None) -> None:
        del rule, former
        self.matcher = matcher


class Board:
    """Alarms and details nobody asks for here."""

    def alarm(self, key: str, text: str) -> None: ...

    def clear(self, key: str) -> None: ...

    def detail(self, name: str, value: Any) -> None: ...


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps({"t": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


def main(settings_file: Path, probes_file: Path) -> None:
    settings = load(settings_file)
    clock = SystemClock()
    ring = open_keyring(FileKeySource(settings.keys_directory), may_create=True)
    directory, kind = settings.state_directory, settings.place.kind
    directory.mkdir(parents=True, exist_ok=True)
    plain = np.load(probes_file)  # who stands at the door, float32 (people, d)
    gallery = Gallery(directory / "gallery.db", ring, settings.models.pack, domain=kind)
    downlink = downlink_for(settings, ring, clock.now)
    door, stop = Door(), threading.Event()
    turned = {"by": gallery.protection}
    faces = Faces(
        gallery,
        lambda protection: turned.update(by=protection),
        downlink.admission,
        Board(),
        purpose=kind,
        sides_for=lambda own, _former: (Matcher(own), RULE, None),
        change_of_packs=lambda _left: ({}, ""),
        own_key=ring.pseudonym_key,
    )
    received = {"bytes": 0}
    take = downlink.duty.receive

    def counted(topic: str, payload: bytes) -> None:
        received["bytes"] += len(payload)
        take(topic, payload)

    downlink.duty.receive = counted  # type: ignore[method-assign]
    downlink.on_change(faces.changed)
    faces.read()
    faces.between(door)  # type: ignore[arg-type]
    supervisor = open_sync(
        settings,
        journal=lambda: Journal(directory / "journal.db", ring.journal_key()),
        time=TrustedTime(clock.now),
        handlers={"revoke-now": revoking(faces.revoke_now)},
        steering=None,
        audit=AuditLog(settings.audit_file, ring.audit_key()),
        end=lambda _how: stop.set(),
        supervised=False,
        duties=[downlink.duty],
        standing=lambda: downlink.standing,
    )

    def until_closed() -> None:
        sys.stdin.read()
        stop.set()

    threads = [
        threading.Thread(target=faces.watch, args=(stop,), daemon=True),
        threading.Thread(target=downlink.run, args=(stop,), daemon=True),
        threading.Thread(target=until_closed, daemon=True),
    ]
    for thread in threads:
        thread.start()
    supervisor.start()
    tell(up=True, version=downlink.standing.gallery_version)
    state, seen = (-1, -1), [False] * len(plain)
    searched: tuple[object, object] = (None, None)
    peak, found = 0, list[Candidate]()
    while not stop.is_set():
        faces.between(door)  # type: ignore[arg-type]
        if searched != (door.matcher, turned["by"]):
            searched = door.matcher, turned["by"]
            found = door.matcher.search(turned["by"].apply(plain))
        for number, candidate in enumerate(found):
            matched = (
                candidate.person is not None
                and candidate.similarity >= RULE.threshold
                and faces.admits(candidate.person)
            )
            if matched != seen[number]:
                seen[number] = matched
                tell(probe=number, matched=matched)
        now = downlink.standing.gallery_version, faces.people
        peak = max(peak, _resident_mb())
        if now != state:
            state = now
            tell(version=now[0], bytes=received["bytes"], people=now[1], peak_mb=peak)
        stop.wait(LOOK_SECONDS)
    supervisor.stop()
    for thread in threads[:2]:
        thread.join(5)
    gallery.close()


def _resident_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) // 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
