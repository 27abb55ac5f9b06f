"""Three lamps and a buzzer on a board's pins, through gpiozero; the same code on its mock pins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gpiozero import LED, GPIOPinInUse, PinInvalidPin, PinPWMUnsupported, PinUnknownPi, TonalBuzzer
from gpiozero.pins import Factory
from gpiozero.tones import Tone

from agent.base.drivers import LampDriver, LampRequest
from agent.base.errors import FeedbackError, UsageError
from agent.base.values import DoorSignal

# Melodies as (Hz, seconds). All stay below 1.1 kHz: hearing at eighty fades from about 2 kHz up.
_RISING = ((784.0, 0.12), (1047.0, 0.20))
_FALLING = ((1047.0, 0.12), (784.0, 0.20))
_SINGLE = ((880.0, 0.20),)
_SOFT_LOW = ((330.0, 0.25),)
_DESCENT = ((440.0, 0.20), (330.0, 0.30))
_GAP_SECONDS = 0.03
# A narrow pulse is a quiet one: nobody is to feel accused by the fallback.
_FULL_DUTY = 0.5
_SOFT_DUTY = 0.1


@dataclass(frozen=True, slots=True)
class _Show:
    lamp: str
    melody: tuple[tuple[float, float], ...] = ()
    duty: float = _FULL_DUTY
    steady: bool = False


_SHOWS = {
    "ready": _Show("", steady=True),
    "welcome": _Show("green", _RISING),
    "again": _Show("green", _SINGLE),
    "goodbye": _Show("green", _FALLING),
    "fallback": _Show("amber", _SOFT_LOW, _SOFT_DUTY),
    "out_of_service": _Show("red", _DESCENT, steady=True),
}


@dataclass(frozen=True, slots=True)
class LampState:
    """What the pins show now; ``tone`` in Hz, None when silent."""

    green: bool
    amber: bool
    red: bool
    tone: float | None


def _lgpio() -> Factory:
    from gpiozero.pins.lgpio import LGPIOFactory  # noqa: PLC0415 - only where it is chosen

    return LGPIOFactory()


def _rpigpio() -> Factory:
    from gpiozero.pins.rpigpio import RPiGPIOFactory  # noqa: PLC0415 - only where it is chosen

    return RPiGPIOFactory()


def _mock() -> Factory:
    from gpiozero.pins.mock import MockFactory, MockPWMPin  # noqa: PLC0415 - only where chosen

    return MockFactory(pin_class=MockPWMPin)


# gpiozero's "native" has no PWM, its TonalBuzzer does not work over "pigpio", and it knows no
# Jetson at all: none of them could ever sound the buzzer, so none is offered.
_FACTORIES: dict[str, Callable[[], Factory]] = {
    "lgpio": _lgpio,
    "rpigpio": _rpigpio,
    "mock": _mock,
}


class GpioLamps:
    """Green, amber and red lamp and a buzzer; pins are BCM numbers.

    A result stays lit for *show_seconds*, then the last lasting state ("ready" or
    "out_of_service") returns. *pin_factory* is "lgpio", "rpigpio", "mock" or a gpiozero factory.
    Raises FeedbackError when a pin cannot be opened.
    """

    def __init__(
        self,
        green_pin: int,
        amber_pin: int,
        red_pin: int,
        buzzer_pin: int,
        pin_factory: str | Factory,
        show_seconds: float,
    ) -> None:
        self._show_seconds = show_seconds
        self._change = threading.Condition()
        self._base = self._current = _SHOWS["ready"]
        self._shown = 0  # counts show() calls, so that the thread notices a newer one
        self._failed: FeedbackError | None = None
        self._closed = False
        self._leds: dict[str, LED] = {}
        self._buzzer: TonalBuzzer | None = None
        with _named("lamps"):
            self._factory = _open_factory(pin_factory)
        try:
            for lamp, pin in (("green", green_pin), ("amber", amber_pin), ("red", red_pin)):
                with _named(f"{lamp} lamp on BCM {pin}"):
                    self._leds[lamp] = LED(pin, pin_factory=self._factory)
            with _named(f"buzzer on BCM {buzzer_pin}"):
                self._buzzer = TonalBuzzer(buzzer_pin, octaves=2, pin_factory=self._factory)
        except FeedbackError:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name="lamps", daemon=True)
        self._thread.start()

    def show(self, signal: DoorSignal) -> None:
        """Light the lamp for *signal* now and play its melody meanwhile; returns at once.

        A lasting state that is shown again stays as it is, without its sound. Raises
        FeedbackError when a pin no longer obeys, or did not since the last call.
        """
        show = _SHOWS.get(signal.name)
        if show is None:
            raise UsageError(f"lamps: there is no signal {signal.name!r}")
        with self._change:
            if self._closed:
                raise FeedbackError("lamps: shown after close(); open them again")
            if self._failed is not None:
                raise self._failed
            if show.steady:
                self._base = show
                # "ready" never cuts short what a passenger is just being told.
                if self._current is show or (not show.lamp and not self._current.steady):
                    return
            with _named("lamps"):
                self._light(show)
            self._current = show
            self._shown += 1
            self._change.notify()

    def state(self) -> LampState:
        """What the pins are at now, read back from them; all dark once closed."""
        with self._change:
            if self._closed or self._buzzer is None:
                return LampState(green=False, amber=False, red=False, tone=None)
            with _named("lamps"):
                tone = self._buzzer.tone
                return LampState(
                    green=bool(self._leds["green"].is_lit),
                    amber=bool(self._leds["amber"].is_lit),
                    red=bool(self._leds["red"].is_lit),
                    tone=None if tone is None else float(tone.frequency),
                )

    def close(self) -> None:
        """Lamps dark, buzzer silent, pins released, thread ended; safe to call twice."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify()
        self._thread.join(timeout=2.0)
        with _named("lamps"):
            self._release()

    def _run(self) -> None:
        """Play what was shown last, put its lamp out when its time is up, wait for the next."""
        done = 0
        with self._change:
            while not self._closed and self._failed is None:
                if done == self._shown:
                    self._change.wait()
                    continue
                done = self._shown
                try:
                    with _named("lamps"):
                        self._perform(self._current)
                except FeedbackError as error:
                    self._failed = error

    def _perform(self, show: _Show) -> None:
        """The course of one signal in time; ends early when another one is shown."""
        assert self._buzzer is not None  # noqa: S101 - opened before the thread started
        begun = time.monotonic()
        for hertz, seconds in show.melody:
            self._buzzer.play(Tone.from_frequency(hertz))
            self._buzzer.pwm_device.value = show.duty
            interrupted = self._interrupted(seconds)
            self._buzzer.stop()
            if interrupted or self._interrupted(_GAP_SECONDS):
                return
        if not show.steady and not self._interrupted(begun + self._show_seconds - time.monotonic()):
            # The sound of a lasting state was heard when it began.
            self._current = self._base
            self._light(self._base)

    def _interrupted(self, seconds: float) -> bool:
        """Wait *seconds* with the lock released; True when something newer is to be shown."""
        shown = self._shown
        return self._change.wait_for(lambda: self._closed or self._shown != shown, max(0, seconds))

    def _light(self, show: _Show) -> None:
        for lamp, led in self._leds.items():
            led.value = lamp == show.lamp

    def _release(self) -> None:
        for led in self._leds.values():
            led.close()
        if self._buzzer is not None:
            self._buzzer.close()
        self._factory.close()


