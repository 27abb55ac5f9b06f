"""The gallery at a running door: read beside it, taken between frames, a revoked person never."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.base.errors import GalleryError
from agent.base.values import Face, Image, Vector
from agent.device.health import HealthBoard
from agent.door.faces import Faces
from agent.gallery.city.admission import Admission
from agent.gallery.gallery import Gallery
from agent.protocol.galleries.records import key_of
from agent.recognition.decision import Rule
from agent.recognition.fusion import fused
from agent.recognition.matcher import Matcher
from agent.recognition.protection import ProtectedEmbedder
from tests.recognition.people import NOW_MS, PACK, RING, nickname, person_id, templates
from tests.waiting import LATE_SECONDS, until


class Plain:
    """An embedder that is never asked here."""

    pack = PACK

    def embed(self, image: Image, faces: list[Face]) -> Vector:
        raise AssertionError

    embed_reference = embed


class Searcher:
    """Takes what the recogniser would, and searches with it."""

    def __init__(self) -> None:
        self.matcher: Any = None
        self.taken = 0

    def use(self, matcher: Matcher, rule: Rule, former: object = None) -> None:
        del rule
        self.matcher = matcher
        self.taken += 1


class Door:
    """A gallery of three, and the threads around it as the agent runs them."""

    def __init__(self, path: Path) -> None:
        self.gallery = Gallery(path, RING, PACK, domain="bus")
        for number in (1, 2, 3):
            self.enroll(self.gallery, number)
        self.trouble = ""
        self.now_ms: int | None = NOW_MS
        self.health = HealthBoard()
        self.admission = Admission(lambda: self.now_ms, lambda: self.trouble)
        self.embedder = ProtectedEmbedder(Plain(), self.gallery.protection)  # type: ignore[arg-type]
        self.faces = Faces(
            self.gallery,
            self.embedder.use,
            self.admission,
            self.health,
            purpose="bus",
            sides_for=lambda own, _former: (Matcher(own), Rule(0.4, 0.05, 3, 12), None),
            change_of_packs=lambda _left: ({}, ""),
            own_key=RING.pseudonym_key,
            look_seconds=0.05,
        )
        self.searcher = Searcher()
        self.faces.read()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=lambda: self.faces.watch(self.stop))

    def enroll(self, gallery: Gallery, number: int, **more: Any) -> None:
        rows = gallery.protection.apply(templates(number))
        gallery.enroll(person_id(number), rows, nickname(number), now_ms=NOW_MS, **more)

    def frame(self) -> None:
        self.faces.between(self.searcher)  # type: ignore[arg-type]

    def found(self, number: int) -> str | None:
        """Whom a face of person *number* is taken for, as the pipeline asks."""
        probe = self.gallery.protection.apply(fused(templates(number)))
        best = self.searcher.matcher.search(probe.astype(np.float32))[0]
        person: str | None = best.person
        near = best.similarity > 0.9
        return person if person and near and self.faces.admits(person) else None


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    found = Door(tmp_path / "gallery.db")
    found.frame()
    found.thread.start()
    yield found
    found.stop.set()
    found.faces.changed()
    found.thread.join(LATE_SECONDS)
    found.gallery.close()


def test_a_change_by_another_process_is_taken_between_two_frames(
    door: Door, tmp_path: Path
) -> None:
    with Gallery(tmp_path / "gallery.db", RING, PACK, domain="bus") as other:
        door.enroll(other, 9)
    assert door.found(9) is None
    until(lambda: door.found(9) == person_id(9), meanwhile=door.frame)
    assert door.faces.nickname(person_id(9)) == nickname(9)
    # Nothing changed since: tracks at the door are left alone.
    taken = door.searcher.taken
    for _ in range(20):
        door.frame()
    assert door.searcher.taken == taken


def test_revoked_now_means_now_and_for_good(door: Door, tmp_path: Path) -> None:
    """Before a frame, before the disk; and later the rows are gone too."""
    assert door.found(2) == person_id(2)
    assert door.faces.revoke_now(key_of(person_id(2)))
    assert door.found(2) is None
    assert door.found(1) == person_id(1)

    def gone() -> bool:
        door.frame()
        assert door.found(2) is None
        return door.gallery.person(person_id(2)) is None and door.searcher.taken > 1

    until(gone)
    with Gallery(tmp_path / "gallery.db", RING, PACK, domain="bus") as other:
        door.enroll(other, 2)
    until(lambda: door.found(2) == person_id(2), what="enrolled anew", meanwhile=door.frame)


def test_nobody_here_is_said_so(door: Door) -> None:
    assert not door.faces.revoke_now(key_of("somebody else"))


def test_who_leaves_while_the_gallery_is_read_does_not_slip_back_in(door: Door) -> None:
    """Named before they are off the disk: a reading that still has them does not clear them."""
    key = key_of(person_id(3))
    door.admission.revoke([key])
    without = door.admission.reading()
    door.admission.written([key])
    door.admission.reread(without, {})
    assert not door.admission.admits(person_id(3))
    door.admission.reread(door.admission.reading(), {})
    assert door.admission.admits(person_id(3))


def test_with_faces_off_nothing_is_compared_and_on_again_it_is(door: Door) -> None:
    door.trouble = "no word from the city"
    door.frame()
    assert door.searcher.matcher.people == 0
    assert (door.faces.on, door.found(1)) == (False, None)
    door.trouble = ""
    assert door.faces.on
    door.frame()
    assert door.found(1) == person_id(1)


def test_a_consent_that_lapsed_counts_by_a_known_clock_alone(door: Door, tmp_path: Path) -> None:
    with Gallery(tmp_path / "gallery.db", RING, PACK, domain="bus") as other:
        door.enroll(other, 1, expires_ms=NOW_MS + 1_000)
    until(lambda: door.searcher.taken > 1, meanwhile=door.frame)
    assert door.found(1) == person_id(1)
    door.now_ms = NOW_MS + 1_000
    assert door.found(1) is None
    assert door.found(2) == person_id(2)
    door.now_ms = None
    assert door.found(1) == person_id(1)


def test_a_recogniser_that_comes_later_finds_everybody_too(door: Door) -> None:
    """The pipeline's thread died and started again: the gallery did not change meanwhile."""
    door.searcher = Searcher()
    door.frame()
    assert door.found(1) == person_id(1)
    door.trouble = "no word from the city"
    door.searcher = Searcher()
    door.frame()
    assert door.found(1) is None


