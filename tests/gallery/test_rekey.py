"""Another template key, or another device key, for a whole gallery: nobody is lost, ever."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.base.errors import GalleryError
from agent.base.values import Vector
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing
from agent.recognition.matcher import Matcher
from tests.recognition.people import NOW_MS, PACK, RING, loaded, one, person_id, templates

PEOPLE = range(8)
# A new device key that carries on what must last of RING, with the maps given.
NEXT_KEY = bytes(range(2, 34))


def successor(*maps: tuple[str, int]) -> KeyRing:
    return KeyRing(NEXT_KEY, RING.lasting(maps))


def small(number: int) -> Vector:
    """Templates of 64 values: matrices of 512 take their time twenty times over."""
    return templates(number, values=64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery(path, RING, PACK, domain="bus") as opened:
        for number in PEOPLE:
            rows = opened.protection.apply(small(number))
            opened.enroll(person_id(number), rows, now_ms=NOW_MS)
        yield opened


def test_after_a_rekey_everybody_is_found_as_before(gallery: Gallery) -> None:
    probes = small(3)[:1]
    before = Matcher(gallery.load()).search(gallery.protection.apply(probes))[0]
    assert gallery.rekey() == 24
    after = Matcher(gallery.load()).search(gallery.protection.apply(probes))[0]
    assert gallery.protection.version == 2
    assert after.person == before.person == person_id(3)
    assert after.similarity == pytest.approx(before.similarity, abs=1e-6)
    assert after.runner_up == pytest.approx(before.runner_up, abs=1e-6)


def test_old_templates_and_probes_are_strangers_to_the_new(gallery: Gallery) -> None:
    old, before = gallery.protection, gallery.load().matrix.copy()
    gallery.rekey()
    assert np.abs(np.sum(before * gallery.load().matrix, axis=1)).max() < 0.5
    found = Matcher(gallery.load()).search(old.apply(small(3)))
    assert max(candidate.similarity for candidate in found) < 0.6


def test_twenty_rekeys_lose_no_precision(gallery: Gallery) -> None:
    for _ in range(20):
        gallery.rekey()
    rows = gallery.protection.apply(small(3))
    np.testing.assert_allclose(loaded(gallery)[person_id(3)], one(rows), atol=1e-6)


def test_progress_is_told_to_its_end(gallery: Gallery) -> None:
    told: list[tuple[int, int]] = []
    gallery.rekey(progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (24, 24)


def test_nothing_under_the_old_key_stays_in_any_file(gallery: Gallery, path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        sealed = [row[0] for row in raw.execute("SELECT sealed FROM template")]
    gallery.rekey()
    content = b"".join(found.read_bytes() for found in path.parent.iterdir())
    assert not [row for row in sealed if row[:40] in content]


def test_an_interrupted_rekey_leaves_everything_under_the_old_key(gallery: Gallery) -> None:
    before = loaded(gallery)

    def fail(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.rekey(progress=fail)
    assert gallery.protection.version == 1
    np.testing.assert_array_equal(loaded(gallery)[person_id(5)], before[person_id(5)])


KILLED = """
import os, signal, sys
from pathlib import Path
from agent.gallery.gallery import Gallery
from tests.recognition.people import PACK, RING
with Gallery(Path(sys.argv[1]), RING, PACK) as gallery:
    gallery.rekey(progress=lambda done, of: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_rekey_that_is_killed_leaves_everything_under_the_old_key(
    gallery: Gallery, path: Path
) -> None:
    before = loaded(gallery)
    gallery.close()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with Gallery(path, RING, PACK) as again:
        assert again.verify().sound
        assert again.protection.version == 1
        np.testing.assert_array_equal(loaded(again)[person_id(5)], before[person_id(5)])


def test_a_running_agent_sees_the_new_key_with_the_new_version(
    gallery: Gallery, path: Path
) -> None:
    with Gallery(path, RING, PACK, domain="bus") as agent:
        seen = agent.version
        gallery.rekey()
        assert agent.version != seen
        assert agent.protection.version == 2
        rows = agent.protection.apply(small(2))
        np.testing.assert_allclose(loaded(agent)[person_id(2)], one(rows), atol=1e-6)


def test_what_was_mapped_before_a_rekey_is_not_enrolled_after_it(
    gallery: Gallery, path: Path
) -> None:
    with Gallery(path, RING, PACK) as other:
        rows = other.protection.apply(small(9))
        gallery.rekey()
        with pytest.raises(GalleryError, match=r"another template key meanwhile.*enrol again"):
            other.enroll(person_id(9), rows, now_ms=NOW_MS)


def test_a_gallery_of_another_domain_is_refused_until_it_is_rekeyed(
    gallery: Gallery, path: Path
) -> None:
    with pytest.raises(GalleryError, match=r"template key of 'bus'.*is a 'hall'.*gallery rekey"):
        Gallery(path, RING, PACK, domain="hall")
    with Gallery(path, RING, PACK) as any_domain:
        any_domain.rekey("hall")
    with Gallery(path, RING, PACK, domain="hall") as hall:
        assert hall.protection.name == "hall 2"
        assert len(loaded(hall)) == len(PEOPLE)


def test_a_gallery_under_another_template_key_says_so(gallery: Gallery, path: Path) -> None:
    """The device key is the right one, but what it carried on is lost."""
    gallery.rewrap(successor(("bus", 1)))
    with pytest.raises(GalleryError, match=r"another template key \(bus 1\).*keys\.carried"):
        Gallery(path, KeyRing(NEXT_KEY), PACK)


@pytest.mark.parametrize("damage", ["DELETE FROM", "UPDATE meta SET value = x'00' --"])
def test_a_lost_record_of_the_key_is_found_again_from_the_templates(
    gallery: Gallery, path: Path, damage: str
) -> None:
    gallery.rekey("hall")
    before = loaded(gallery)
    gallery.close()
    with closing(sqlite3.connect(path)) as raw:
        if damage.startswith("DELETE"):
            raw.execute("DELETE FROM meta WHERE key = 'template_map'")
        else:
            raw.execute("UPDATE meta SET value = x'00' WHERE key = 'template_map'")
        raw.commit()
    with Gallery(path, RING, PACK, domain="hall") as again:
        assert again.protection.name == "hall 2"
        np.testing.assert_array_equal(loaded(again)[person_id(1)], before[person_id(1)])


def test_a_new_device_key_opens_everybody_and_the_old_one_nobody(
    gallery: Gallery, path: Path
) -> None:
    before = loaded(gallery)
    assert gallery.rewrap(successor(("bus", 1))) == len(PEOPLE)
    np.testing.assert_array_equal(loaded(gallery)[person_id(5)], before[person_id(5)])
    gallery.close()
    with pytest.raises(GalleryError, match="written under another key"):
        Gallery(path, RING, PACK)
    with Gallery(path, successor(("bus", 1)), PACK) as again:
        assert again.verify().sound
        assert again.revoke(person_id(5))
        again.enroll(person_id(11), small(11), now_ms=NOW_MS)
        assert len(loaded(again)) == len(PEOPLE)


def test_a_new_key_that_would_lose_the_templates_is_refused(gallery: Gallery) -> None:
    for wrong in (KeyRing(NEXT_KEY), successor(("hall", 1))):
        with pytest.raises(GalleryError, match="do not carry on what must last"):
            gallery.rewrap(wrong)
    assert gallery.verify().sound


def test_a_copy_from_before_does_not_open_under_the_new_key(gallery: Gallery, path: Path) -> None:
    copy = path.with_name("copy") / "gallery.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(copy)) as target:
        raw.backup(target)
    gallery.rewrap(successor(("bus", 1)))
    with pytest.raises(GalleryError, match="written under another key"):
        Gallery(copy, successor(("bus", 1)), PACK)