def _open_factory(pin_factory: str | Factory) -> Factory:
    if not isinstance(pin_factory, str):
        return pin_factory
    make = _FACTORIES.get(pin_factory)
    if make is None:
        raise UsageError(
            f"pin factory {pin_factory!r} is not known; choose one of {', '.join(_FACTORIES)}"
        )
    return make()


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn whatever a pin library raises into FeedbackError with what to do about it."""
    try:
        yield
    except (FeedbackError, UsageError):
        raise
    # Each pin library has an error class of its own (lgpio's derives from Exception itself) and
    # none may be imported here unless it is chosen, so all of them are caught by the root.
    except Exception as error:
        raise FeedbackError(f"{what}: {_advice(error)}") from error


# What a pin library's error says or is -> what to do; the first that fits.
_ADVICE: tuple[tuple[type[Exception] | None, tuple[str, ...], str], ...] = (
    (
        ImportError,
        (),
        "the pin library is not installed ({}); on a Raspberry Pi: apt install python3-lgpio; "
        "elsewhere set feedback.lamps to 'none'",
    ),
    (
        PinPWMUnsupported,
        (),
        "this pin factory cannot make tones ({}); set feedback.pin_factory to 'lgpio'",
    ),
    (
        PinUnknownPi,
        (),
        "this is no Raspberry Pi that gpiozero knows ({}); set feedback.lamps to 'none'",
    ),
    (
        PinInvalidPin,
        (),
        "there is no such pin on this board ({}); set another BCM number",
    ),
    (
        GPIOPinInUse,
        ("busy", "in use"),
        "the pin is in use ({}); another program or a dtoverlay in config.txt holds it: see "
        "'gpioinfo', or set another BCM number",
    ),
    (
        PermissionError,
        ("permission", "not permitted"),
        "no permission for the GPIO chip ({}); add the user to the group 'gpio'",
    ),
    (
        None,
        (".lgd-nfy",),
        "lgpio cannot write into the working directory ({}); start in one that is writable",
    ),
    (
        FileNotFoundError,
        ("gpiochip", "can not open"),
        "there is no GPIO chip here ({}); set feedback.lamps to 'none' on this machine",
    ),
)


def _advice(error: Exception) -> str:
    said = str(error) or type(error).__name__
    for kind, words, advice in _ADVICE:
        if (kind and isinstance(error, kind)) or any(word in said.lower() for word in words):
            return advice.format(said)
    return f"{type(error).__name__}: {said}; check the wiring and the pins in [feedback]"


def _make(asked: LampRequest) -> GpioLamps:
    return GpioLamps(
        asked.green_pin,
        asked.amber_pin,
        asked.red_pin,
        asked.buzzer_pin,
        asked.pin_factory,
        asked.show_seconds,
    )


DRIVER = LampDriver(_make)
