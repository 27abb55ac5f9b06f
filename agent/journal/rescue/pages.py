"""Rows read straight from the pages of a SQLite file, for when SQLite itself gives up on it.

Follows the published file format (https://www.sqlite.org/fileformat2.html): every table leaf page
is read on its own, wherever it lies, so one broken page costs its own rows and no others. What is
found is unverified; the caller checks each row's seal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from agent.journal.database import PAGE_BYTES

WAL_HEADER = struct.Struct(">8I")
FRAME_HEADER = struct.Struct(">6I")
FRAME_BYTES = FRAME_HEADER.size + PAGE_BYTES
WAL_MAGIC = (0x377F0682, 0x377F0683)
TABLE_LEAF = 0x0D
FIRST_PAGE_HEADER_BYTES = 100
MAX_RECORD_BYTES = 1_000_000  # nothing in a journal comes near; a damaged length does
SPILL_BYTES = PAGE_BYTES - 4
MOST_ON_LEAF = PAGE_BYTES - 35
LEAST_ON_LEAF = (PAGE_BYTES - 12) * 32 // 255 - 23
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


Page = Callable[[int], bytes]


def table_rows(path: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(rowid, columns) of every row in every table of *path* and its write-ahead log.

    The newest version of a page comes first; older ones follow, for rows the newer has lost.
    """
    with _opened(path) as (file, log):
        newest = {page: at for page, _, at in _frames(log)} if log else {}
        page_of = _reader(file, log, newest)
        for page, at in newest.items():
            assert log is not None  # noqa: S101 - its frames were just read
            for rowid, row, _ in _leaf_rows(_read(log, at), _start(page), page_of):
                yield rowid, row
        for number, content in _pages(file):
            for rowid, row, _ in _leaf_rows(content, _start(number), page_of):
                yield rowid, row


def every_row(path: Path) -> Iterator[tuple[tuple[Any, ...], list[bytes]]]:
    """Rows in *path* and in every frame of its log, superseded ones as well.

    Each as (columns, pieces): the record as it lies in the file, more than one piece where it
    spills onto further pages.
    """
    with _opened(path) as (file, log):
        frames = list(_frames(log)) if log else []
        page_of = _reader(file, log, {page: at for page, _, at in frames})
        for page, _, at in frames:
            assert log is not None  # noqa: S101 - its frames were just read
            for _, row, pieces in _leaf_rows(_read(log, at), _start(page), page_of):
                yield row, pieces
        for number, content in _pages(file):
            for _, row, pieces in _leaf_rows(content, _start(number), page_of):
                yield row, pieces


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """The file, and its log if it has one."""
    log = path.with_name(path.name + "-wal")
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        yield file, stack.enter_context(log.open("rb")) if log.exists() else None


def _reader(file: BinaryIO, log: BinaryIO | None, newest: dict[int, int]) -> Page:
    """Reads a page by its number, from the log at its place in *newest* if it is there."""

    def page_of(number: int) -> bytes:
        if log is not None and number in newest:
            return _read(log, newest[number])
        return _read(file, (number - 1) * PAGE_BYTES)

    return page_of


