"""A device's gallery from empty over several versions, its writes traced, for cuts at each.

``python -m tests.link.galleries.scripted.life CA_FOLDER STATE TRACE EPOCH KILL_AFTER``, under
``disk.c``.
Marks are JSON: before a version is fetched ["may", version, root, keys], after it ["is", version].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agent.gallery.gallery import Gallery
from tests.faults.disks.trace import Tracer
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import NAME, RING, Device
from tests.protocol.town import make_town

PEOPLE = 5


def main(folder: Path, state: Path, trace: Path, epoch: int, kill_after: int) -> None:
    town = make_town(folder)
    city = ScriptedCity(town)
    city.epoch = epoch
    tracer = Tracer()

    def say(*line: object) -> None:
        tracer.mark(json.dumps(line).encode())

    names = [f"r-{n}" for n in range(PEOPLE)]
    signer = town.device(NAME)
    tracer.begin(state, trace, kill_after)
    device = Device(state, town.trust, signer)
    steps = [
        ({name: rows(n) for n, name in enumerate(names)}, []),
        ({"new": rows(50), "r-1": rows(51)}, ["r-0"]),
        ({}, ["r-2"]),
    ]
    device.intake.connected(0)
    for number, (present, gone) in enumerate(steps):
        if number == 2:
            city.epoch = epoch + 1  # by buckets
            city.versions.clear()
        city.publish({name: city.record(name, own) for name, own in present.items()}, gone)
        head = city.newest.head
        say("may", head.epoch, head.version, head.root, [key.hex() for key in city.residents])
        device.hear(city)
        device.talk(city)
        device.copy.sweep()
        say("is", head.epoch, head.version)
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        gallery.revoke("r-3")
    device.intake.refresh(0)
    device.store.close()


if __name__ == "__main__":
    state, other, log = map(Path, sys.argv[1:4])
    main(state, other, log, *map(int, sys.argv[4:6]))
