"""Lamps and buzzer on gpiozero's mock pins: what is lit, what is heard, what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gpiozero import GPIOPinInUse, PinUnknownPi
from gpiozero.pins.mock import MockFactory, MockPin, MockPWMPin

from agent.base.errors import FeedbackError, UsageError
from agent.base.values import DoorSignal
from agent.hw.lamps.gpio import GpioLamps, LampState
from tests.waiting import never, returns, until

GREEN, AMBER, RED, BUZZER = 17, 27, 22, 18
DARK = LampState(green=False, amber=False, red=False, tone=None)


@contextmanager
def lamps(show_seconds: float = 0.05, pin_factory: Any = "mock") -> Iterator[GpioLamps]:
    opened = GpioLamps(GREEN, AMBER, RED, BUZZER, pin_factory, show_seconds)
    try:
        yield opened
    finally:
        opened.close()


class Recorder(MockFactory):
    """Mock pins that note every tone and duty the buzzer is given."""

    def __init__(self) -> None:
        heard: list[float] = []
        duties: list[float] = []

        class Pin(MockPWMPin):
            def _set_frequency(self, value: float | None) -> None:
                if value is not None and self.info.name == f"GPIO{BUZZER}":
                    heard.append(round(value))
                super()._set_frequency(value)

            def _set_state(self, value: float) -> None:
                if self.info.name == f"GPIO{BUZZER}" and value:
                    duties.append(value)
                super()._set_state(value)

        super().__init__(pin_class=Pin)
        self.heard, self.duties = heard, duties

    def tones(self) -> list[float]:
        return [hertz for hertz in self.heard if hertz != 100]  # gpiozero's own start-up value


@pytest.mark.parametrize(
    ("signal", "lamp"),
    [
        ("welcome", "green"),
        ("again", "green"),
        ("goodbye", "green"),
        ("fallback", "amber"),
        ("out_of_service", "red"),
    ],
)
def test_a_signal_lights_its_lamp_and_no_other(signal: str, lamp: str) -> None:
    with lamps(show_seconds=5) as door:
        door.show(DoorSignal(signal))
        state = door.state()
        assert {"green": state.green, "amber": state.amber, "red": state.red} == {
            "green": lamp == "green",
            "amber": lamp == "amber",
            "red": lamp == "red",
        }


def test_ready_is_dark_and_silent() -> None:
    with lamps() as door:
        door.show(DoorSignal("ready"))
        assert door.state() == DARK


@pytest.mark.parametrize(
    ("signal", "count"), [("welcome", 2), ("again", 1), ("goodbye", 2), ("fallback", 1)]
)
def test_each_result_has_its_own_melody(signal: str, count: int) -> None:
    factory = Recorder()
    with lamps(0.01, factory) as door:
        silent = len(factory.tones())
        door.show(DoorSignal(signal))
        until(lambda: door.state() == DARK)
        melody = factory.tones()[silent:]
    assert len(melody) == count
    if signal == "welcome":
        assert melody == sorted(melody)
    if signal == "goodbye":
        assert melody == sorted(melody, reverse=True)
    if signal == "fallback":
        assert melody[0] < 400
        assert factory.duties[-1] < 0.2  # soft


def test_the_tone_is_seen_while_it_sounds_and_ends() -> None:
    with lamps() as door:
        door.show(DoorSignal("again"))
        until(lambda: door.state().tone is not None)
        assert door.state().tone == pytest.approx(880, rel=0.01)
        until(lambda: door.state().tone is None)


def test_a_result_goes_out_after_its_time() -> None:
    with lamps(show_seconds=0.05) as door:
        door.show(DoorSignal("again"))
        assert door.state().green
        until(lambda: door.state() == DARK)


@pytest.mark.slow
def test_out_of_service_returns_after_a_result_without_sounding_again() -> None:
    factory = Recorder()
    with lamps(0.01, factory) as door:
        door.show(DoorSignal("out_of_service"))
        until(lambda: len(factory.tones()) >= 2 and door.state().tone is None)
        door.show(DoorSignal("fallback"))
        assert door.state().amber
        until(lambda: door.state().red)
        heard = len(factory.tones())
        door.show(DoorSignal("out_of_service"))
        never(lambda: len(factory.tones()) > heard)


def test_ready_does_not_cut_a_result_short_but_ends_out_of_service() -> None:
    with lamps(show_seconds=0.2) as door:
        door.show(DoorSignal("welcome"))
        door.show(DoorSignal("ready"))
        assert door.state().green
        door.show(DoorSignal("out_of_service"))
        assert door.state().red
        door.show(DoorSignal("ready"))
        assert not door.state().red


def test_a_newer_notice_replaces_the_older_at_once() -> None:
    with lamps(show_seconds=5) as door:
        door.show(DoorSignal("welcome"))
        door.show(DoorSignal("fallback"))
        assert door.state().amber
        assert not door.state().green
        until(lambda: door.state().tone == pytest.approx(330, rel=0.01))


def test_show_returns_at_once() -> None:
    factory = Recorder()
    with lamps(5, factory) as door:
        silent = len(factory.tones())
        for _ in range(20):
            door.show(DoorSignal("welcome"))
            door.show(DoorSignal("fallback"))
        # Waiting for the melodies it would have heard them all: two tones and one, twenty times.
        assert len(factory.tones()) - silent < 60


def test_close_is_quick_dark_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    door = GpioLamps(GREEN, AMBER, RED, BUZZER, "mock", 600.0)
    door.show(DoorSignal("welcome"))
    returns(door.close)
    returns(door.close)
    assert door.state() == DARK
    assert set(threading.enumerate()) == before
    with pytest.raises(FeedbackError, match="close"):
        door.show(DoorSignal("welcome"))


def test_the_pins_are_free_again_after_close() -> None:
    factory = MockFactory(pin_class=MockPWMPin)
    for _ in range(2):
        with lamps(pin_factory=factory) as door:
            door.show(DoorSignal("welcome"))
            assert door.state().green


def test_an_unknown_signal_is_refused() -> None:
    with lamps() as door, pytest.raises(UsageError, match="wellcome"):
        door.show(DoorSignal("wellcome"))


class Refusing(MockFactory):
    """A factory whose pins cannot be had, for *reason*."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(pin_class=MockPWMPin)
        self._reason = reason

    def pin(self, name: object, pin_class: object = None, **_: object) -> MockPin:
        raise self._reason


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (PermissionError(13, "Permission denied"), "group 'gpio'"),
        (FileNotFoundError(2, "No such file"), "feedback.lamps to 'none'"),
        (RuntimeError("can not open gpiochip"), "feedback.lamps to 'none'"),
        (RuntimeError("GPIO busy"), "in use"),
        (GPIOPinInUse("pin GPIO17 is already in use"), "BCM number"),
        (PinUnknownPi("unable to locate Pi revision"), "no Raspberry Pi"),
        (FileNotFoundError(2, "No such file", ".lgd-nfy-3"), "working directory"),
        (ZeroDivisionError("what?"), "ZeroDivisionError"),
    ],
)
def test_an_opening_error_names_the_pin_and_says_what_to_do(reason: Exception, advice: str) -> None:
    with pytest.raises(FeedbackError, match=f"green lamp on BCM 17.*{advice}"):
        GpioLamps(GREEN, AMBER, RED, BUZZER, Refusing(reason), 1.0)


