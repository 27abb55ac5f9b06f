"""A disk that forgets what was not synced: what a power cut may leave of a process's files.

Chosen for the proof: ``disk.c`` is loaded (LD_PRELOAD) between an unmodified process and the C
library and notes every change to the files of one directory; ``Disk`` replays such traces and
makes images of what the medium may hold after a cut. A VFS written with apsw would have put
apsw's own SQLite and its own connection class in place of the ones the journal runs on
(``sqlite3`` through sqlite-utils); FUSE needs rights and a kernel that not everybody has. This way
the journal, Python's ``os.rename``, ``os.fsync`` and SQLite itself are the ones that ship, a cut is
possible after each single change, and names are covered as well as content.

What is assumed of the medium: what fsync or fdatasync returned for is there. Everything else may
be there or not, sector by sector (512 bytes, never torn inside) and in any order; a file may have
grown without its content (zeros). A name made, changed or removed is certain only after its
directory was synced; before, changes of names may be undone from the last one backwards, as
journalling file systems do. ``-shm`` files are memory: after a cut they hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.disks.trace import Record, UntraceableError, read_trace

SECTOR_BYTES = 512
SHM_BYTES = 32_768
HOW = ("nothing", "everything", "prefix", "writes", "sectors")

_CREATED, _EMPTIED, _IS_DIRECTORY, _IS_SCRATCH = 1, 2, 4, 8


class _Change(NamedTuple):
    """One change not synced yet: bytes at an offset, or a new size when ``data`` is None."""

    number: int
    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        _put(content, self.offset, self.data)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@dataclass(eq=False)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list)
    scratch: bool = False

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def current(self) -> bytearray:
        content = bytearray(self.durable)
        for change in self.pending:
            change.apply(content)
        return content


class _Rename(NamedTuple):
    """One change of names not synced yet: *old* goes away, *new* leads to *file*."""

    number: int
    old: str | None
    new: str | None
    file: _File | None

    def apply(self, names: dict[str, _File]) -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.new is not None and self.file is not None:
            names[self.new] = self.file


class Disk:
    """One directory: what is certainly on the medium, and what may be."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}  # as the running system sees them
        self._durable_names: dict[str, _File] = {}
        self._pending_names: list[_Rename] = []
        self._open: dict[int, _File | None] = {}  # None: the directory itself
        self._number = 0

    @classmethod
    def of(cls, directory: Path) -> Disk:
        """A disk that certainly holds what is in *directory* now."""
        disk = cls()
        disk._take({path.name: path.read_bytes() for path in directory.iterdir()})
        return disk

    def _take(self, image: dict[str, bytes]) -> None:
        for name, content in image.items():
            self._names[name] = _File(bytearray(content), scratch=name.endswith("-shm"))
        self._durable_names = dict(self._names)

    def replay(self, trace: Path) -> None:
        """Apply a whole trace of one process, which has ended."""
        for record in read_trace(trace):
            self.apply(record)
        self.ended()

    def ended(self) -> None:
        """The process is gone: its descriptors mean nothing any more."""
        self._open.clear()

    def apply(self, record: Record) -> None:
        """Apply one record."""
        self._number += 1
        op, file = record.op, self._open.get(record.descriptor)
        if op == "O":
            self._opened(record)
        elif op == "C":
            self._open.pop(record.descriptor, None)
        elif op == "S":
            if file is not None:
                file.sync()
            else:
                self._sync_names()
        elif op in "WT":
            if file is None:
                raise UntraceableError(f"a change of descriptor {record.descriptor}, never opened")
            data = record.first if op == "W" else None
            file.pending.append(_Change(self._number, record.offset, data))
        elif op == "R":
            old, new = record.first.decode(), record.second.decode()
            self._rename(_Rename(self._number, old, new, self._names[old]))
        elif op == "U":
            self._rename(_Rename(self._number, record.first.decode(), None, None))

    def _opened(self, record: Record) -> None:
        if record.flags & _IS_DIRECTORY:
            self._open[record.descriptor] = None
            return
        name = record.first.decode()
        if record.flags & _CREATED:
            file = _File(scratch=bool(record.flags & _IS_SCRATCH))
            self._rename(_Rename(self._number, None, name, file))
        file = self._names[name]
        self._open[record.descriptor] = file
        if record.flags & _EMPTIED:
            file.pending.append(_Change(self._number, 0, None))

    def _rename(self, change: _Rename) -> None:
        change.apply(self._names)
        self._pending_names.append(change)

    def _sync_names(self) -> None:
        for change in self._pending_names:
            change.apply(self._durable_names)
        self._pending_names.clear()

    def image(self, chance: Random, how: str) -> dict[str, bytes]:
        """Files by name as a cut now may leave them; *how* is one of HOW.

        "nothing" and "everything" are what of the unsynced arrived. "prefix" is all up to a
        moment with the last write torn, "writes" an arbitrary choice of writes, "sectors" of
        sectors. Changes of names always arrive up to a moment.
        """
        numbers = [change.number for file in self._files() for change in file.pending]
        numbers += [change.number for change in self._pending_names]
        last = chance.choice([*sorted(numbers), 0]) if numbers else 0
        names = dict(self._durable_names)
        names_until = {"nothing": 0, "everything": len(self._pending_names)}.get(
            how, chance.randint(0, len(self._pending_names))
        )
        for at, change in enumerate(self._pending_names):
            if (change.number <= last) if how == "prefix" else (at < names_until):
                change.apply(names)
        return {name: _arrived(file, chance, how, last) for name, file in names.items()}

    def cut(self, directory: Path, chance: Random, how: str) -> None:
        """Cut the power: *directory* becomes an image, and that is now what is certain."""
        image = self.image(chance, how)
        write_image(directory, image)
        self._names.clear()
        self._pending_names.clear()
        self._take(image)

    def reconcile(self, directory: Path) -> None:
        """After a SIGKILL: take over what was done and not noted any more, as not synced.

        A kill may fall between a change and its record.
        """
        there = {path.name: path for path in directory.iterdir()}
        for name in self._names.keys() - there.keys():
            self._rename(_Rename(self._number, name, None, None))
        for name, path in there.items():
            if name not in self._names:
                file = _File(scratch=name.endswith("-shm"))
                self._rename(_Rename(self._number, None, name, file))
            file = self._names[name]
            if not file.scratch:
                self._catch_up(file, path.read_bytes())

    def _catch_up(self, file: _File, found: bytes) -> None:
        current = file.current()
        if current == found:
            return
        if len(current) != len(found):
            file.pending.append(_Change(self._number, len(found), None))
        for at in range(0, len(found), SECTOR_BYTES):
            sector = found[at : at + SECTOR_BYTES]
            if current[at : at + SECTOR_BYTES] != sector:
                file.pending.append(_Change(self._number, at, sector))

    def damage(self, directory: Path, name: str, offset: int, data: bytes) -> None:
        """Spoil bytes of a file on the medium itself, under everything not synced yet."""
        file = self._names[name]
        _put(file.durable, offset, data)
        (directory / name).write_bytes(file.current())

    def _files(self) -> set[_File]:
        found = set(self._names.values()) | set(self._durable_names.values())
        return found | {change.file for change in self._pending_names if change.file is not None}


def _arrived(file: _File, chance: Random, how: str, last: int) -> bytes:
    if file.scratch:
        return chance.choice([b"", bytes(SHM_BYTES), chance.randbytes(SHM_BYTES)])
    content = bytearray(file.durable)
    for change in file.pending:
        if how == "sectors" or (how == "prefix" and change.number == last):
            _apply_torn(change, content, chance)
        elif (
            how == "everything"
            or (how == "prefix" and change.number < last)
            or (how == "writes" and chance.random() < 0.5)
        ):
            change.apply(content)
    return bytes(content)


def _apply_torn(change: _Change, content: bytearray, chance: Random) -> None:
    """Some sectors of one change; the size may have grown before the content came."""
    if change.data is None:
        if chance.random() < 0.5:
            change.apply(content)
        return
    end = change.offset + len(change.data)
    if end > len(content) and chance.random() < 0.5:
        content.extend(bytes(end - len(content)))
    at = change.offset
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if chance.random() < 0.5:
            _put(content, at, change.data[at - change.offset : until - change.offset])
        at = until


def write_image(directory: Path, image: dict[str, bytes]) -> None:
    """Make *directory* hold exactly *image*."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, content in image.items():
        (directory / name).write_bytes(content)
