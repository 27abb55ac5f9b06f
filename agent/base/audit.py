"""An append-only log in which each entry seals the one before it; used on devices and by the city.

It says who enrolled, changed, sent, erased or exported what, and names nobody: people (those acted
upon and those who act) stand in it as references, HMAC-SHA256 under a key the log does not hold.
The chain needs no key to check. It shows any change before its head; that its end was not cut off
is shown only by a head noted elsewhere (``verify(path, head=...)``).

Who changes something does it within ``audited``: every check first, then the entry, on the disk,
then what no rollback takes back, a commit at the latest. So the log may say more than was done,
never less.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.base.errors import AuditError
from agent.base.wholefile import give_to_owner

log = logging.getLogger(__name__)

Fact = str | int | bool
FAILED = "act.failed"  # the act of an earlier ``entry`` ended in an error

GENESIS = "0" * 64
_ACTION = re.compile(r"[a-z]+(\.[a-z_]+)+")
_FACT = re.compile(r"[a-z_]{1,32}")
_MOST_TEXT = 256
_MOST_LINE_BYTES = 8192
_REFERENCE_DIGITS = 32  # 128 bits: no two people share one


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line. ``actor`` and ``subject`` are references (32 hex digits) or empty.

    ``wall_ms`` is what the clock said; only ``seq`` is an order.
    """

    seq: int
    wall_ms: int
    action: str
    actor: str
    subject: str
    facts: Mapping[str, Fact]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A whole chain: how many entries, the last one's hash (GENESIS if none).

    ``torn_bytes`` of an entry that a power cut kept from being finished follow the last one.
    """

    entries: int
    head: str
    torn_bytes: int


class Note(Protocol):
    """Writes the entry of what is about to be done; it is on the disk when this returns."""

    def __call__(self, action: str, *, subject: str = "", **facts: Fact) -> object: ...


class AuditLog:
    """Appends to the file *path*; several processes may. Raises AuditError."""

    def __init__(
        self, path: Path, key: bytes, *, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """*key*: 32 secret bytes for the references, the same for the life of the log."""
        self._path = path
        self._key = key
        self._wall_ns = wall_ns

    def reference(self, identifier: str) -> str:
        """What stands for *identifier* (a resident's id, an operator's login) in this log."""
        digest = hmac.new(self._key, identifier.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return digest.hexdigest()[:_REFERENCE_DIGITS]

    def append(
        self, action: str, *, actor: str = "", subject: str = "", **facts: Fact
    ) -> AuditEntry:
        """Write one entry; it is on the disk when this returns.

        *action* is dotted, e.g. "device.revoked". *actor* and *subject* are people's identifiers
        and go in as references. *facts* go in as they are: never put personal data there.
        """
        _check(action, facts)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "r+b", buffering=0) as file:
                give_to_owner(file.fileno(), self._path.parent)  # root writes here too
                fcntl.flock(file, fcntl.LOCK_EX)
                seq, prev, torn = self._tail(file.fileno())
                if torn:  # never acknowledged to anybody; that it happened is itself an entry
                    os.ftruncate(file.fileno(), file.seek(0, os.SEEK_END) - torn)
                    entry = self._write(
                        file.fileno(), seq, prev, "audit.torn", "", "", {"bytes": torn}
                    )
                    seq, prev = entry.seq, entry.hash
                return self._write(
                    file.fileno(),
                    seq,
                    prev,
                    action,
                    self.reference(actor) if actor else "",
                    self.reference(subject) if subject else "",
                    facts,
                )
        except OSError as error:
            raise AuditError(
                f"audit log {self._path} cannot be written: {error.strerror or error}; nothing is "
                "done that cannot be noted: free space, or make the file writable for this user"
            ) from error

    def _tail(self, handle: int) -> tuple[int, str, int]:
        """(seq, hash, bytes torn after it) of the last whole entry."""
        size = os.fstat(handle).st_size
        start = max(0, size - 2 * _MOST_LINE_BYTES)
        lines = os.pread(handle, size - start, start).split(b"\n")
        torn = len(lines.pop())
        if not lines:
            if start:
                raise AuditError(f"audit log {self._path}: its end is no entry; see audit verify")
            return 0, GENESIS, torn
        try:
            last = json.loads(lines[-1])
            return int(last["seq"]), str(last["hash"]), torn
        except (ValueError, KeyError, TypeError) as error:
            raise AuditError(
                f"audit log {self._path}: its last entry is damaged; see 'kaopass audit verify', "
                "and move the file aside to begin another"
            ) from error

    def _write(
        self,
        handle: int,
        seq: int,
        prev: str,
        action: str,
        actor: str,
        subject: str,
        facts: Mapping[str, Fact],
    ) -> AuditEntry:
        body = {
            "seq": seq + 1,
            "wall_ms": self._wall_ns() // 1_000_000,
            "action": action,
            "actor": actor,
            "subject": subject,
            "facts": dict(facts),
            "prev": prev,
        }
        sealed = {**body, "hash": _seal(body)}
        line = memoryview(_canonical(sealed) + b"\n")
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
        return _entry(sealed)


@contextmanager
def audited(audit: AuditLog | None, actor: str = "") -> Iterator[Note]:
    """One act of *actor*: call what this yields after all checks and before anything is changed.

    An act that raises after that has another entry, ``act.failed``: it names the first one and the
    kind of error. What was in one transaction is undone then; what goes over several stores may be
    half done, and is repeated. A process killed in between leaves the first entry alone. Where the
    entry cannot be written (AuditError), nothing is done. Without a log nothing is noted.
    """
    noted: list[tuple[AuditLog, int, str, str]] = []

    def note(action: str, *, subject: str = "", **facts: Fact) -> None:
        if audit is not None:
            entry = audit.append(action, actor=actor, subject=subject, **facts)
            noted.append((audit, entry.seq, action, subject))

    try:
        yield note
    except BaseException as error:
        why = type(error).__name__
        for same, seq, action, subject in noted:
            try:
                same.append(FAILED, actor=actor, subject=subject, entry=seq, what=action, error=why)
            except AuditError as trouble:
                log.error("that the act of audit entry %d failed is not noted: %s", seq, trouble)
        raise


def entries(path: Path) -> Iterator[AuditEntry]:
    """Every entry in order, each checked against the chain. Raises AuditError at the first fault.

    A last line without its end was being written when the power went, and is left out.
    """
    seq, prev = 0, GENESIS
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                entry = _parse(path, number, line[:-1])
                if entry.seq != seq + 1 or entry.prev != prev:
                    raise AuditError(
                        f"audit log {path}, line {number}: does not follow the entry before it: "
                        "something was removed, added or moved here"
                    )
                seq, prev = entry.seq, entry.hash
                yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditError(f"audit log {path} cannot be read: {error.strerror}") from error


def verify(path: Path, head: str = "") -> Verified:
    """Check the whole chain, and that the hash *head* noted earlier is still in it.

    Raises AuditError at the first fault; a file that does not exist is an empty log.
    """
    count, last, found = 0, GENESIS, head in ("", GENESIS)
    for entry in entries(path):
        count, last = entry.seq, entry.hash
        found = found or entry.hash == head
    if not found:
        raise AuditError(
            f"audit log {path}: the head {head[:16]}... noted earlier is not in it: its end was "
            "cut off, or the whole log was written anew"
        )
    return Verified(count, last, _torn_bytes(path))


def _torn_bytes(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _MOST_LINE_BYTES))
            return len(file.read().split(b"\n")[-1])
    except FileNotFoundError:
        return 0


def _check(action: str, facts: Mapping[str, Fact]) -> None:
    if not _ACTION.fullmatch(action):
        raise AuditError(f"audit: action {action!r} must be dotted words, e.g. device.revoked")
    for name, value in facts.items():
        if not _FACT.fullmatch(name) or (isinstance(value, str) and len(value) > _MOST_TEXT):
            raise AuditError(f"audit: fact {name!r} must be a word with a value <= {_MOST_TEXT}")


def _canonical(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _seal(body: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _parse(path: Path, number: int, line: bytes) -> AuditEntry:
    try:
        value = json.loads(line)
        # One spelling only: nothing can hide in a doubled key or a space.
        if _canonical(value) != line:
            raise ValueError("not in the form it was written")
        if _seal({k: v for k, v in value.items() if k != "hash"}) != value["hash"]:
            raise ValueError("its hash does not fit its content")
        return _entry(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"audit log {path}, line {number}: changed: {error}") from error


def _entry(value: Mapping[str, object]) -> AuditEntry:
    return AuditEntry(**value)  # type: ignore[arg-type] # the hash vouches for what was written
