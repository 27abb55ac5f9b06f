"""From frames to decisions with liveness on: photographs are refused, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import Decision, Face, Frame, Image, Outcome, Vector
from agent.door.recogniser import Recogniser
from agent.recognition.decision import Decider, Rule
from agent.recognition.matcher import Matcher
from agent.recognition.templates import TemplateSet
from agent.sim.attacks import KINDS, Subject, attack_clip, subjects
from agent.sim.cameras.scene import SceneCamera
from agent.sim.photographs import passengers
from agent.vision.liveness import Liveness
from agent.wiring.parts import quality_gate, recogniser
from tests.liveness_pack import networks, settings

NOWHERE = Path("/nonexistent/state")


@cache
def people() -> list[Subject]:
    """The six of ``t1``: faces of the size that stands before a door."""
    return subjects(networks().detector, ("t1.jpg",))


@cache
def enrolled() -> TemplateSet:
    return TemplateSet.build(
        (str(n), networks().embedder.embed(person.photograph, [person.face]))
        for n, person in enumerate(people())
    )


def decisions(
    frames: Iterable[Frame], mode: str, templates: TemplateSet | None = None
) -> list[Decision]:
    nets = networks() if mode == "on" else replace(networks(), liveness=None)
    watcher = recogniser(settings(NOWHERE, mode), nets, templates or enrolled())
    found = [decision for frame in frames for decision in watcher.process(frame).decisions]
    return found + watcher.finish()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph_of_an_enrolled_person_is_refused(kind: str) -> None:
    clip = list(attack_clip(kind, people()[0], other=people()[1], frames=6, seed=2))
    assert any(d.person == "0" for d in decisions(clip, "off")), "the attack is no attack"
    with_liveness = decisions(clip, "on")
    assert with_liveness
    assert not any(d.outcome is Outcome.MATCH for d in with_liveness)
    refused = [d for d in with_liveness if d.outcome is Outcome.REJECTED]
    assert {(d.person, d.reason) for d in refused} == {(None, "not_live")}


def test_people_as_the_camera_sees_them_are_recognised_with_liveness_on() -> None:
    still = Frame(people()[0].photograph, 0, 0, 0, still=True)
    found = decisions([still], "on")
    assert {d.person for d in found if d.outcome is Outcome.MATCH} == {str(n) for n in range(6)}


def test_a_stranger_stays_unknown_whatever_liveness_says() -> None:
    others = TemplateSet.build([("9", enrolled().matrix[:1] * -1)])
    clip = list(attack_clip("screen", people()[0], frames=4, seed=2))
    assert {d.outcome for d in decisions(clip, "on", others)} == {Outcome.UNKNOWN}


@pytest.mark.slow
def test_the_demos_passengers_are_photographs_and_are_refused() -> None:
    """One of the demo's people, enrolled from the photograph they are cut out of, walks up."""
    person = passengers(networks().detector, ("t1.jpg",))[2]
    camera = SceneCamera([person], pace="fast")
    camera.open()
    frames = []
    while (frame := camera.read()) is not None:
        frames.append(frame)
    camera.close()
    assert any(d.outcome is Outcome.MATCH for d in decisions(frames, "off"))
    found = decisions(frames, "on")
    assert not any(d.outcome is Outcome.MATCH for d in found)
    assert any(d.reason == "not_live" for d in found)


BOX = (100.0, 100.0, 220.0, 240.0)
MARKS = np.array([[130, 140], [190, 140], [160, 170], [140, 200], [180, 200]], np.float32)
NOISE = np.random.default_rng(1).integers(0, 256, (300, 320, 3)).astype(np.uint8)


class OneFace:
    """Detector, embedder and liveness network whose answers change from frame *swap* on.

    Before it a living stranger stands there, afterwards the photograph of a resident.
    """

    pack = "fake"

    def __init__(self, swap: int) -> None:
        self._swap = swap
        self._frame = -1

    def detect(self, image: Image) -> list[Face]:
        del image
        self._frame += 1
        return [Face(BOX, 0.9, MARKS)]

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        del image, faces
        return np.eye(4, dtype=np.float32)[[int(self._frame >= self._swap)]]

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        return self.embed(image, faces)

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        del image
        return np.full(len(faces), -1.0 if self._frame >= self._swap else 6.0, np.float32)


def at_the_door(scripted: OneFace, frames: int) -> list[Decision]:
    resident = TemplateSet.build([("resident", np.eye(4, dtype=np.float32)[[1]])])
    given = settings(NOWHERE)
    watcher = Recogniser(
        scripted,
        scripted,
        quality_gate(given),
        Decider(Matcher(resident), Rule(0.4, 0.05, 3, 12)),
        lost_ms=700,
        max_faces=4,
        max_frames=12,
        liveness=Liveness(scripted, min_frames=3),
    )
    found: list[Decision] = []
    for index in range(frames):
        found += watcher.process(Frame(NOISE, index, index * 67, index * 67)).decisions
    return found


def test_a_face_shown_first_does_not_vouch_for_a_photograph_raised_after_it() -> None:
    found = at_the_door(OneFace(swap=4), 12)
    assert {d.outcome for d in found if d.frame < 4} == {Outcome.UNKNOWN}
    assert {(d.outcome, d.reason) for d in found if d.frame >= 6} == {
        (Outcome.REJECTED, "not_live")
    }
    assert not any(d.outcome is Outcome.MATCH for d in found)


def test_the_network_runs_only_for_faces_that_resemble_somebody() -> None:
    """Four views of a stranger, then a resident's."""

    class Counted(OneFace):
        judged = 0

        def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
            self.judged += len(faces)
            return super().log_odds(image, faces)

    scripted = Counted(swap=4)
    at_the_door(scripted, 4)
    assert scripted.judged == 0
    scripted = Counted(swap=4)
    at_the_door(scripted, 10)
    assert scripted.judged == 6


def test_a_match_is_taken_back_when_the_face_turns_out_to_be_a_picture() -> None:
    """The network is wrong for three views, then sees it."""

    class Late(OneFace):
        def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
            del image, faces
            return np.eye(4, dtype=np.float32)[[1]]

        def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
            del image, faces
            return np.array([0.5 if self._frame < 3 else -2.0], np.float32)

    found = at_the_door(Late(swap=0), 8)
    assert found[0].outcome is Outcome.MATCH
    assert (found[-1].outcome, found[-1].person, found[-1].reason) == (
        Outcome.REJECTED,
        None,
        "not_live",
    )
