"""Whatever the agent writes: no picture, no embedding, no id, no nickname, no place."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import numpy as np

from agent.identity.gallery import Gallery
from agent.identity.templates import TemplateSet
from agent.values import Vector
from tests.line.door import Door, at_city, city, in_journal, networks, people_of
from tests.mosquitto import Mosquitto, until

NICKNAME = "のっぽのあかしあ"
PICTURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n",
    "WebP": b"WEBPVP8",
    "GIF": b"GIF8",
    "AVIF": b"ftypavif",
}
RUN = 6  # numbers of an embedding in a row that no chance brings together


def encodings(row: Vector) -> dict[str, bytes]:
    """A piece of an embedding in every form it could have been written in."""
    piece = row[100 : 100 + RUN]
    double = piece.astype(np.float64)
    return {
        "float32": piece.astype("<f4").tobytes(),
        "float32, big-endian": piece.astype(">f4").tobytes(),
        "float64": double.astype("<f8").tobytes(),
        "float16": piece.astype("<f2").tobytes(),
        "hex": piece.astype("<f4").tobytes().hex().encode(),
        "base64": base64.b64encode(row.astype("<f4").tobytes())[136 : 136 + 4 * RUN],
        "JSON": ", ".join(str(float(x)) for x in double[:2]).encode(),
        "packed": struct.pack(f"<{RUN}f", *piece),
    }


def findings(folder: Path, rows: list[Vector], words: list[str]) -> list[str]:
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # written anew and renamed meanwhile; its new name is in the list as well
        found += [f"{kind} in {path.name}" for kind, magic in PICTURES.items() if magic in content]
        for row in rows:
            found += [
                f"an embedding as {form} in {path.name}"
                for form, piece in encodings(row).items()
                if piece in content
            ]
        found += [
            f"the word {word!r} in {path.name}"
            for word in words
            if any(word.encode(code) in content for code in ("utf-8", "utf-16-le", "shift_jis"))
        ]
    return found


def test_nothing_personal_is_readable_in_anything_the_agent_wrote(tmp_path: Path) -> None:
    residents, strangers = people_of("players.jpg"), people_of("t1.jpg")
    rows = [vector[0] for vector in (*residents.values(), *strangers.values())]
    with (
        Mosquitto(tmp_path / "broker") as broker,
        city(tmp_path, broker) as database,
        Door(tmp_path / "door", broker.port) as door,
    ):
        door.enrol(residents, NICKNAME)
        door.start(door.queue_of("players.jpg"))
        until(lambda: len(door.ledger) >= 20, 30, "twenty boardings")
        door.stop()
        door.start(door.queue_of("t1.jpg"))
        door.wait_for("ready")
        until(lambda: len(at_city(database)) >= len(in_journal(door)), 90, "all at the city")
        # While it runs, so that the write-ahead log is searched as well.
        pseudonyms = sorted({person for _, _, person in in_journal(door)})
        assert len(pseudonyms) >= 10
        words = [*residents, NICKNAME, *pseudonyms, "izumi-bus-7"]
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
    for form, piece in encodings(row).items():
        (tmp_path / "leak").write_bytes(b"...." + piece + b"....")
        assert any(form in line for line in findings(tmp_path, [row], [])), form
    (tmp_path / "leak").write_bytes(b"\xff\xd8\xff\xe0" + NICKNAME.encode())
    assert len(findings(tmp_path, [], [NICKNAME])) == 2


def test_with_its_key_the_gallery_opens(tmp_path: Path) -> None:
    """What could not be found is there all the same."""
    door = Door(tmp_path / "door", 1)
    residents = people_of("t1.jpg")
    door.enrol(residents)
    with Gallery(door.state / "gallery.db", door.ring, networks().embedder.pack) as gallery:
        loaded = gallery.load()
    built = TemplateSet.build(residents.items())
    assert set(loaded.ids) == set(built.ids)
    assert np.allclose(np.sort(loaded.matrix, axis=0), np.sort(built.matrix, axis=0))
