"""What ``disk.c`` noted of a process's changes to one directory, and the controls of it."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("<BBHiqII")
_CHANGES = b"WTSRU"


class UntraceableError(Exception):
    """The process did something the trace cannot follow, so nothing can be concluded from it."""


def build_library(folder: Path) -> Path:
    """Compile ``disk.c`` into *folder*; the library for LD_PRELOAD."""
    library = folder / "disk.so"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise UntraceableError("there is no C compiler: apt-get install gcc libc6-dev")
    source = Path(__file__).with_name("disk.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run([*command, "-lpthread"], check=True)
    return library


def memory_folder() -> Path | None:
    """Where files lie in memory, None where there is no such place: proofs need not wear a card."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


class Tracer:
    """The controls of the library inside a process that was started with it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.kp_room.argtypes = (ctypes.c_longlong,)

    def begin(self, root: Path, trace: Path, die_after: int = -1) -> None:
        """Note every change below *root* in *trace*; SIGKILL this process after *die_after*."""
        self._library.kp_trace(str(root).encode(), str(trace).encode(), ctypes.c_long(die_after))

    def mark(self, text: bytes) -> None:
        """Put *text* into the trace: what was promised up to here."""
        self._library.kp_mark(text, ctypes.c_size_t(len(text)))

    def room(self, limit_bytes: int) -> None:
        """Let files grow by *limit_bytes* in all, then the disk is full; -1 for no limit."""
        self._library.kp_room(limit_bytes)


class Record(NamedTuple):
    """One line of a trace; ``op`` is a letter of ``disk.c``."""

    op: str
    flags: int
    descriptor: int
    offset: int
    first: bytes
    second: bytes

    @property
    def changes(self) -> bool:
        """Whether a cut after it may differ from one before it."""
        return self.op.encode() in _CHANGES


def read_trace(path: Path) -> Iterator[Record]:
    """The records of a trace; a last one that a kill cut short is left out."""
    if not path.exists():
        return
    data = path.read_bytes()
    at = 0
    while at + _RECORD.size <= len(data):
        op, flags, _, descriptor, offset, n1, n2 = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + n1 + n2 > len(data):
            return
        record = Record(
            chr(op), flags, descriptor, offset, data[at : at + n1], data[at + n1 : at + n1 + n2]
        )
        at += n1 + n2
        if record.op == "X":
            raise UntraceableError(f"not followed: {record.first.decode(errors='replace')}")
        yield record
