"""Whatever is the matter with a file, of whichever kind: it is named, and so is what to do."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from agent.base.sqlite import Trouble, sidecars, trouble
from tests.base.files import KINDS, Owned
from tests.faults.disks.trace import build_library

CHECK_ACCESS = r"check that .* exists, that .* is a file there, and that this user may write"
MANY = 40  # enough for pages that a cut or a flip can hit


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Owned:
    return KINDS[request.param]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of an ordinary user, whom permissions bind; root lends them theirs."""
    made = Path(tempfile.mkdtemp(prefix="kaopass-files-"))
    yield made
    shutil.rmtree(made)


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Be somebody who is not root, and who owns *folder*."""
    if os.geteuid():
        yield
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody, -1)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def used(kind: Owned, folder: Path) -> None:
    """Open the file and write to it."""
    owner = kind.open(folder)
    try:
        kind.write(owner, MANY)
    finally:
        owner.close()


def settled(path: Path) -> bytes:
    """The file's content, with nothing left in a log."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return path.read_bytes()


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_file_that_may_not_be_read_or_written(kind: Owned, folder: Path, mode: int) -> None:
    path = kind.made(folder, 2)
    before = settled(path)
    with ordinary_user(folder):
        path.chmod(mode)
        with pytest.raises(kind.error, match=rf"{path}\b.*{CHECK_ACCESS}"):
            used(kind, folder)
    assert path.read_bytes() == before


def test_a_directory_in_its_place(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 0)
    path.unlink()
    for beside in sidecars(path):
        beside.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(kind.error, match=rf"{path}\b.*{CHECK_ACCESS}"):
        used(kind, folder)


def test_a_file_of_zero_bytes_is_a_new_one(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 0)
    path.write_bytes(b"")
    used(kind, folder)
    assert kind.counted(folder) == 1


def test_a_log_beside_a_file_of_zero_bytes_is_kept(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 0)
    if kind is KINDS["keys"]:
        assert not sidecars(path)[0].exists()  # it never has one
        return
    path.write_bytes(b"")
    log = sidecars(path)[0]
    log.write_bytes(b"a log of 4 MB")
    damaged(kind, folder, "the file is empty but its log is not")
    kept = log if not kind.rescued else sidecars(aside(path))[0]
    assert kept.read_bytes() == b"a log of 4 MB"


def test_something_else_under_its_name(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 0)
    path.write_bytes(b"minutes of the residents' meeting\n" * 300)
    damaged(kind, folder, "file is not a database")


def test_a_file_cut_off(kind: Owned, folder: Path) -> None:
    content = settled(kind.made(folder, MANY))
    (folder / kind.file).write_bytes(content[: len(content) // 2])
    damaged(kind, folder, ".+")


def test_a_page_of_noise(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, MANY)
    content = bytearray(settled(path))
    size = int.from_bytes(content[16:18], "big")
    content[2 * size : 3 * size] = Random(7).randbytes(size)
    path.write_bytes(content)
    damaged(kind, folder, ".+")


def damaged(kind: Owned, folder: Path, reason: str) -> None:
    """Damage stops whoever has a copy to put back; the others go on, with the file set aside."""
    path = folder / kind.file
    broken = path.read_bytes()
    if kind.rescued:
        used(kind, folder)
        assert 0 < kind.counted(folder) <= MANY + 1
        assert aside(path).read_bytes() == broken
        return
    for _ in range(2):  # it is not done with a second try either
        with pytest.raises(kind.error, match=rf"{path}\b.*damaged \({reason}\); .*{kind.remedy}"):
            used(kind, folder)
    assert path.read_bytes() == broken
    assert [found.name for found in path.parent.iterdir() if "damaged" in found.name] == []


def aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged-1")


HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_program_holds(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 2)
    owner = kind.open(folder)
    try:
        kind.db(owner).execute("PRAGMA busy_timeout = 20")
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(kind.error, match=rf"{path}\b.*another program.*end that program"):
                kind.write(owner, 2)
            other.stdin.close()
        kind.write(owner, 2)
        assert kind.count(owner) == 3
    finally:
        owner.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


FILLED = """
import sys
from pathlib import Path
from tests.base.files import KINDS
from tests.faults.disks.trace import Tracer

kind, folder, tracer = KINDS[sys.argv[1]], Path(sys.argv[2]), Tracer()
tracer.begin((folder / kind.file).parent, folder / "trace")
owner = kind.open(folder)
tracer.room(0)
said = ""
for number in range(100, 200):  # pages with room in them are filled first
    try:
        kind.write(owner, number)
    except kind.error as error:
        said = str(error)
        break
print(said)
tracer.room(-1)
before = kind.count(owner)
kind.write(owner, 200)
print(kind.count(owner) - before)
owner.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk(name: str, folder: Path, library: Path) -> None:
    """It is said, nothing is half written, and there is nothing to be done but make room."""
    path = KINDS[name].made(folder, 2)
    done = subprocess.run(
        [sys.executable, "-c", FILLED, name, str(folder)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, added = done.stdout.splitlines()
    assert f"{path}: " in said
    assert "no room left" in said
    assert f"free some space in {path.parent}" in said
    assert added == "1"


def test_a_file_of_a_newer_program(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 2)
    with closing(sqlite3.connect(path)) as db, db:
        if kind is KINDS["city"]:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
        else:
            db.execute("UPDATE _sqlite_migrations SET name = '9_later' WHERE id = 1")
    before = settled(path)
    with pytest.raises(kind.error, match=r"newer kaopass.*install|install the newer kaopass"):
        used(kind, folder)
    assert path.read_bytes() == before


def test_every_file_is_synced_wiped_and_for_its_owner_alone(kind: Owned, folder: Path) -> None:
    path = kind.made(folder, 1)
    owner = kind.open(folder)
    try:
        db = kind.db(owner)
        wanted = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}  # FULL, ON
        if kind is KINDS["keys"]:
            wanted |= {"journal_mode": "delete", "synchronous": 3}  # EXTRA
        assert {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted} == wanted
    finally:
        owner.close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), Trouble.MALFORMED),
        (sqlite3.DatabaseError("file is not a database"), Trouble.NO_DATABASE),
        (sqlite3.OperationalError("database is locked"), Trouble.LOCKED),
        (sqlite3.OperationalError("attempt to write a readonly database"), Trouble.READ_ONLY),
        (sqlite3.OperationalError("unable to open database file"), Trouble.OUT_OF_REACH),
        (sqlite3.OperationalError("database or disk is full"), Trouble.FULL_DISK),
        (OSError(28, "No space left on device"), Trouble.FULL_DISK),
        (OSError(30, "Read-only file system"), Trouble.READ_ONLY),
        (PermissionError(13, "Permission denied"), Trouble.OUT_OF_REACH),
        (sqlite3.OperationalError("no such table: event"), Trouble.OTHER),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), Trouble.OTHER),
    ],
)
def test_trouble_is_told_apart(error: Exception, found: Trouble, tmp_path: Path) -> None:
    assert trouble(error, tmp_path / "some.db") is found
    assert found.is_damage is (type(error) is sqlite3.DatabaseError)