def test_pins_without_pwm_are_told_apart() -> None:
    with pytest.raises(FeedbackError, match=r"buzzer on BCM 18.*cannot make tones"):
        GpioLamps(GREEN, AMBER, RED, BUZZER, MockFactory(), 1.0)


def test_a_pin_taken_twice_is_told_and_frees_the_others() -> None:
    factory = MockFactory(pin_class=MockPWMPin)
    with pytest.raises(FeedbackError, match=r"amber lamp on BCM 17.*in use"):
        GpioLamps(GREEN, GREEN, RED, BUZZER, factory, 1.0)
    with lamps(pin_factory=factory) as door:
        assert door.state() == DARK


def test_an_unknown_pin_factory_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'jetson'.*lgpio"):
        GpioLamps(GREEN, AMBER, RED, BUZZER, "jetson", 1.0)


@pytest.mark.skipif(
    Path("/proc/device-tree/system/linux,revision").exists(), reason="this is a Raspberry Pi"
)
def test_the_real_factory_off_a_board_says_what_to_do() -> None:
    """Without lgpio, or with it and no Raspberry Pi around it, the answer is advice."""
    with pytest.raises(FeedbackError, match=r"lamps: .*feedback.lamps to 'none'"):
        GpioLamps(GREEN, AMBER, RED, BUZZER, "lgpio", 1.0)


def test_a_pin_that_breaks_meanwhile_is_told_at_the_next_signal() -> None:
    class Breaking(MockFactory):
        broken = False

    class Pin(MockPWMPin):
        def _set_frequency(self, value: float | None) -> None:
            if Breaking.broken and value is not None:
                raise OSError(5, "Input/output error")
            super()._set_frequency(value)

    with lamps(pin_factory=Breaking(pin_class=Pin)) as door:
        Breaking.broken = True
        door.show(DoorSignal("welcome"))

        def told() -> bool:
            try:
                door.show(DoorSignal("ready"))
            except FeedbackError as error:
                return "Input/output error" in str(error)
            return False

        until(told)
