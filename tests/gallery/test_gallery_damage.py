"""A damaged gallery serves whoever is sound, says what is not, and is never thrown away."""
# ruff: noqa: S608 - the names in these statements are the tests' own

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest

from agent.base.errors import GalleryError
from agent.gallery.file.opening import PAGE_BYTES
from agent.gallery.gallery import Gallery
from tests.recognition.people import (
    NOW_MS,
    OTHER_RING,
    PACK,
    RING,
    enroll,
    loaded,
    one,
    person_id,
    templates,
)

PEOPLE = range(60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def enrolled(path: Path, *numbers: int) -> None:
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, *numbers)


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        for statement in statements:
            raw.execute(statement)
        raw.commit()


def flipped(path: Path, table: str, column: str, where: str, at: int) -> None:
    """Flip one bit of a stored value."""
    with closing(sqlite3.connect(path)) as raw:
        found = raw.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        value = bytearray(found[0])
        value[at] ^= 1
        raw.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [bytes(value)])
        raw.commit()


def swapped(path: Path, table: str, column: str, rows: tuple[int, int]) -> None:
    """Exchange a value between two rows."""
    with closing(sqlite3.connect(path)) as raw:
        query = f"SELECT {column} FROM {table} WHERE rowid IN (?, ?) ORDER BY rowid"
        first, second = (row[0] for row in raw.execute(query, rows))
        change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
        raw.executemany(change, [(second, rows[0]), (first, rows[1])])
        raw.commit()


@pytest.mark.parametrize("at", [0, 11, 12, 1000, -17, -1])
def test_a_flipped_bit_costs_one_template(
    path: Path, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    enrolled(path, 1, 2, 3)
    flipped(path, "template", "sealed", "id = 5", at)
    with Gallery(path, RING, PACK) as gallery:
        found = gallery.load()
        assert found.damaged == 1
        np.testing.assert_array_equal(loaded(gallery)[person_id(2)], one(templates(2)[[0, 2]]))
        np.testing.assert_array_equal(loaded(gallery)[person_id(3)], one(templates(3)))
        report = gallery.verify()
    assert (report.damaged_people, report.damaged_templates, report.sound) == (0, 1, False)
    assert "1 people have rows that do not open; enrol them again" in caplog.text
    assert person_id(2) not in caplog.text


@pytest.mark.parametrize("column", ["wrapped_key", "profile"])
def test_a_person_whose_key_or_profile_is_damaged_is_left_out_until_enrolled_again(
    path: Path, column: str
) -> None:
    enrolled(path, 1, 2)
    flipped(path, "person", column, "rowid = 1", 20)
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.load().damaged == 1
        assert set(loaded(gallery)) == {person_id(2)}
        assert [person.id for person in gallery.people()] == [person_id(2)]
        assert gallery.verify().damaged_people == 1
        enroll(gallery, 1)
        assert gallery.verify().sound
        assert gallery.load().damaged == 0
        np.testing.assert_array_equal(loaded(gallery)[person_id(1)], one(templates(1)))


def test_a_damaged_person_can_still_be_revoked(path: Path) -> None:
    enrolled(path, 1, 2)
    flipped(path, "person", "wrapped_key", "rowid = 1", 20)
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.revoke(person_id(1))
        assert gallery.verify().sound


@pytest.mark.parametrize("column", ["sealed", "ref"])
def test_rows_swapped_between_two_people_open_for_neither(path: Path, column: str) -> None:
    enrolled(path, 1, 2)
    swapped(path, "template", column, (1, 4))
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.load().damaged == 2
        np.testing.assert_array_equal(loaded(gallery)[person_id(1)], one(templates(1)[1:]))
        np.testing.assert_array_equal(loaded(gallery)[person_id(2)], one(templates(2)[1:]))
        assert gallery.verify().damaged_templates == 2


@pytest.mark.parametrize("column", ["wrapped_key", "profile"])
def test_people_cannot_be_given_each_others_key_or_profile(path: Path, column: str) -> None:
    enrolled(path, 1, 2, 3)
    swapped(path, "person", column, (1, 2))
    with Gallery(path, RING, PACK) as gallery:
        assert set(loaded(gallery)) == {person_id(3)}
        assert gallery.load().damaged == 2


def test_a_template_cannot_be_passed_off_as_one_of_another_pack(path: Path) -> None:
    enrolled(path, 1)
    alter(path, "UPDATE template SET pack = 'other'")
    with Gallery(path, RING, "other") as gallery:
        assert len(gallery.load().ids) == 0
        assert gallery.load().damaged == 1


@pytest.mark.parametrize("value", ["NULL", "7", "'text'", "x''", "zeroblob(5)"])
def test_a_value_of_the_wrong_kind_is_damage_not_a_crash(path: Path, value: str) -> None:
    enrolled(path, 1, 2)
    # NOT NULL is lifted the way a broken record header would.
    alter(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')",
    )
    alter(
        path,
        f"UPDATE template SET sealed = {value} WHERE id = 1",
        f"UPDATE template SET pack = {value} WHERE id = 2",
        f"UPDATE person SET profile = {value} WHERE rowid = 2",
    )
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.load().damaged == 2
        assert set(loaded(gallery)) == {person_id(1)}
        report = gallery.verify()
        enroll(gallery, 1, 2)
        assert gallery.verify().sound
    assert (report.damaged_people, report.damaged_templates) == (1, 2)


def test_templates_whose_owner_is_lost_are_reported(path: Path) -> None:
    enrolled(path, 1, 2)
    alter(path, "DELETE FROM person WHERE rowid = 1")
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.load().damaged == 1
        assert gallery.verify().damaged_templates == 3


def test_a_damaged_key_check_is_made_good_by_anyone_who_opens(path: Path) -> None:
    enrolled(path, 1)
    flipped(path, "meta", "value", "key = 'key_check'", 13)
    with Gallery(path, RING, PACK) as gallery:
        assert set(loaded(gallery)) == {person_id(1)}
    with pytest.raises(GalleryError, match="another key"):
        Gallery(path, OTHER_RING, PACK)


@pytest.mark.slow
def test_whichever_page_is_destroyed_the_rest_is_salvaged(path: Path, tmp_path: Path) -> None:
    """Every page in turn is filled with noise; nobody is ever given what is not theirs."""
    enrolled(path, *PEOPLE)
    whole = path.read_bytes()
    pages = len(whole) // PAGE_BYTES
    assert pages > 25
    kept = []
    for page in range(pages):
        state = tmp_path / f"page-{page}"
        state.mkdir()
        noise = np.random.default_rng(page).bytes(PAGE_BYTES)
        damaged = whole[: page * PAGE_BYTES] + noise + whole[(page + 1) * PAGE_BYTES :]
        (state / "gallery.db").write_bytes(damaged)
        with Gallery(state / "gallery.db", RING, PACK) as gallery:
            assert gallery.salvaged is not None
            aside = gallery.salvaged.aside
            assert aside.name == "gallery.db.damaged-1"
            assert noise in aside.read_bytes()
            found = loaded(gallery)
            for name, rows in found.items():
                own = templates(int(name[-5:]))
                some = chain.from_iterable(combinations(range(3), n) for n in (1, 2, 3))
                # Fused from whichever of their own rows are left, and in whatever order.
                assert any(np.allclose(rows, one(own[list(rest)]), atol=1e-6) for rest in some)
            checked = gallery.verify()
            kept.append((len(found), checked.templates - checked.damaged_templates))
            # It can be worked with again.
            enroll(gallery, 999)
            assert person_id(999) in loaded(gallery)
        with Gallery(state / "gallery.db", RING, PACK) as gallery:
            assert gallery.salvaged is None
    # Only the few pages that hold the tree, the people or the names of tables cost many.
    costly = [people for people, rows in kept if people < len(PEOPLE) - 3]
    assert len(costly) <= 5
    assert sum(rows >= len(PEOPLE) * 3 - 7 for _, rows in kept) >= pages - 5


def test_a_cut_off_file_is_salvaged_as_far_as_it_goes(path: Path) -> None:
    enrolled(path, *PEOPLE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 100])
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.salvaged is not None
        found = loaded(gallery)
        assert 10 < len(found) < len(PEOPLE)
        assert gallery.salvaged.templates >= sum(map(len, found.values()))


