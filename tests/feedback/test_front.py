"""The front: lamps and displays together, and a door that goes on when one of them breaks."""

from __future__ import annotations

import logging

import pytest

from agent.base.errors import FeedbackError
from agent.base.values import DoorSignal
from agent.feedback.front import Feedback
from agent.sim.front import FakeDisplay, FakeLamps


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Workshop:
    """Opens lamps, or refuses while *out_of_lamps*; counts how often it was asked."""

    def __init__(self) -> None:
        self.out_of_lamps = False
        self.asked = 0
        self.made: list[FakeLamps] = []

    def __call__(self) -> FakeLamps:
        self.asked += 1
        if self.out_of_lamps:
            raise FeedbackError("lamps: no GPIO chip")
        self.made.append(FakeLamps())
        return self.made[-1]


def test_a_notice_reaches_the_lamps_and_every_display() -> None:
    workshop, first, second = Workshop(), FakeDisplay(), FakeDisplay()
    feedback = Feedback(workshop, [first, second])
    feedback.show(DoorSignal("welcome"))
    assert workshop.made[0].shown == ["welcome"]
    assert first.shown == second.shown == [("welcome", None)]
    assert feedback.alarms() == ()


def test_lamps_that_cannot_be_opened_leave_the_door_working_with_an_alarm() -> None:
    workshop, display = Workshop(), FakeDisplay()
    workshop.out_of_lamps = True
    feedback = Feedback(workshop, [display])
    feedback.show(DoorSignal("welcome"))
    assert display.shown == [("welcome", None)]
    assert feedback.alarms() == ("lamps: no GPIO chip",)


def test_lost_lamps_are_tried_again_at_most_every_thirty_seconds() -> None:
    workshop, clock = Workshop(), Clock()
    workshop.out_of_lamps = True
    feedback = Feedback(workshop, [], monotonic=clock)
    for _ in range(29):
        clock.seconds += 1
        feedback.show(DoorSignal("fallback"))
        feedback.tend()
    assert workshop.asked == 1
    clock.seconds += 1
    feedback.tend()
    assert workshop.asked == 2


def test_returning_lamps_show_the_lasting_state_and_the_alarm_ends() -> None:
    workshop, clock = Workshop(), Clock()
    feedback = Feedback(workshop, [], monotonic=clock)
    workshop.made[0].broken = True
    feedback.show(DoorSignal("out_of_service"))
    feedback.show(DoorSignal("welcome"))
    assert workshop.made[0].closed
    assert feedback.alarms() == ("lamps: pin 17 does not answer",)
    clock.seconds += 31
    feedback.tend()
    assert workshop.made[1].shown == ["out_of_service"]
    assert feedback.alarms() == ()


def test_a_loss_and_its_return_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    workshop, clock, display = Workshop(), Clock(), FakeDisplay()
    feedback = Feedback(workshop, [display], monotonic=clock)
    workshop.made[0].broken = True
    workshop.out_of_lamps = True
    display.broken = True
    with caplog.at_level(logging.DEBUG):
        for _ in range(100):
            clock.seconds += 1
            feedback.show(DoorSignal("fallback"))
        workshop.out_of_lamps = False
        display.broken = False
        for _ in range(100):
            clock.seconds += 1
            feedback.show(DoorSignal("fallback"))
    said = sorted(record.getMessage() for record in caplog.records)
    assert said == [
        "display 1: back",
        "display 1: lost: nobody reads",
        "lamps: back",
        "lamps: lost: pin 17 does not answer",
    ]


def test_a_broken_display_does_not_keep_the_others_dark() -> None:
    broken, whole = FakeDisplay(), FakeDisplay()
    broken.broken = True
    feedback = Feedback(None, [broken, whole])
    feedback.show(DoorSignal("ready"))
    assert whole.shown == [("ready", None)]
    assert feedback.alarms() == ("display 1: nobody reads",)


def test_close_releases_every_part_and_may_be_called_twice() -> None:
    workshop, display = Workshop(), FakeDisplay()
    feedback = Feedback(workshop, [display])
    feedback.close()
    feedback.close()
    feedback.show(DoorSignal("welcome"))
    feedback.tend()
    assert workshop.made[0].closed
    assert display.closed
    assert display.shown == []
    assert workshop.asked == 1
