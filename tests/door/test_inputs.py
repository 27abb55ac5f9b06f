"""Inputs other than frames reach the pipeline in order, and never hold up who puts them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agent.base.events import PassageEvent, Place
from agent.base.values import DoorEdge, Frame
from agent.door.inputs import MOST_WAITING, Inputs
from agent.door.pipeline import Conduct, Pipeline
from agent.door.recogniser import Step
from agent.door.recorder import Recorder
from agent.journey.boarding import BoardingRules
from agent.keys.pseudonym import Pseudonyms
from agent.sim.clock import SimClock
from agent.sim.patches import PatchEmbedder, picture
from tests.door.test_pipeline import ANN, Door, PatchSearch, Town, stages
from tests.waiting import LATE_SECONDS

FRONT = Place("bus", "bus-7", "front")


class Watched(Door):
    """A door that notes which frames were worked on, beside all else that happens."""

    def saw(self, step: Step) -> None:
        super().saw(step)
        self.happened.append(f"frame {step.tracks.frame.index}")


class Driver:
    """Puts an edge from a thread of its own each time it is told to."""

    def __init__(self, put: Callable[[DoorEdge], None]) -> None:
        self._put = put
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._number = 0
        self._thread.start()

    def step(self) -> None:
        """Have one edge put, and wait until that is done."""
        self._go.release()
        assert self._done.acquire(timeout=LATE_SECONDS)

    def _run(self) -> None:
        while self._go.acquire():
            self._put(DoorEdge("front", self._number % 2 == 0, self._number))
            self._number += 1
            self._done.release()


class Frames:
    """A source whose every frame comes just after *before* was called."""

    def __init__(self, count: int, before: Callable[[int], None], who: int = 0) -> None:
        self._count, self._before, self._who = count, before, who
        self._next = 0

    @property
    def state(self) -> str:
        return "running" if self._next < self._count else "ended"

    def get(self, timeout_seconds: float) -> Frame | None:
        del timeout_seconds
        if self._next == self._count:
            return None
        index, self._next = self._next, self._next + 1
        self._before(index)
        image = picture((self._who, 100)) if self._who else picture()
        return Frame(image, index, 100 * index, 9_000 + 100 * index)


def pipeline(
    door: Door, source: Frames, inputs: Inputs, rules: BoardingRules | None = None
) -> Pipeline:
    rules = rules or BoardingRules(
        Pseudonyms(lambda _purpose: bytes(32)), FRONT, direction="in", repeat_ms=120_000
    )
    return Pipeline(
        source,
        inputs,
        stages(PatchSearch(), PatchEmbedder()),
        Recorder(rules, door, SimClock()),
        Town(),
        door,
        door,
        Conduct(1_000, 1_500, "refuse", goodbye=False),
    )


def test_an_edge_put_by_another_thread_is_handled_before_the_frame_that_came_after_it() -> None:
    door, inputs = Watched(), Inputs()
    inputs.handle(DoorEdge, lambda edge: door.happened.append(f"edge {edge.mono_ms}"))
    driver = Driver(inputs.put)
    pipeline(door, Frames(20, lambda _index: driver.step()), inputs).run(threading.Event())
    assert door.happened == [f"{what} {n}" for n in range(20) for what in ("edge", "frame")]
    assert door.counts["inputs_dropped"] == 0


def test_while_the_pipeline_is_stuck_nobody_who_puts_waits_and_what_is_lost_is_counted() -> None:
    door, inputs = Watched(), Inputs()
    stuck, go_on = threading.Event(), threading.Event()
    handled: list[int] = []

    def handle(edge: DoorEdge) -> None:
        handled.append(edge.mono_ms)
        stuck.set()
        assert go_on.wait(LATE_SECONDS)

    inputs.handle(DoorEdge, handle)
    inputs.put(DoorEdge("front", is_open=True, mono_ms=0))
    source = Frames(3, lambda _index: None)
    loop = threading.Thread(target=pipeline(door, source, inputs).run, args=(threading.Event(),))
    loop.start()
    assert stuck.wait(LATE_SECONDS)
    many = 10_000
    for number in range(1, many + 1):  # this thread would hang here if it had to wait
        inputs.put(DoorEdge("front", is_open=number % 2 == 0, mono_ms=number))
    assert handled == [0]
    go_on.set()
    loop.join(LATE_SECONDS)
    assert not loop.is_alive()
    assert handled == [0, *range(many - MOST_WAITING + 1, many + 1)]
    assert door.counts["inputs_dropped"] == many - MOST_WAITING
    assert [each for each in door.happened if each.startswith("frame")] == [
        "frame 0",
        "frame 1",
        "frame 2",
    ]


def test_many_threads_lose_nothing_of_each_others_while_there_is_room() -> None:
    inputs = Inputs(most_waiting=4_000)
    found: list[tuple[str, int]] = []
    inputs.handle(DoorEdge, lambda edge: found.append((edge.door, edge.mono_ms)))

    def put(door: str) -> None:
        for number in range(1_000):
            inputs.put(DoorEdge(door, is_open=True, mono_ms=number))

    threads = [threading.Thread(target=put, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert inputs.hand_over() == 0
    inputs.hand_over()
    assert len(found) == 4_000
    for name in ("a", "b", "c", "d"):
        assert [number for door, number in found if door == name] == list(range(1_000))


def test_a_handler_that_fails_takes_nothing_with_it_but_its_own() -> None:
    inputs = Inputs()
    found: list[int] = []

    def handle(edge: DoorEdge) -> None:
        if edge.mono_ms == 1:
            raise RuntimeError("a defect")
        found.append(edge.mono_ms)

    inputs.handle(DoorEdge, handle)
    for number in range(3):
        inputs.put(DoorEdge("front", is_open=True, mono_ms=number))
    with pytest.raises(RuntimeError):
        inputs.hand_over()
    assert inputs.hand_over() == 0
    assert found == [0, 2]


def test_who_boards_after_the_bus_moved_boards_there() -> None:
    """The place comes by another thread; the event has it that was known before its frame."""
    door, inputs = Door(), Inputs()
    rules = BoardingRules(
        Pseudonyms(lambda _purpose: bytes(32)), FRONT, direction="in", repeat_ms=0
    )
    inputs.handle(Place, rules.moved)

    def move(index: int) -> None:
        if index == 2:
            mover = threading.Thread(
                target=inputs.put, args=(Place("bus", "bus-7", "front", "stop-2"),)
            )
            mover.start()
            mover.join(LATE_SECONDS)

    pipeline(door, Frames(6, move, ANN), inputs, rules).run(threading.Event())
    (event,) = door.events
    assert isinstance(event, PassageEvent)
    assert event.place.stop == "stop-2"
