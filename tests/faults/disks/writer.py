"""One life of a journal alone, for cuts at every single write: what it promised is in its trace.

Marks are JSON: before an append its token, after it the identity and body; ``confirming``,
``confirmed`` and ``pruning`` say what may have left since.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from agent.base.events import Event, Moment, Passage, PassageEvent, Place
from agent.base.values import Ack, Nack
from agent.journal import Journal
from tests.faults.device import KEY, WeakJournal
from tests.faults.disks.trace import Tracer

NOW = Moment("boot-a", 1_000, 1_790_000_000_000, "ntp", 20)


def made_event(token: int) -> Event:
    """A boarding that can be told by its person."""
    moment = Moment("boot-a", 1_000 + token, 1_000 + token, "unset", -1)
    place = Place("bus", "パークバス　1号", "front", "高森三丁目")
    return PassageEvent(Passage.BOARDING, "bus", f"{token:064x}", place, moment)


def run(*, root: str, trace: str, seed: int, steps: int, weak: bool = False) -> None:
    """Open the journal in *root* and do *steps* things with it, as *seed* says."""
    chance = Random(seed)
    tracer = Tracer()

    def mark(*line: Any) -> None:
        tracer.mark(json.dumps(line).encode())

    tracer.begin(Path(root), Path(trace))
    journal, report = (WeakJournal if weak else Journal).open_checked(
        Path(root) / "journal.db", KEY, now=NOW, keep_days=0.0
    )
    mark("opened", report.damage)
    last = 0
    for token in range(1, steps + 1):
        what = chance.random()
        if what < 0.75 or not last:
            mark("trying", token)
            stored = journal.append(made_event(seed * 1_000_000 + token))
            last = stored.seq
            mark("returned", token, stored.epoch, stored.seq)
        elif what < 0.85:
            upto = chance.randint(1, last)
            mark("confirming", journal.epoch, upto)
            nacks = (Nack(upto, "bad_kind"),) if chance.random() < 0.3 else ()
            journal.confirm(Ack(journal.epoch, upto, (), nacks, NOW.wall_ms))
            mark("confirmed", journal.epoch, upto)
        elif what < 0.9:
            mark("pruning")
            journal.prune(NOW)
        elif what < 0.95:
            journal.correct(NOW)
        else:
            journal.close()  # SQLite moves its log into the file and removes it
            journal, _ = Journal.open_checked(
                Path(root) / "journal.db", KEY, now=NOW, keep_days=0.0
            )
    journal.close()