def test_who_comes_while_the_gallery_is_read_is_gone_when_they_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Census and templates are of one moment: else their rows would outlive them."""
    path = tmp_path / "gallery.db"
    with Gallery(path, RING, PACK, domain="bus") as empty:
        empty.enroll(person_id(5), empty.protection.apply(templates(5)), now_ms=NOW_MS)
    before = Gallery.census

    def census(gallery: Gallery) -> Any:
        found = before(gallery)
        # Its old pages cannot be wiped while this one reads: not waited for.
        with Gallery(path, RING, PACK, domain="bus", busy_seconds=0.1) as other:
            other.enroll(person_id(7), other.protection.apply(templates(7)), now_ms=NOW_MS)
        return found

    monkeypatch.setattr(Gallery, "census", census)
    door = Door(path)
    monkeypatch.setattr(Gallery, "census", before)
    door.frame()
    door.thread.start()
    until(lambda: door.found(7) == person_id(7), meanwhile=door.frame)
    with Gallery(path, RING, PACK, domain="bus") as other:
        other.revoke(person_id(7))
    until(lambda: door.found(7) is None, meanwhile=door.frame)
    door.stop.set()
    door.faces.changed()
    door.thread.join(LATE_SECONDS)
    door.gallery.close()


def test_revoked_now_is_on_the_disk_when_it_is_answered(tmp_path: Path) -> None:
    """Whatever comes next, a power cut too; and even before the gallery has been read."""
    path = tmp_path / "gallery.db"
    door = Door(path)
    unread = Faces(
        *(door.gallery, lambda _: None, door.admission, door.health),
        purpose="bus",
        sides_for=lambda own, _former: (Matcher(own), Rule(0.4, 0.05, 3, 12), None),
        change_of_packs=lambda _left: ({}, ""),
        own_key=RING.pseudonym_key,
    )
    assert unread.revoke_now(key_of(person_id(2)))
    with Gallery(path, RING, PACK, domain="bus") as other:
        assert other.person(person_id(2)) is None
        assert other.person(person_id(1)) is not None
    assert not unread.revoke_now(key_of(person_id(2)))
    door.gallery.close()


def test_old_pages_that_somebody_reads_are_overwritten_as_soon_as_they_can_be(
    door: Door, tmp_path: Path
) -> None:
    door.gallery.store.db.execute("PRAGMA busy_timeout = 50")
    path = tmp_path / "gallery.db"
    sealer = door.gallery.store.sealer
    wrapped, _ = door.gallery.store.row_of(sealer.ref(person_id(2)))

    def traces() -> bool:
        files = [path, path.with_name("gallery.db-wal")]
        return any(wrapped in file.read_bytes() for file in files if file.exists())

    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM person").fetchone()
        with pytest.raises(GalleryError, match="still reads"):
            door.faces.revoke_now(key_of(person_id(2)))
        assert door.found(2) is None
        assert traces()
        until(lambda: any("still reads" in alarm for alarm in door.health.snapshot().alarms))
    until(lambda: not traces())
    until(lambda: not door.health.snapshot().alarms)
