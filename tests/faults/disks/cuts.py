"""Power cuts at every write of a journal's life: each image is opened and held to its promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from agent.base.errors import KaopassError
from agent.journal import Journal
from tests.faults.device import KEY
from tests.faults.disks.disk import HOW, Disk, write_image
from tests.faults.disks.trace import Record, read_trace
from tests.faults.disks.writer import NOW, made_event


@dataclass
class Promises:
    """What a writer's marks have promised up to some moment."""

    seed: int
    tried: set[int] = field(default_factory=set)
    returned: dict[tuple[str, int], int] = field(default_factory=dict)
    may_be_acked: int = 0
    was_acked: int = 0
    may_be_gone: int = 0
    opened: bool = False

    def note(self, mark: bytes) -> None:
        kind, *rest = json.loads(mark)
        if kind == "trying":
            self.tried.add(rest[0])
        elif kind == "returned":
            token, epoch, seq = rest
            self.returned[epoch, seq] = token
        elif kind == "confirming":
            self.may_be_acked = max(self.may_be_acked, rest[1])
        elif kind == "confirmed":
            self.was_acked = max(self.was_acked, rest[1])
        elif kind == "pruning":
            self.may_be_gone = self.may_be_acked
        else:
            self.opened = True


def moments(trace: Path, seed: int, disk: Disk) -> Iterator[tuple[int, Record, Promises]]:
    """Replay *trace* into *disk*, stopping after every change a cut could follow."""
    promises = Promises(seed)
    count = 0
    for record in read_trace(trace):
        if record.op == "M":
            promises.note(record.first)
            continue
        disk.apply(record)
        if record.changes:
            count += 1
            yield count, record, promises


def check_image(folder: Path, promises: Promises) -> list[str]:
    """Start a device on the image in *folder*; what of the promises it does not keep."""
    try:
        journal, report = Journal.open_checked(folder / "journal.db", KEY, now=NOW, keep_days=0.0)
    except KaopassError as error:
        return [f"does not open: {error}"]
    problems = []
    if report.damage:
        problems.append(f"a mere power cut is taken for damage: {report.damage}")
    with journal:
        there = {(entry.epoch, entry.seq): entry for entry in journal.entries()}
        for (epoch, seq), token in promises.returned.items():
            entry = there.get((epoch, seq))
            if entry is None:
                if seq > promises.may_be_gone:
                    problems.append(f"event {seq} is lost")
            elif entry.event != made_event(promises.seed * 1_000_000 + token):
                problems.append(f"event {seq} is altered")
            elif entry.state == "pending" and seq <= promises.was_acked:
                problems.append(f"event {seq} forgot its ack")
            elif entry.state != "pending" and seq > promises.may_be_acked:
                problems.append(f"event {seq} is {entry.state} though the city never had it")
        # What was acknowledged may have gone, except for refused events between.
        numbers = sorted(seq for _, seq in there if seq > promises.may_be_gone)
        if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
            problems.append("the numbers have a hole")
        if len(there) > len(promises.tried):
            problems.append("there is more than was ever appended")
        known = {*there, *promises.returned}
        stored = journal.append(made_event(0))
        if (stored.epoch, stored.seq) in known:
            problems.append(f"number {stored.seq} is handed out a second time")
    return problems


def cut_everywhere(
    trace: Path, seed: int, folder: Path, ways: int = len(HOW)
) -> tuple[int, list[str]]:
    """Cut after every change of *trace* in *ways* of HOW; how many cuts, and what they broke."""
    chance = Random(seed)
    disk = Disk()
    cuts, problems = 0, []
    for count, record, promises in moments(trace, seed, disk):
        for how in chance.sample(HOW, ways):
            write_image(folder, disk.image(chance, how))
            cuts += 1
            for problem in check_image(folder, promises):
                problems.append(f"cut {count} ({record.op}), {how} of the unsynced: {problem}")
    return cuts, problems
