"""Whatever the agent writes: no picture, no embedding, no id, no nickname, no place."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from agent.base.events import Moment, Passage, PassageEvent, Place, place_of
from agent.base.values import Vector
from agent.gallery.gallery import Gallery
from agent.journal import Journal
from tests.line.door import Door, at_city, city, in_journal, networks, people_of
from tests.mosquitto import Mosquitto
from tests.waiting import until

NICKNAME = "のっぽのあかしあ"
PICTURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n",
    "WebP": b"WEBPVP8",
    "GIF": b"GIF8",
    "AVIF": b"ftypavif",
}
RUN = 6  # numbers of an embedding in a row that no chance brings together
SMALL_RUN = 24  # of those that are one byte each
STOP = "紫山三丁目"


def armoured(raw: bytes) -> list[bytes]:
    """Bytes as text: hexadecimal, and base64 from each of the three places it may begin at."""
    whole = [base64.b64encode(bytes(n) + raw) for n in range(3)]
    return [raw.hex().encode(), raw.hex().upper().encode(), *(text[4:-4] for text in whole)]


def encodings(row: Vector) -> dict[str, list[bytes]]:
    """A piece of an embedding in every form it could have been written in."""
    piece = row[100 : 100 + RUN]
    double = [float(x) for x in piece[:2]]
    steps = row[100 : 100 + SMALL_RUN]
    binary = {
        "float32": piece.astype("<f4").tobytes(),
        "float32, big-endian": piece.astype(">f4").tobytes(),
        "float64": piece.astype("<f8").tobytes(),
        "float64, big-endian": piece.astype(">f8").tobytes(),
        "float16": piece.astype("<f2").tobytes(),
        "float16, big-endian": piece.astype(">f2").tobytes(),
        "int8 of the range": np.round(steps * 127).astype(np.int8).tobytes(),
        "int8 of the row": np.round(steps / np.abs(row).max() * 127).astype(np.int8).tobytes(),
    }
    found = {form: [raw] for form, raw in binary.items()}
    found |= {f"{form} as text": armoured(raw) for form, raw in binary.items()}
    found["decimals"] = [
        separator.join(text(x) for x in double).encode()
        for separator in (",", ", ", " ", "\n")
        for text in (repr, "{:.4f}".format, "{:.6f}".format, "{:.8f}".format, "{:.8e}".format)
    ]
    return found


def spellings(word: str) -> list[bytes]:
    """A word in every encoding that is met with here."""
    plain = word.encode()
    coded = [word.encode(c) for c in ("utf-16-le", "utf-16-be", "shift_jis", "euc-jp")]
    escaped = [quote(word).encode(), quote(word).lower().encode(), json.dumps(word)[1:-1].encode()]
    return [plain, *coded, *escaped, *armoured(plain)]


def readings(content: bytes) -> list[bytes]:
    """*content* and whatever in it can be inflated (zlib, gzip, bare deflate behind a header)."""
    found = [content]
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", content):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            found.append(inflater.decompress(content[match.start() :], 1 << 22))
        except zlib.error:
            continue
    return found


def findings(folder: Path, rows: list[Vector], words: list[str]) -> list[str]:
    forms = [(form, piece) for row in rows for form, pieces in encodings(row).items()
             for piece in pieces]  # fmt: skip
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        for content in readings(path.read_bytes()):
            found += [f"{kind} in {path.name}" for kind, magic in PICTURES.items()
                      if magic in content]  # fmt: skip
            found += [f"an embedding as {form} in {path.name}" for form, piece in forms
                      if piece in content]  # fmt: skip
            found += [f"the word {word!r} in {path.name}" for word in words
                      if any(spelling in content for spelling in spellings(word))]  # fmt: skip
    return found


def mapped(door: Door, rows: list[Vector]) -> list[Vector]:
    """The same embeddings as the gallery keeps them, rotated by its template key."""
    with Gallery(door.state / "gallery.db", door.ring, networks().embedder.pack) as gallery:
        return [gallery.protection.apply(row[np.newaxis])[0] for row in rows]


def note_a_stop(door: Door) -> None:
    """A boarding at a stop, as a bus that knows its stops writes it."""
    moment = Moment("boot", 1, 1_790_000_000_000, "ntp", 5)
    place = Place("bus", "izumi-bus-7", "front", STOP)
    with Journal(door.state / "journal.db", door.ring.journal_key()) as journal:
        journal.append(PassageEvent(Passage.BOARDING, "bus", "5" * 64, place, moment))


@pytest.mark.broker
def test_nothing_personal_is_readable_in_anything_the_agent_wrote(tmp_path: Path) -> None:
    residents, strangers = people_of("players.jpg"), people_of("t1.jpg")
    rows = [vector[0] for vector in (*residents.values(), *strangers.values())]
    with (
        Mosquitto(tmp_path / "broker") as broker,
        city(tmp_path, broker) as database,
        Door(tmp_path / "door", broker.port) as door,
    ):
        door.enrol(residents, NICKNAME)
        note_a_stop(door)
        rows += mapped(door, rows)
        door.start(door.queue_of("players.jpg"))
        until(lambda: len(door.ledger) >= 20, "twenty boardings")
        door.stop()
        door.start(door.queue_of("t1.jpg"))
        door.wait_for("ready")
        until(
            lambda: len(at_city(database)) >= len(in_journal(door)), "all at the city", seconds=90
        )
        # While it runs, so that the write-ahead log is searched as well.
        pseudonyms = sorted({person for _, _, person in in_journal(door)})
        assert len(pseudonyms) >= 10
        words = [*residents, NICKNAME, *pseudonyms, "izumi-bus-7", STOP]
        # The settings hold the bus's name and the clip links to the photographs: not the agent's.
        assert findings(door.state, rows, words) == []
        log = door.folder / "log"
        log.mkdir()
        (door.folder / "agent.log").rename(log / "agent.log")
        assert findings(log, rows, words) == []
        door.stop()


def test_the_search_finds_what_lies_in_the_open(tmp_path: Path) -> None:
    """The test above can fail: each form it looks for is found when it is there."""
    row = next(iter(people_of("t1.jpg").values()))[0]
    leak = tmp_path / "leak"
    for form, pieces in encodings(row).items():
        for piece in pieces:
            for written in (piece, zlib.compress(b"{" + piece + b"}"), gzip.compress(piece)):
                leak.write_bytes(b"...." + written + b"....")
                assert any(form in line for line in findings(tmp_path, [row], [])), form
    for spelling in spellings(STOP):
        leak.write_bytes(b"...." + spelling + b"....")
        assert findings(tmp_path, [], [STOP]) == [f"the word {STOP!r} in leak"]
    leak.write_bytes(b"\xff\xd8\xff\xe0" + NICKNAME.encode())
    assert len(findings(tmp_path, [], [NICKNAME])) == 2


def test_with_its_key_the_gallery_opens(tmp_path: Path) -> None:
    """What could not be found is there all the same."""
    door = Door(tmp_path / "door", 1)
    residents = people_of("t1.jpg")
    door.enrol(residents)
    with Gallery(door.state / "gallery.db", door.ring, networks().embedder.pack) as gallery:
        loaded = gallery.load()
    plain = [rows[0] for rows in residents.values()]
    kept = dict(zip(residents, mapped(door, plain), strict=True))
    assert set(loaded.ids) == set(residents)
    for number, person in enumerate(loaded.ids):
        np.testing.assert_array_equal(loaded.matrix[loaded.owners == number][0], kept[person])
    # What is kept is not what the network gave, but compares as it did.
    assert np.abs(np.stack(plain) - np.stack(list(kept.values()))).max() > 0.05


def test_with_its_key_the_journal_opens(tmp_path: Path) -> None:
    """The stop that could not be found is there all the same."""
    door = Door(tmp_path / "door", 1)
    note_a_stop(door)
    key = door.ring.journal_key()
    with Journal(door.state / "journal.db", key, read_only=True) as journal:
        places = [place_of(entry.event) for entry in journal.entries() if entry.event]
    assert [place.stop for place in places if place] == [STOP]
    assert findings(door.state, [], [STOP]) == []
