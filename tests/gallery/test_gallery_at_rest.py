"""What lies on the disk tells nothing without the key, and nothing at all of who was revoked."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.base.errors import GalleryError
from agent.base.values import Vector
from agent.gallery.gallery import Gallery
from tests.recognition.people import (
    NOW_MS,
    OTHER_RING,
    PACK,
    RING,
    enroll,
    loaded,
    nickname,
    one,
    person_id,
    templates,
)

PEOPLE = range(12)


def text_traces(text: str) -> list[bytes]:
    """How a text may lie in a file: several encodings, escaped, in hexadecimal, in base64."""
    raw = text.encode()
    escaped = json.dumps(text)[1:-1].encode()
    return [raw, escaped, text.encode("utf-16-le"), *armoured(raw)]


def template_traces(row: Vector) -> list[bytes]:
    """How an embedding may lie in a file: as numbers of several kinds, or as decimals."""
    some = row[100:112]
    numbers = [some.astype(kind).tobytes() for kind in ("<f4", ">f4", "<f2", ">f2", "<f8", ">f8")]
    decimals = [f"{value:.6f}".encode() for value in some[:4]]
    return [*numbers, *decimals, *(trace for raw in numbers for trace in armoured(raw))]


def armoured(raw: bytes) -> list[bytes]:
    """Hexadecimal, and what of base64 is the same at each of the three places it may start."""
    found = [raw.hex().encode(), raw.hex().upper().encode()]
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + raw)
        found.append(whole[4:-4])
        found.append(base64.urlsafe_b64encode(bytes(shift) + raw)[4:-4])
    return found


def traces_of(number: int) -> list[bytes]:
    """Every trace of a person; none is so short that chance would bring it about."""
    found = [*text_traces(person_id(number)), *text_traces(nickname(number))]
    for row in templates(number):
        found += template_traces(row)
    assert min(map(len, found)) >= 8
    return found


def on_disk(path: Path) -> bytes:
    """Database, log and shared memory, one after the other."""
    return b"".join(found.read_bytes() for found in sorted(path.parent.iterdir()))


def rows_of(path: Path, sql: str) -> list[bytes]:
    with closing(sqlite3.connect(path)) as raw:
        return [row[0] for row in raw.execute(sql)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def test_nothing_on_disk_tells_who_is_enrolled_or_what_they_look_like(path: Path) -> None:
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, *PEOPLE)
        names = {found.name for found in path.parent.iterdir()}
        assert names == {"gallery.db", "gallery.db-wal", "gallery.db-shm"}
        content = on_disk(path)
        assert len(content) > len(PEOPLE) * 3 * 2048
        found = [t for number in PEOPLE for t in traces_of(number) if t in content]
        assert found == []
        # With the key it opens: what was searched for is there.
        for number in PEOPLE:
            rows = loaded(gallery)[person_id(number)]
            np.testing.assert_array_equal(rows, one(templates(number)))
        assert {person.nickname for person in gallery.people()} == set(map(nickname, PEOPLE))


@pytest.mark.parametrize(
    "leak",
    [
        person_id(3).encode(),
        json.dumps({"id": person_id(3)}).encode(),
        json.dumps({"nickname": nickname(3)}).encode(),
        templates(3)[1].tobytes(),
        templates(3)[1].astype("<f2").tobytes(),
        b"x" + base64.b64encode(b"y" + templates(3)[2].tobytes()),
        templates(3)[0].tobytes().hex().encode(),
        json.dumps([round(float(value), 6) for value in templates(3)[0]]).encode(),
    ],
    ids=["id", "json id", "json nickname", "float32", "float16", "base64", "hex", "decimals"],
)
def test_the_search_would_find_a_leak(path: Path, leak: bytes) -> None:
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, 3)
    (path.parent / "leak").write_bytes(b"..." + leak + b"...")
    assert [trace for trace in traces_of(3) if trace in on_disk(path)]


def test_a_revoked_person_leaves_neither_key_nor_row_in_any_file(path: Path) -> None:
    """Even sealed: the wrapped key and all rows are overwritten, not just marked free."""
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, *PEOPLE)
        before = on_disk(path)
        sealed = rows_of(path, "SELECT sealed FROM template ORDER BY id")[9:12]
        keys = rows_of(path, "SELECT wrapped_key FROM person ORDER BY rowid")
        refs = rows_of(path, "SELECT ref FROM person ORDER BY rowid")
        # A running agent has the gallery open, too.
        with Gallery(path, RING, PACK) as agent:
            agent.load()
            gallery.revoke(person_id(3))
            after = on_disk(path)
    for trace in (*sealed, keys[3], refs[3]):
        assert trace[:40] in before
        assert trace[:40] not in after
        assert trace[-40:] not in after
    assert keys[4] in after
    assert not [trace for trace in traces_of(3) if trace in after]


def test_a_revocation_cut_short_is_finished_at_the_next_opening(path: Path, tmp_path: Path) -> None:
    """The rows are deleted, but the power went before their old pages were overwritten."""
    cut = tmp_path / "cut" / "gallery.db"
    cut.parent.mkdir()
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, *PEOPLE)
        with closing(sqlite3.connect(path)) as raw:
            key = raw.execute("SELECT wrapped_key FROM person ORDER BY rowid").fetchone()[0]
            raw.execute("PRAGMA secure_delete = ON")
            raw.execute("DELETE FROM person WHERE wrapped_key = ?", [key])
            raw.commit()
        for name in ("gallery.db", "gallery.db-wal"):
            (cut.parent / name).write_bytes((path.parent / name).read_bytes())
    assert key in on_disk(cut)
    with Gallery(cut, RING, PACK):
        assert key not in on_disk(cut)


def test_an_old_page_in_use_elsewhere_is_reported_not_passed_over(path: Path) -> None:
    """The person is out at once; that their pages still lie there is an error until they do not."""
    with Gallery(path, RING, PACK, busy_seconds=0.1) as gallery:
        enroll(gallery, *PEOPLE)
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM person").fetchone()
            with pytest.raises(GalleryError, match=r"could not be overwritten.*gallery verify"):
                gallery.revoke(person_id(3))
        assert person_id(3) not in loaded(gallery)
        assert gallery.verify().sound


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "gallery.db"
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, 1)
        assert {found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == {0o600}
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_another_key_opens_nothing_and_harms_nothing(path: Path) -> None:
    with Gallery(path, RING, PACK) as gallery:
        enroll(gallery, 1)
    with pytest.raises(GalleryError, match=rf"{path} was written under another key.*restore"):
        Gallery(path, OTHER_RING, PACK)
    with Gallery(path, RING, PACK) as gallery:
        assert set(loaded(gallery)) == {person_id(1)}


def test_the_same_person_has_unrelated_rows_on_two_devices(tmp_path: Path) -> None:
    seen = []
    for name, ring in (("one.db", RING), ("two.db", OTHER_RING)):
        with Gallery(tmp_path / name, ring, PACK) as gallery:
            gallery.enroll("a", templates(1), now_ms=NOW_MS)
        seen.append(rows_of(tmp_path / name, "SELECT ref FROM person")[0])
    assert seen[0] != seen[1]


def test_how_long_a_name_is_does_not_show(path: Path) -> None:
    with Gallery(path, RING, PACK) as gallery:
        gallery.enroll("a", templates(1), "x", now_ms=NOW_MS)
        gallery.enroll("abcdefgh", templates(2), "a longer name", now_ms=NOW_MS)
    assert len({len(row) for row in rows_of(path, "SELECT profile FROM person")}) == 1
