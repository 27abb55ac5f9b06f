"""Acks, nacks and replay: only what the city has leaves the outbox, and lies change nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.base.errors import JournalError, MessageError
from agent.base.values import Ack, Nack
from agent.journal import Journal
from tests.journal.events import KEY, ack, event


def states(journal: Journal) -> dict[int, str]:
    return {entry.seq: entry.state for entry in journal.entries()}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Ten pending events."""
    with Journal(tmp_path / "journal.db", KEY) as journal:
        for n in range(1, 11):
            journal.append(event(n))
        yield journal


def test_only_what_the_city_has_leaves_the_outbox(journal: Journal) -> None:
    changed = journal.confirm(ack(journal.epoch, 3, have=((5, 6), (9, 9))))
    assert changed == 6
    assert [s.seq for s in journal.pending(journal.epoch, 0, 100)] == [4, 7, 8, 10]
    assert journal.confirm(ack(journal.epoch, 3, have=((5, 6), (9, 9)))) == 0


def test_a_nack_sets_one_event_aside_and_the_rest_flows(journal: Journal) -> None:
    """The refused one stays in quarantine under its code, also when later acks pass over it."""
    journal.confirm(ack(journal.epoch, 4, nack=(Nack(2, "bad_place"),)))
    journal.confirm(ack(journal.epoch, 6))
    second = next(entry for entry in journal.entries() if entry.seq == 2)
    assert (second.state, second.code) == ("quarantined", "bad_place")
    assert states(journal)[1] == "acked"
    assert [s.seq for s in journal.pending(journal.epoch, 0, 100)] == [7, 8, 9, 10]


def test_what_the_city_has_is_not_refused_afterwards(journal: Journal) -> None:
    journal.confirm(ack(journal.epoch, 4))
    assert journal.confirm(ack(journal.epoch, 4, nack=(Nack(2, "late"),))) == 0
    assert states(journal)[2] == "acked"


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": "0" * 32},
        {"epoch": "no epoch"},
        {"upto": 11},
        {"upto": -1},
        {"upto": 2**80},
        {"have": ((4, 11),)},
        {"have": ((0, 2),)},
        {"have": ((5, 4),)},
        {"nack": (Nack(11, "x"),)},
        {"nack": (Nack(0, "x"),)},
        {"server_time_ms": 2**70},
    ],
    ids=str,
)
def test_an_ack_that_cannot_be_true_changes_nothing(
    journal: Journal, wrong: dict[str, object]
) -> None:
    """Even where other parts of it could be."""
    values: dict[str, object] = {
        "epoch": journal.epoch,
        "upto": 2,
        "have": ((4, 4),),
        "nack": (Nack(6, "x"),),
        "server_time_ms": 1,
    }
    with pytest.raises(MessageError):
        journal.confirm(Ack(**{**values, **wrong}))  # type: ignore[arg-type]
    assert set(states(journal).values()) == {"pending"}


def test_a_code_of_any_text_is_stored(journal: Journal) -> None:
    """JSON may carry half characters, and a backend may send a novel."""
    journal.confirm(ack(journal.epoch, 0, nack=(Nack(1, "\ud800" + "x" * 9999),)))
    assert next(iter(journal.entries())).code == "?" + "x" * 63


def test_replay_makes_acknowledged_events_pending_again(journal: Journal) -> None:
    """Those in the range, and no quarantined ones; an unknown epoch is refused."""
    journal.confirm(ack(journal.epoch, 8, nack=(Nack(4, "bad"),)))
    assert journal.replay(journal.epoch, 3, 6) == 3
    assert [s.seq for s in journal.pending(journal.epoch, 0, 100)] == [3, 5, 6, 9, 10]
    assert journal.replay(journal.epoch, 1, 2**90) == 4
    with pytest.raises(MessageError, match="does not have"):
        journal.replay("f" * 32, 1, 2)


def test_bounds_of_an_unknown_epoch_are_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError, match="has no epoch"):
        journal.bounds("f" * 32)


def test_a_row_that_no_longer_opens_holds_up_none_behind_it(journal: Journal) -> None:
    """Also a row whose number or time was changed does not open: they are under its seal."""
    journal._db.execute("UPDATE event SET sealed = zeroblob(60) WHERE seq = 1")
    journal._db.execute("UPDATE event SET mono_ms = mono_ms + 1 WHERE seq = 2")
    assert [s.seq for s in journal.pending(journal.epoch, 0, 3)] == [3, 4, 5]
    damaged = [entry for entry in journal.entries() if entry.state == "quarantined"]
    assert [(e.seq, e.code, e.event) for e in damaged] == [(1, "damage", None), (2, "damage", None)]


numbers = st.integers(1, 12)


class Outbox(RuleBasedStateMachine):
    """The journal against a model of a dictionary, under every mixture of acks and replays."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name) / "journal.db", KEY)
        # These runs check what is stored, not that it is synced.
        self.journal._db.execute("PRAGMA synchronous = OFF")
        self.model: dict[int, str] = {}

    @rule()
    def append(self) -> None:
        stored = self.journal.append(event(len(self.model) + 1))
        assert stored.seq == len(self.model) + 1
        self.model[stored.seq] = "pending"

    @precondition(lambda self: self.model)
    @rule(
        upto=st.integers(0, 12),
        have=st.lists(st.tuples(numbers, numbers), max_size=3),
        nacks=st.lists(numbers, max_size=3),
    )
    def confirm(self, upto: int, have: list[tuple[int, int]], nacks: list[int]) -> None:
        given = Ack(self.journal.epoch, upto, tuple(have), tuple(Nack(n, "no") for n in nacks), 1)
        last = len(self.model)
        if (
            upto > last
            or max([*nacks, *(b for _, b in have)], default=0) > last
            or any(a > b for a, b in have)
        ):
            with pytest.raises(MessageError):
                self.journal.confirm(given)
            return
        before = dict(self.model)
        for seq in nacks:
            if self.model[seq] == "pending":
                self.model[seq] = "quarantined"
        for seq, state in self.model.items():
            if state == "pending" and (seq <= upto or any(a <= seq <= b for a, b in have)):
                self.model[seq] = "acked"
        changed = sum(before[seq] != self.model[seq] for seq in before)
        assert self.journal.confirm(given) == changed

    @rule(first=numbers, last=numbers)
    def replay(self, first: int, last: int) -> None:
        again = [s for s in self.model if first <= s <= last and self.model[s] == "acked"]
        assert self.journal.replay(self.journal.epoch, first, last) == len(again)
        self.model.update(dict.fromkeys(again, "pending"))

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "journal"):
            assert states(self.journal) == self.model
            pending = [s.seq for s in self.journal.pending(self.journal.epoch, 0, 100)]
            assert pending == [s for s, state in self.model.items() if state == "pending"]

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.folder.cleanup()


Outbox.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOutbox = Outbox.TestCase