def _read(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(PAGE_BYTES)


def _pages(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 1
    while content := _read(file, (number - 1) * PAGE_BYTES):
        yield number, content
        number += 1


def _start(page: int) -> int:
    """Where the b-tree begins on page number *page*: the first one opens with the file's header."""
    return FIRST_PAGE_HEADER_BYTES if page == 1 else 0


def lost_commits(log: Path) -> int:
    """How many transactions of *log* lie beyond the first frame whose checksum is wrong.

    SQLite silently ends there. 0 when there are none; 1 may be what a power cut tore; more means
    damage, because each transaction is synced before the next begins. Raises ValueError when not
    even the log's header is sound. Takes about 0.1 s for a log of the usual 4 MB.
    """
    # SQLite syncs a new header before the first frame: alone, it may be torn and loses nothing.
    if not log.exists() or log.stat().st_size <= WAL_HEADER.size:
        return 0
    with log.open("rb") as file:
        header = _log_header(file)
        if header is None:
            raise ValueError("the header of the write-ahead log is broken")
        order, sums = header[0], header[1:]
        lost = 0
        broken = False
        for _, size, at in _frames(file):
            if not broken:
                file.seek(at - FRAME_HEADER.size)
                frame = file.read(FRAME_BYTES)
                sums = _checksum(order, frame[:8], *sums)
                sums = _checksum(order, frame[FRAME_HEADER.size :], *sums)
                broken = sums != struct.unpack(">2I", frame[16 : FRAME_HEADER.size])
            if broken and size:
                lost += 1
        return lost


def _log_header(file: BinaryIO) -> tuple[str, int, int] | None:
    """(byte order of the checksums, the header's two checksums); None if it is broken."""
    file.seek(0)
    header = file.read(WAL_HEADER.size)
    if len(header) < WAL_HEADER.size:
        return None
    magic, *_, sum1, sum2 = WAL_HEADER.unpack(header)
    if magic not in WAL_MAGIC:
        return None
    order = ">" if magic & 1 else "<"
    return (order, sum1, sum2) if _checksum(order, header[:24], 0, 0) == (sum1, sum2) else None


def _checksum(order: str, data: bytes, sum1: int, sum2: int) -> tuple[int, int]:
    for first, second in struct.iter_unpack(f"{order}2I", data):
        sum1 = (sum1 + first + sum2) & 0xFFFFFFFF
        sum2 = (sum2 + second + sum1) & 0xFFFFFFFF
    return sum1, sum2


def _frames(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(page, database size if this frame commits else 0, offset of the page) of the log's frames.

    Only whole frames with the header's salts: others are left from before the log last started
    over. If the header is broken, the first frame's salts stand in.
    """
    sound = _log_header(file) is not None
    file.seek(0)
    header = file.read(WAL_HEADER.size).ljust(WAL_HEADER.size, b"\0")
    salts = WAL_HEADER.unpack(header)[4:6] if sound else None
    at = WAL_HEADER.size
    end = file.seek(0, 2)
    while at + FRAME_BYTES <= end:
        file.seek(at)
        page, size, *frame_salts, _, _ = FRAME_HEADER.unpack(file.read(FRAME_HEADER.size))
        salts = salts or tuple(frame_salts)
        if tuple(frame_salts) != salts:
            return
        yield page, size, at + FRAME_HEADER.size
        at += FRAME_BYTES


def _leaf_rows(
    page: bytes, start: int, page_of: Page
) -> Iterator[tuple[int, tuple[Any, ...], list[bytes]]]:
    """(rowid, columns, pieces of the record) of the rows on *page*, a table's leaf."""
    if len(page) < PAGE_BYTES or page[start] != TABLE_LEAF:
        return
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for number in range(min(count, PAGE_BYTES // 4)):
        at = start + 8 + 2 * number
        cell = int.from_bytes(page[at : at + 2], "big")
        try:
            size, cell = _varint(page, cell)
            rowid, cell = _varint(page, cell)
            pieces = _pieces(page, cell, size, page_of)
            yield rowid, _record(b"".join(pieces), size), pieces
        except (IndexError, ValueError):
            continue  # this cell is damaged; its neighbours may not be


def _pieces(page: bytes, cell: int, size: int, page_of: Page) -> list[bytes]:
    """The record of *size* bytes at *cell*, by the file format's "Cell Payload Overflow Pages"."""
    if size <= MOST_ON_LEAF:
        return [page[cell : cell + size]]
    if size > MAX_RECORD_BYTES:
        raise ValueError("no record is that large")
    here = LEAST_ON_LEAF + (size - LEAST_ON_LEAF) % SPILL_BYTES
    here = here if here <= MOST_ON_LEAF else LEAST_ON_LEAF
    pieces = [page[cell : cell + here]]
    following = int.from_bytes(page[cell + here : cell + here + 4], "big")
    left = size - here
    while left > 0:
        if following == 0:
            raise ValueError("the chain of pages ends too soon")
        spill = page_of(following)
        pieces.append(spill[4 : 4 + min(left, SPILL_BYTES)])
        if not pieces[-1]:
            raise ValueError("the chain of pages leads out of the file")
        left -= len(pieces[-1])
        following = int.from_bytes(spill[:4], "big")
    return pieces


def _record(record: bytes, size: int) -> tuple[Any, ...]:
    if len(record) != size:
        raise ValueError("the record runs off its page")
    header_bytes, at = _varint(record, 0)
    kinds = []
    while at < header_bytes:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values = []
    at = header_bytes
    for kind in kinds:
        value, at = _value(record, kind, at)
        values.append(value)
    if at != size:
        raise ValueError("the record's header and body differ in size")
    return tuple(values)


def _value(record: bytes, kind: int, at: int) -> tuple[Any, int]:
    """One column and where the next one begins, by the table "Serial Type Codes"."""
    if kind == 0:
        return None, at
    if kind in INTEGER_BYTES:
        end = at + INTEGER_BYTES[kind]
        return int.from_bytes(record[at:end], "big", signed=True), end
    if kind == 7:
        (real,) = struct.unpack(">d", record[at : at + 8].ljust(8, b"\0"))
        return float(real), at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise ValueError(f"there is no column type {kind}")
    end = at + (kind - 12) // 2
    content = record[at:end]
    return (content.decode() if kind % 2 else content), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends; the ninth byte counts whole."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
