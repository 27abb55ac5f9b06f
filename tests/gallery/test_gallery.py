"""The gallery keeps whole people: enrolled, replaced, revoked, followed by another process."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.base.errors import GalleryError, UsageError
from agent.gallery.gallery import Gallery
from tests.recognition.people import (
    NOW_MS,
    PACK,
    RING,
    enroll,
    loaded,
    nickname,
    one,
    person_id,
    templates,
)
from tests.waiting import LATE_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gallery.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery(path, RING, PACK) as opened:
        yield opened


def process(mode: str, path: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.gallery.gallery_process", mode, str(path), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_was_enrolled_is_there_after_opening_again(path: Path) -> None:
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, 1, 2, 3)
    with Gallery(path, RING, PACK) as gallery:
        found = loaded(gallery)
        people = gallery.people()
        assert gallery.salvaged is None
    assert set(found) == {person_id(number) for number in (1, 2, 3)}
    for number in (1, 2, 3):
        np.testing.assert_array_equal(found[person_id(number)], one(templates(number)))
    assert [(p.id, p.nickname, p.created_ms, p.templates) for p in people] == [
        (person_id(number), nickname(number), NOW_MS, {PACK: 3}) for number in (1, 2, 3)
    ]


def test_nicknames_are_those_of_everybody_who_chose_one(gallery: Gallery) -> None:
    enroll(gallery, 1, 2)
    gallery.enroll("quiet", templates(3), now_ms=NOW_MS)
    assert gallery.census()[1].nicknames == {person_id(n): nickname(n) for n in (1, 2)}


def test_an_empty_gallery_loads_as_nobody(gallery: Gallery) -> None:
    found = gallery.load()
    assert (found.ids, len(found.matrix), found.damaged) == ((), 0, 0)
    assert gallery.people() == []
    assert gallery.verify().sound


def test_enrolling_again_replaces_profile_and_templates_but_not_the_first_day(
    gallery: Gallery,
) -> None:
    enroll(gallery, 1, 2)
    gallery.enroll(person_id(1), templates(9, rows=2), "うめ", ("hall",), now_ms=NOW_MS + 5)
    np.testing.assert_array_equal(loaded(gallery)[person_id(1)], one(templates(9, rows=2)))
    person = gallery.people()[0]
    assert (person.nickname, person.purposes, person.created_ms) == ("うめ", ("hall",), NOW_MS)
    assert person.templates == {PACK: 2}
    assert len(gallery.people()) == 2


def test_a_revoked_person_is_gone_and_the_others_stay(gallery: Gallery) -> None:
    enroll(gallery, 1, 2)
    assert gallery.revoke(person_id(1))
    assert set(loaded(gallery)) == {person_id(2)}
    assert [person.id for person in gallery.people()] == [person_id(2)]
    assert not gallery.revoke(person_id(1))


def test_an_id_is_the_same_however_its_letters_are_composed(gallery: Gallery) -> None:
    gallery.enroll("がく", templates(1), now_ms=NOW_MS)
    assert gallery.revoke("か\u3099く")


def test_templates_of_two_packs_are_kept_apart(path: Path, gallery: Gallery) -> None:
    enroll(gallery, 1)
    with Gallery(path, RING, "other") as other:
        other.enroll(person_id(1), templates(7, rows=1, values=128), now_ms=NOW_MS)
        assert other.load().matrix.shape == (1, 128)
        assert not other.load(PACK).ids  # whoever enrolled anew is not decided by the former
        assert gallery.load().matrix.shape == (1, 512)
        assert other.people()[0].templates == {PACK: 3, "other": 1}


def test_only_those_enrolled_for_the_purpose_are_loaded(gallery: Gallery) -> None:
    gallery.enroll("rider", templates(1), purposes=("bus",), now_ms=NOW_MS)
    gallery.enroll("visitor", templates(2), purposes=("hall",), now_ms=NOW_MS)
    gallery.enroll("both", templates(3), now_ms=NOW_MS)
    assert set(gallery.load(purpose="bus").ids) == {"rider", "both"}
    assert set(gallery.load(purpose="hall").ids) == {"visitor", "both"}
    assert gallery.load(purpose="bus").damaged == 0


def test_the_loaded_templates_are_laid_out_for_search(gallery: Gallery) -> None:
    """Enrolled in turns, so that on disk nobody's rows are together; one template a person."""
    enroll(gallery, 5, 3, 5, 4, 3)
    found = gallery.load()
    assert found.owners.tolist() == [0, 1, 2]
    assert found.matrix.dtype == np.float32
    assert found.matrix.flags.c_contiguous


@pytest.mark.parametrize("bad", ["", "a" * 129, "line\nbreak", "\ud800"])
def test_an_id_that_cannot_be_kept_is_refused(gallery: Gallery, bad: str) -> None:
    with pytest.raises(UsageError, match="must be 1 to 128 characters"):
        gallery.enroll(bad, templates(1), now_ms=NOW_MS)
    assert gallery.people() == []


