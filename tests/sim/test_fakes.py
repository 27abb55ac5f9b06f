"""Every port has a fake in the package, called as the port is, that behaves like the part."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base import ports
from agent.base.errors import CameraError, JournalError, KeySourceError, MessageError
from agent.base.values import Ack, Face, Frame, Nack
from agent.hw.lamps.gpio import GpioLamps
from agent.journal import Journal
from agent.sim.cameras.scene import SceneCamera
from agent.sim.clock import SimClock
from agent.sim.front import FakeDisplay, FakeLamps
from agent.sim.journal import MemoryJournal
from agent.sim.keystores.memory import MemoryKeySource
from agent.sim.net.certificates import MemoryCertificates
from agent.sim.net.link import MemoryLink
from agent.sim.patches import PatchDetector, PatchEmbedder, PatchLiveness, picture
from agent.sim.recorded import RecordedCamera
from agent.sim.sensors.fake_infrared import FakeInfrared
from tests.events import make_event
from tests.journal.events import KEY

FAKES: dict[str, tuple[type, ...]] = {
    "Camera": (SceneCamera, RecordedCamera),
    "FaceDetector": (PatchDetector,),
    "FaceEmbedder": (PatchEmbedder,),
    "LivenessModel": (PatchLiveness,),
    "LivenessSensor": (FakeInfrared,),
    "KeySource": (MemoryKeySource,),
    "ChangeableKeySource": (MemoryKeySource,),
    "Clock": (SimClock,),
    "EventLog": (MemoryJournal,),
    "Outbox": (MemoryJournal,),
    "Lamps": (FakeLamps, GpioLamps),  # the latter on gpiozero's mock pins
    "Display": (FakeDisplay,),
    "Link": (MemoryLink,),
    "CertificateService": (MemoryCertificates,),
}
CALLED_BACK = {"Duty", "Publish"}  # what a link's thread calls: the program's own, no part


def protocols() -> dict[str, type]:
    return {
        name: kind
        for name, kind in vars(ports).items()
        if inspect.isclass(kind) and kind.__module__ == ports.__name__
    }


def test_every_port_has_a_fake() -> None:
    assert set(FAKES) == set(protocols()) - CALLED_BACK


@pytest.mark.parametrize(
    ("port", "fake"), [(port, fake) for port, fakes in FAKES.items() for fake in fakes]
)
def test_a_fake_is_called_as_its_port_is(port: str, fake: type) -> None:
    kind = protocols()[port]
    members = [n for base in kind.__mro__ for n in vars(base) if not n.startswith("_")]
    assert members
    for name in members:
        wanted, given = inspect.getattr_static(kind, name), inspect.getattr_static(fake, name)
        if isinstance(wanted, property):
            assert isinstance(given, property), name
            continue
        assert list(inspect.signature(wanted).parameters.values()) == list(
            inspect.signature(given).parameters.values()
        ), name


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.just(0)),
        st.tuples(
            st.sampled_from(["ack", "have", "nack", "replay", "requeue", "absent"]),
            st.integers(0, 14),
            st.integers(0, 14),
        ),
    ),
    max_size=30,
)


def step(journal: Journal | MemoryJournal, what: str, first: int, last: int) -> object:
    """What one step answers, or which error it raises."""
    epoch = journal.epoch
    if what == "append":
        return [journal.append(make_event(n)).seq for n in range(first)]
    have = ((first, last),) if what == "have" else ()
    nack = (Nack(first, f"code-{last % 2}"),) if what == "nack" else ()
    ack = Ack(epoch, first if what == "ack" else 0, have, nack, 1)
    try:
        if what in ("ack", "have", "nack"):
            return journal.confirm(ack)
        return getattr(journal, what)(epoch, first, last)
    except MessageError:
        return MessageError


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_journal_in_memory_answers_as_the_one_on_disk(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("journal")
    memory = MemoryJournal()
    with Journal(folder / "journal.db", KEY) as disk:
        for what, first, last in steps:
            if what == "absent" and not first >= 1:
                continue
            assert step(memory, what, first, last) == step(disk, what, first, last), what
            seqs = [
                [
                    [stored.seq for stored in journal.pending(journal.epoch, 2, 5)],
                    [stored.seq for stored in journal.recent(3)],
                    journal.bounds(journal.epoch),
                ]
                for journal in (memory, disk)
            ]
            assert seqs[0] == seqs[1]
        for journal in (memory, disk):
            with pytest.raises(JournalError):
                journal.bounds("f" * 32)
            with pytest.raises(MessageError):
                journal.replay("f" * 32, 1, 2)


def test_keys_in_memory_are_never_replaced_but_by_a_promotion() -> None:
    keys = MemoryKeySource()
    first, second = keys.create("device-key"), keys.create("next")
    assert len(first) == 32
    with pytest.raises(KeySourceError, match="never replaced"):
        keys.create("device-key")
    keys.promote("next", "device-key")
    assert (keys.load("device-key"), keys.load("next")) == (second, None)
    with pytest.raises(KeySourceError, match="not in memory"):
        keys.promote("next", "device-key")


def test_a_clock_moves_when_it_is_moved() -> None:
    clock = SimClock(1_000, 1_790_000_000_000)
    before = clock.now()
    clock.advance(250)
    assert (clock.mono_ms(), clock.now().wall_ms - before.wall_ms) == (1_250, 250)


def test_a_recorded_camera_plays_from_the_beginning_and_not_before_it_is_opened() -> None:
    camera = RecordedCamera([Frame(picture(), n, 10 * n, 0) for n in range(2)])
    with pytest.raises(CameraError, match="not open"):
        camera.read()
    for _ in range(2):
        camera.open()
        assert [frame.index for frame in iter(camera.read, None)] == [0, 1]


def test_patches_are_found_told_apart_and_alive_or_not() -> None:
    image = picture((41, 20), (92, 200))
    living, photograph = PatchDetector().detect(image)
    rows = PatchEmbedder().embed(image, [living, photograph])
    assert np.allclose(rows @ rows.T, np.eye(2))
    assert PatchLiveness().log_odds(image, [living, photograph]).tolist() == [2.0, -2.0]


def test_infrared_light_does_not_reach_far() -> None:
    sensor = FakeInfrared([True, False])
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 0, 0, 0)
    landmarks = np.zeros((5, 2), np.float32)
    near = Face((0, 0, 80, 90), 0.9, landmarks)
    far = Face((0, 0, 20, 24), 0.9, landmarks)
    assert sensor.look(frame, [near, far]) == [True, None]
    assert sensor.look(frame, [near, far]) == [False, None]
    assert sensor.look(frame, [near]) == [None]
