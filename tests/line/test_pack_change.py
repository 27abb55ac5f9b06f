"""A town changes its model pack: both run until everybody has enrolled again, and never mix."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.base.errors import ModelError, SettingsError
from agent.base.ports import FaceEmbedder
from agent.base.values import Decision, Face, Frame, Image, Vector
from agent.cli.gallery.group import command as gallery_command
from agent.device.notify import from_environment
from agent.door.recogniser import Recogniser
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.keys.ring import open_keyring
from agent.recognition.rules import LOOKS, both_sides, pack_change
from agent.recognition.templates import TemplateSet
from agent.settings.model import Settings, load
from agent.sim.photographs import read_picture
from agent.sim.recorded import RecordedCamera
from agent.wiring.agent import Agent
from agent.wiring.parts import Networks, open_networks, quality_gate, recogniser
from agent.wiring.selftest import self_tested
from tests.liveness_pack import PACK, models_directory

FORMER = "buffalo_s"
NOW_MS = 1_790_000_000_000


def settings(state: Path = Path("/nonexistent"), **models: str) -> Settings:
    given = {"pack": PACK, "former": FORMER, "licence": "research", **models}
    return load(
        None,
        {
            "models": {"directory": models_directory(), **given},
            "liveness": {"mode": "off"},
            "sync": {"enabled": False},
            "feedback": {"display": "none"},
            "camera": {"kind": "scene", "pace": "fast"},
            "state": {"directory": str(state)},
        },
    )


@cache
def networks() -> Networks:
    return open_networks(settings())


@cache
def people(picture: str) -> tuple[dict[str, Vector], dict[str, Vector]]:
    """The people of a photograph under the new pack, and the same under the former one."""
    image, both_packs = read_picture(picture), networks()
    assert both_packs.former is not None
    gate = quality_gate(settings())
    faces = [f for f in both_packs.detector.detect(image) if gate.judge(image, f).usable]
    faces.sort(key=lambda face: face.box)
    new, former = (
        {f"{picture}-{n}": row[None] for n, row in enumerate(e.embed_reference(image, faces))}
        for e in (both_packs.embedder, both_packs.former.embedder)
    )
    return new, former


def templates(rows: dict[str, Vector], wanted: Sequence[str]) -> TemplateSet:
    return TemplateSet.build((name, rows[name]) for name in wanted)


def decisions(watcher: Recogniser, picture: str, frames: int = 4) -> list[Decision]:
    image = read_picture(picture)
    found: list[Decision] = []
    for number in range(frames):
        found += watcher.process(Frame(image, number, number * 66, number * 66)).decisions
    return found + watcher.finish()


class Counted:
    """An embedder that counts the faces it is given."""

    def __init__(self, embedder: FaceEmbedder) -> None:
        self._embedder = embedder
        self.pack = embedder.pack
        self.faces = 0

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        self.faces += len(faces)
        return self._embedder.embed(image, faces)

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        return self._embedder.embed_reference(image, faces)


def counted() -> tuple[Networks, Counted]:
    both_packs = networks()
    assert both_packs.former is not None
    former = Counted(both_packs.former.embedder)
    return replace(both_packs, former=replace(both_packs.former, embedder=former)), former


@pytest.mark.slow
def test_everybody_is_known_half_way_each_by_the_pack_they_are_enrolled_with() -> None:
    new, former = people("t1.jpg")
    names = sorted(new)
    again, waiting = names[:3], names[3:]
    both_packs, embedder = counted()
    line = (settings(), both_packs, templates(new, again), templates(former, waiting))
    found = decisions(recogniser(*line), "t1.jpg")
    assert {d.person for d in found} - {None} == set(names)
    assert embedder.faces == 4 * len(names)
    # Each score is that of the one pack alone.
    alone = decisions(recogniser(settings(), networks(), line[2]), "t1.jpg")
    scores = {d.person: d.score for d in alone if d.person is not None}
    assert set(scores) == set(again)
    for d in found:
        if d.person in scores:
            assert d.score == pytest.approx(scores[d.person], abs=1e-5)


@pytest.mark.slow
def test_strangers_stay_strangers_to_both_packs() -> None:
    new, former = people("t1.jpg")
    names = sorted(new)
    line = (settings(), networks(), templates(new, names[:3]), templates(former, names[3:]))
    for picture in ("players.jpg", "yaoming.jpg", "gdp.jpg"):
        assert {d.person for d in decisions(recogniser(*line), picture)} == {None}


def test_the_former_pack_costs_nothing_once_nobody_needs_it() -> None:
    new, _ = people("t1.jpg")
    both_packs, embedder = counted()
    nobody = templates({}, [])
    watcher = recogniser(settings(), both_packs, templates(new, sorted(new)), nobody)
    assert {d.person for d in decisions(watcher, "t1.jpg")} >= set(new)
    assert embedder.faces == 0


def test_each_person_is_one_chance_for_a_stranger_whichever_pack_compares() -> None:
    rng_rows = {f"r{n}": vector for n, vector in enumerate(unit_rows(400))}
    names = list(rng_rows)
    decision = settings().decision
    half = both_sides(
        decision,
        networks().calibrations,
        templates(rng_rows, names[:200]),
        templates(rng_rows, names[200:]),
    )
    whole = both_sides(decision, networks().calibrations, templates(rng_rows, names), None)
    assert half[1].threshold == whole[1].threshold
    assert half[2] is not None
    former = networks().calibrations[1]
    assert former is not None
    assert half[2][1].threshold == former.threshold(400, decision.fpir, images=3, looks=LOOKS)
    assert whole[2] is None


def unit_rows(count: int) -> Vector:
    rows = np.random.default_rng(5).standard_normal((count, 1, 512)).astype(np.float32)
    unit: Vector = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    return unit


def test_the_gallery_gives_each_person_to_one_pack_and_counts_who_is_left(tmp_path: Path) -> None:
    ring = open_keyring(FileKeySource(tmp_path / "keys"), may_create=True)
    rows = unit_rows(3)
    with Gallery(tmp_path / "gallery.db", ring, FORMER) as before:
        for number in range(3):
            before.enroll(f"r{number}", rows[number], now_ms=NOW_MS)
        assert before.to_enrol_again() == {}
    with Gallery(tmp_path / "gallery.db", ring, PACK) as gallery:
        assert gallery.load().ids == ()
        assert gallery.to_enrol_again() == {FORMER: 3}
        gallery.enroll("r1", rows[0], now_ms=NOW_MS)
        assert gallery.load().ids == ("r1",)
        assert set(gallery.load(FORMER).ids) == {"r0", "r2"}
        assert gallery.to_enrol_again() == {FORMER: 2}
        gallery.revoke("r0")
        assert gallery.load(FORMER).ids == ("r2",)


@pytest.mark.slow
def test_a_running_agent_follows_the_change_and_says_how_far_it_is(tmp_path: Path) -> None:
    """Two of six people are enrolled with the former pack, then one of them again."""
    image = read_picture("t1.jpg")
    clip = [Frame(image, number, number * 66, 0) for number in range(4)]
    new, former = people("t1.jpg")
    first, second = sorted(new)[:2]
    ring = open_keyring(FileKeySource(tmp_path / "keys"), may_create=True)
    with Gallery(tmp_path / "gallery.db", ring, FORMER) as gallery:
        for name in (first, second):
            gallery.enroll(name, gallery.protection.apply(former[name]), now_ms=NOW_MS)
    notifier, watchdog = from_environment()

    def run(**models: str) -> tuple[set[str], Agent]:
        seen: set[str] = set()
        agent = Agent(
            settings(tmp_path, **models),
            ring,
            displays=[],
            notifier=notifier,
            watchdog=watchdog,
            camera=RecordedCamera(clip),
            watch=lambda step: seen.update(d.person for d in step.decisions if d.person),
        )
        with agent:
            agent.run(threading.Event(), until_end=True)
        return seen, agent

    named, agent = run()
    assert named == {first, second}
    assert agent.health.snapshot().detail["gallery"][f"to_enrol_under_{PACK}"] == 2
    assert not [text for text in agent.health.snapshot().alarms if "pack" in text]
    with Gallery(tmp_path / "gallery.db", ring, PACK) as gallery:
        gallery.enroll(first, gallery.protection.apply(new[first]), now_ms=NOW_MS)
    named, agent = run()
    assert named == {first, second}
    assert agent.health.snapshot().detail["gallery"][f"to_enrol_under_{PACK}"] == 1
    named, agent = run(former="")
    assert named == {first}
    (alarm,) = (text for text in agent.health.snapshot().alarms if "models.former" in text)
    assert f"1 with {FORMER}" in alarm
    listed = (
        CliRunner()
        .invoke(
            gallery_command,
            ["list"],
            env={"KAOPASS_STATE__DIRECTORY": str(tmp_path), "KAOPASS_MODELS__PACK": PACK},
        )
        .output
    )
    assert f"to be enrolled again under {PACK}: 1 with {FORMER}" in listed
    assert f"1 of {FORMER}, 1 of {PACK}" in listed


def test_who_is_left_is_told_in_words() -> None:
    assert pack_change("b", "", {}) == ({}, "")
    assert pack_change("b", "a", {}) == ({"to_enrol_under_b": 0}, "")
    assert pack_change("b", "a", {"a": 7}) == ({"to_enrol_under_b": 7}, "")
    detail, alarm = pack_change("b", "a", {"a": 7, "c": 2})
    assert detail == {"to_enrol_under_b": 9}
    assert "2 with c" in alarm
    assert "7 with a" not in alarm


@pytest.mark.slow
def test_the_self_test_covers_the_former_pack() -> None:
    both_packs = networks()
    assert self_tested(both_packs).fault == ""
    assert both_packs.former is not None
    wrong = replace(both_packs.former, embedder=both_packs.embedder)
    fault = self_tested(replace(both_packs, former=wrong)).fault
    assert fault.startswith("models.former: the embedder's answers differ")


def test_a_former_pack_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'former = "faceplugin" is the pack itself'):
        settings(former=PACK)
    with pytest.raises(ModelError, match=r"models\.former: there is no model pack"):
        open_networks(settings(former="buffalo_x"))
    with pytest.raises(ModelError, match=r"models\.former: .*licence"):
        open_networks(settings(licence="none"))