def test_nicknames_and_purposes_that_cannot_be_kept_are_refused(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="nickname"):
        gallery.enroll("a", templates(1), "n" * 65, now_ms=NOW_MS)
    with pytest.raises(UsageError, match="choose from bus, hall"):
        gallery.enroll("a", templates(1), purposes=("library",), now_ms=NOW_MS)
    with pytest.raises(UsageError, match="purposes"):
        gallery.enroll("a", templates(1), purposes=(), now_ms=NOW_MS)


def test_templates_that_no_model_should_give_are_refused_and_nothing_changes(
    gallery: Gallery,
) -> None:
    enroll(gallery, 1)
    wrong: list[NDArray[Any]] = [
        templates(2)[0],
        templates(2)[:0],
        templates(2).astype(np.float64),
        templates(2) * 2,
        templates(2) * np.float32(np.nan),
        templates(2, values=128),
    ]
    for bad in wrong:
        with pytest.raises(GalleryError, match="templates "):
            gallery.enroll(person_id(1), bad, now_ms=NOW_MS)
    np.testing.assert_array_equal(loaded(gallery)[person_id(1)], one(templates(1)))


def test_the_version_changes_with_every_write_and_with_nothing_else(
    path: Path, gallery: Gallery
) -> None:
    seen = [gallery.version]
    with Gallery(path, RING, PACK) as other:
        enroll(other, 1)
        seen.append(gallery.version)
        enroll(other, 1)
        seen.append(gallery.version)
        other.revoke(person_id(1))
        seen.append(gallery.version)
        gallery.load(), gallery.people(), gallery.verify()
        assert gallery.version == other.version == seen[-1]
    assert len(set(seen)) == 4


@pytest.mark.slow
def test_a_running_agent_follows_what_a_command_changes(path: Path, gallery: Gallery) -> None:
    enroll(gallery, 1, 2)
    with process("follow", path) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "2\n"
        enroll(gallery, 3)
        assert follower.stdout.readline() == "3\n"
        for number in (1, 2, 3):
            gallery.revoke(person_id(number))
        # Two changes close to each other may be seen as one.
        assert follower.stdout.read().splitlines()[-1] == "0"
        assert follower.wait(LATE_SECONDS) == 0


def test_threads_share_a_gallery(gallery: Gallery) -> None:
    """Each thread enrols its own people while the others read."""
    failures: list[Exception] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 5):
                enroll(gallery, number)
                gallery.load()
        except GalleryError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(loaded(gallery)) == 15


@pytest.mark.slow
def test_two_processes_may_begin_a_gallery_together(path: Path) -> None:
    workers = [process("enroll", path, str(first)) for first in (0, 1000)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline().startswith("enrolled")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    with Gallery(path, RING, PACK) as gallery:
        assert {person_id(0), person_id(1000)} <= set(loaded(gallery))
        assert gallery.verify().sound


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_everybody_whole_or_absent(path: Path) -> None:
    chance = random.Random(11)
    present: set[int] = set()
    for run in range(8):
        first = run * 1000
        with process("enroll", path, str(first)) as worker:
            assert worker.stdout is not None
            said = [worker.stdout.readline() for _ in range(chance.randint(1, 9))]
            timer = threading.Timer(chance.random() * 0.01, worker.kill)
            timer.start()
            said += worker.stdout.readlines()
        # A line that the kill cut off was not told.
        for word, number in (line.split() for line in said if line.endswith("\n")):
            (present.add if word == "enrolled" else present.discard)(int(number))
        with Gallery(path, RING, PACK) as gallery:
            found = loaded(gallery)
            assert gallery.verify().sound
        assert {person_id(number) for number in present} - set(found) <= {
            # The one whose revocation was done and not yet told.
            person_id(max(present))
        }
        # Whoever is there beyond what was told is the one being enrolled at that moment.
        assert len(set(found) - {person_id(number) for number in present}) <= 1
        for name, rows in found.items():
            np.testing.assert_array_equal(rows, one(templates(int(name[-5:]))))
        present = {int(name[-5:]) for name in found}


def test_a_full_disk_is_said_and_loses_nobody(path: Path) -> None:
    with process("crowded", path) as worker:
        said = worker.communicate(timeout=LATE_SECONDS)[0].splitlines()
    assert said[-1].startswith(f"error gallery {path}: ")
    told = {int(line.split()[1]) for line in said[:-1] if line.startswith("enrolled")}
    gone = {int(line.split()[1]) for line in said[:-1] if line.startswith("revoked")}
    assert len(told - gone) > 3
    with Gallery(path, RING, PACK) as gallery:
        kept = loaded(gallery)
        assert gallery.verify().sound
        missing = {person_id(number) for number in told - gone} - set(kept)
        # The last one may be out already, and the error be about their old pages.
        assert missing <= {person_id(max(told))}
        assert set(kept) <= {person_id(number) for number in told - gone}