def test_a_file_that_is_no_database_is_set_aside_and_kept(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for round_ in (1, 2):
        path.write_bytes(b"this is not a database, but somebody may want it" * 100)
        with caplog.at_level(logging.ERROR), Gallery(path, RING, PACK) as gallery:
            assert gallery.salvaged is not None
            assert gallery.salvaged.aside == path.with_name(f"gallery.db.damaged-{round_}")
            assert gallery.salvaged.people == 0
            assert gallery.people() == []
        assert gallery.salvaged.aside.read_bytes().startswith(b"this is not a database")
    assert "set aside as gallery.db.damaged-2, 0 people" in caplog.text


def test_a_salvage_cut_short_is_finished_at_the_next_opening(path: Path) -> None:
    """The broken file is set aside, its log not yet, and the fresh one is not in place."""
    enrolled(path, 1, 2)
    path.rename(path.with_name("gallery.db.salvage"))
    path.with_name("gallery.db.damaged-1").write_bytes(b"broken")
    path.with_name("gallery.db-wal").write_bytes(b"its log")
    with Gallery(path, RING, PACK) as gallery:
        assert set(loaded(gallery)) == {person_id(1), person_id(2)}
    assert path.with_name("gallery.db.damaged-1-wal").read_bytes() == b"its log"
    assert not path.with_name("gallery.db.salvage").exists()


def test_an_agent_notices_that_the_file_was_salvaged_under_it(path: Path) -> None:
    enrolled(path, 1, 2, 3)
    sound = path.read_bytes()
    with Gallery(path, RING, PACK) as agent:
        before = agent.version
        # What salvage does: another file under the same name.
        fresh = path.with_name("fresh")
        fresh.write_bytes(sound)
        alter(fresh, "PRAGMA journal_mode = DELETE", "UPDATE meta SET value = x'07'")
        path.rename(path.with_name("gallery.db.damaged-1"))
        for name in ("gallery.db-wal", "gallery.db-shm"):
            path.with_name(name).unlink()
        fresh.rename(path)
        assert agent.version != before
        agent.enroll(person_id(4), templates(4), now_ms=NOW_MS)
    with Gallery(path, RING, PACK) as gallery:
        assert len(loaded(gallery)) == 4


def test_a_gallery_of_a_newer_version_is_left_alone(path: Path) -> None:
    enrolled(path, 1)
    alter(path, "UPDATE _sqlite_migrations SET name = '9_later' WHERE name = '2_city'")
    before = path.read_bytes()
    with pytest.raises(GalleryError, match=r"newer kaopass \(it has 9_later\)"):
        Gallery(path, RING, PACK)
    assert path.read_bytes() == before


def test_a_place_that_is_no_file_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(GalleryError, match=rf"gallery {path}: .*directory"):
        Gallery(path, RING, PACK)


def test_a_closed_gallery_says_so(path: Path) -> None:
    gallery = Gallery(path, RING, PACK)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="closed"):
        gallery.load()
