"""A new device key: nobody is lost, whatever moment the process is killed at."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.base.audit import entries
from agent.base.errors import GalleryError, JournalError, KeySourceError
from agent.base.events import Event, Moment, Passage, PassageEvent, Place
from agent.base.ports import ChangeableKeySource
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.hw.keystores.otp import OtpKeySource
from agent.journal import Journal
from agent.keys.ring import KeyRing
from agent.usecases.rotation import open_ring, rotate
from tests.hw.keystores.firmware import Firmware
from tests.recognition.people import NOW_MS, PACK, loaded, person_id, templates

STEPS = ("made", "carried", "gallery", "journal", "replaced", "tidied")
PEOPLE, EVENTS = 5, 12
ROWS = (1, 2, 3, 4, 5, 6, 7, 8)


def event(number: int) -> Event:
    moment = Moment("boot", number, NOW_MS + number, "ntp", 5)
    return PassageEvent(
        Passage.BOARDING, "bus", f"{number:064x}", Place("bus", "7", "front"), moment
    )


def filled(state: Path, source: ChangeableKeySource) -> dict[str, object]:
    """A device with people and events; what must be the same ever after."""
    ring = open_ring(source, state, may_create=True)
    with Gallery(state / "gallery.db", ring, PACK) as gallery:
        for number in range(PEOPLE):
            rows = gallery.protection.apply(templates(number, values=64))
            gallery.enroll(person_id(number), rows, now_ms=NOW_MS)
    with Journal(state / "journal.db", ring.journal_key()) as journal:
        for number in range(EVENTS):
            journal.append(event(number))
    return everything(ring, state)


def everything(ring: KeyRing, state: Path) -> dict[str, object]:
    with Gallery(state / "gallery.db", ring, PACK) as gallery:
        assert gallery.verify().sound
        people = {name: rows.tolist() for name, rows in loaded(gallery).items()}
        mapped = gallery.protection.apply(templates(1, values=64)).tolist()
    with Journal(state / "journal.db", ring.journal_key()) as journal:
        events = [(e.epoch, e.seq, e.state, e.event) for e in journal.entries()]
    assert None not in [e[3] for e in events]
    pseudonym_keys = [ring.pseudonym_key("bus"), ring.pseudonym_key("hall")]
    lasting = [*pseudonym_keys, ring.gallery_index_key(), ring.receipt_key()]
    return {"people": people, "mapped": mapped, "events": events, "lasting": lasting}


@pytest.fixture
def source(tmp_path: Path) -> FileKeySource:
    return FileKeySource(tmp_path / "state" / "keys")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_everything_is_there_under_the_new_key(source: FileKeySource, state: Path) -> None:
    before = filled(state, source)
    old = source.load("device-key")
    done = rotate(source, state)
    assert (done.people, done.events) == (PEOPLE, EVENTS)
    assert source.load("device-key") not in (None, old)
    assert sorted(file.name for file in (state / "keys").iterdir()) == ["device-key"]
    ring = open_ring(source, state, may_create=False)
    assert ring.fingerprint() == done.fingerprint
    assert everything(ring, state) == before


def test_it_can_be_done_again_and_again(source: FileKeySource, state: Path) -> None:
    before = filled(state, source)
    fingerprints = {rotate(source, state).fingerprint for _ in range(3)}
    assert len(fingerprints) == 3
    assert everything(open_ring(source, state, may_create=False), state) == before


def test_the_old_key_opens_nothing_of_what_is_on_the_card(
    source: FileKeySource, state: Path
) -> None:
    filled(state, source)
    old = source.load("device-key")
    assert old is not None
    rotate(source, state)
    with pytest.raises(GalleryError, match="under another key"):
        Gallery(state / "gallery.db", KeyRing(old), PACK)
    with pytest.raises(JournalError, match="under another key"):
        Journal(state / "journal.db", KeyRing(old).journal_key())


def test_an_old_copy_of_the_card_does_not_open_under_the_new_key(
    source: FileKeySource, state: Path, tmp_path: Path
) -> None:
    filled(state, source)
    shutil.copytree(state, tmp_path / "copy")
    rotate(source, state)
    ring = open_ring(source, state, may_create=False)
    with pytest.raises(GalleryError, match="under another key"):
        Gallery(tmp_path / "copy" / "gallery.db", ring, PACK)
    with pytest.raises(JournalError, match="under another key"):
        Journal(tmp_path / "copy" / "journal.db", ring.journal_key())


KILLED = """
import os, signal, sys
from pathlib import Path
from agent.hw.keystores.file import FileKeySource
from agent.usecases.rotation import rotate
state = Path(sys.argv[1])
def after(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
rotate(FileKeySource(state / "keys"), state, after)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_next_opening_finishes_it(
    source: FileKeySource, state: Path, step: str
) -> None:
    before = filled(state, source)
    gc.collect()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED, str(state), step]
    done = subprocess.run(command, env=environment, cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [entry.action for entry in entries(state / "audit.jsonl")] == ["keys.rotated"]
    ring = open_ring(source, state, may_create=False)
    assert everything(ring, state) == before
    assert sorted(file.name for file in (state / "keys").iterdir()) == ["device-key"]


class PowerCutError(Exception):
    """The power goes."""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_cut_after_any_step_calling_it_again_finishes_it(
    source: FileKeySource, state: Path, step: str
) -> None:
    before = filled(state, source)

    def cut(done: str) -> None:
        if done == step:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        rotate(source, state, cut)
    rotate(source, state)
    assert everything(open_ring(source, state, may_create=False), state) == before


class RootsCredential:
    """As the unit sees a credential: the key in use alone, and no way to change it."""

    def __init__(self, files: FileKeySource) -> None:
        self._files = files

    def load(self, name: str) -> bytes | None:
        return self._files.load(name) if name == "device-key" else None

    def create(self, name: str) -> bytes:
        raise KeySourceError("only root")


@pytest.mark.parametrize("step", ["carried", "gallery", "journal"])
def test_who_cannot_finish_it_is_told_who_can(
    source: FileKeySource, state: Path, step: str
) -> None:
    filled(state, source)

    def cut(done: str) -> None:
        if done == step:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        rotate(source, state, cut)
    with pytest.raises(KeySourceError, match=r"cut short.*as root run: kaopass keys rotate"):
        open_ring(RootsCredential(source), state, may_create=False)


def test_while_an_agent_uses_the_keys_they_are_not_changed(
    source: FileKeySource, state: Path
) -> None:
    filled(state, source)
    agent = open_ring(source, state, may_create=False)
    with pytest.raises(KeySourceError, match="stop it first"):
        rotate(source, state)
    assert source.load("device-key-next") is None
    del agent
    gc.collect()
    rotate(source, state)


def test_a_damaged_or_foreign_journal_stops_it_before_it_begins(
    source: FileKeySource, state: Path
) -> None:
    filled(state, source)
    (state / "journal.db").unlink()
    with Journal(state / "journal.db", bytes(32)) as journal:
        journal.append(event(1))
    with pytest.raises(JournalError, match="under another key"):
        rotate(source, state)
    assert source.load("device-key-next") is None


def test_without_a_key_there_is_none_to_change(source: FileKeySource, state: Path) -> None:
    state.mkdir()
    with pytest.raises(KeySourceError, match="no device key"):
        rotate(source, state)


def test_an_otp_key_is_changed_by_its_salt(tmp_path: Path, state: Path) -> None:
    source = OtpKeySource(FileKeySource(state / "keys"), Firmware(ROWS))
    before = filled(state, source)
    rotate(source, state)
    ring = open_ring(source, state, may_create=False)
    assert everything(ring, state) == before
    other_board = OtpKeySource(FileKeySource(state / "keys"), Firmware((9, *ROWS[1:])))
    with pytest.raises(KeySourceError, match=r"keys\.carried does not open"):
        open_ring(other_board, state, may_create=False)


def test_a_damaged_file_of_carried_keys_is_refused(source: FileKeySource, state: Path) -> None:
    """Going on without it would give everybody another pseudonym."""
    filled(state, source)
    rotate(source, state)
    (state / "keys.carried").write_bytes(b"{")
    with pytest.raises(KeySourceError, match=r"is damaged.*restore it"):
        open_ring(source, state, may_create=False)
    (state / "keys.carried").unlink()
    ring = open_ring(source, state, may_create=False)
    with pytest.raises(GalleryError, match=r"keys\.carried"):
        Gallery(state / "gallery.db", ring, PACK)
