"""Who may become which device: one-use claims, the certificates issued on them, revocations.

``registry.db`` in the authority's directory; every method is one transaction. A claim is kept as
its SHA-256 only (100 random bits need no salt). It is bound to the first key that uses it: that
key gets the same certificate again after a cut, any other is refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.errors import CityError, UsageError
from agent.base.sqlite import FileKind, open_file, transaction
from agent.base.values import PURPOSES, Pending
from agent.cityos.pki.ca import SERVICE_PREFIX
from agent.cityos.pki.devicestates import DeviceState, listed

if TYPE_CHECKING:
    from sqlite_utils import Database as Utilities

# Crockford's base 32: nothing that is mistaken for something else when it is read out.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CLAIM_LETTERS, _GROUP = 20, 5
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SERIAL = re.compile(r"[!-~]{1,64}")
RETRY_SECONDS = 5.0


def _claims(db: Utilities) -> None:
    # The tables may be there already: they were made before steps were recorded.
    for statement in (
        "CREATE TABLE IF NOT EXISTS claim ("
        " digest TEXT PRIMARY KEY, device TEXT NOT NULL, serial TEXT NOT NULL,"
        " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
        " approved INTEGER NOT NULL, key TEXT, certificate TEXT)",
        "CREATE TABLE IF NOT EXISTS certificate ("
        " number TEXT PRIMARY KEY, device TEXT NOT NULL, serial TEXT NOT NULL, pem TEXT NOT NULL,"
        " issued_ms INTEGER NOT NULL, ends_ms INTEGER NOT NULL, revoked_ms INTEGER)",
        "CREATE INDEX IF NOT EXISTS certificate_device ON certificate (device)",
        "CREATE TABLE IF NOT EXISTS purpose (device TEXT PRIMARY KEY, purpose TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS broker (directory TEXT PRIMARY KEY, pid_file TEXT NOT NULL)",
    ):
        db.execute(statement)


REGISTRY = FileKind(
    name="registry",
    error=CityError,
    # Never a new one by itself: it would not know who was revoked.
    remedy="end the city's services, move it aside, and put the newest copy of it in its place",
    steps={"1_claims": _claims},
)


# Writes the audit entry of a change, after all checks and before the change is committed: rather an
# entry too many than a change that nobody noted.
Note = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not granted; ``status`` is HTTP's, ``reason`` is for a technician."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the registry keeps it. ``number`` is its serial number in hexadecimal."""

    number: str
    pem: str
    ends_ms: int


class Registry:
    """Owner of ``registry.db`` in *directory*; several processes may. Raises CityError."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "registry.db"
        with self._named():
            self._db = open_file(self._path, REGISTRY)
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        self._db.close()

    def claim(
        self,
        device: str,
        serial: str,
        hours: float,
        now_ms: int,
        note: Note,
        *,
        by_hand: bool = False,
        purpose: str = "",
    ) -> str:
        """A new claim for *device* on the hardware *serial*; claims before it are void.

        *by_hand*: even then somebody has to ``approve``. *purpose* is what ``serve`` takes.
        """
        if not _DEVICE.fullmatch(device) or device.lower().startswith(SERVICE_PREFIX):
            raise UsageError(
                f"device {device!r}: a name is 1 to 64 letters, digits, '_', '.' and '-', begins "
                f"with a letter or digit, and not with {SERVICE_PREFIX!r}: that is the city's own"
            )
        if not _SERIAL.fullmatch(serial):
            raise UsageError(f"serial {serial!r}: must be 1 to 64 printable ASCII characters")
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_CLAIM_LETTERS))
        with self._transaction() as db:
            db.execute("DELETE FROM claim WHERE device = ?", (device,))
            db.execute(
                "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (
                    _digest(code),
                    device,
                    serial,
                    now_ms,
                    now_ms + round(hours * 3_600_000),
                    int(not by_hand),
                ),
            )
            if purpose:
                _serve(db, device, purpose)
            note()
        return "-".join(code[i : i + _GROUP] for i in range(0, _CLAIM_LETTERS, _GROUP))

    def use(
        self,
        code: str,
        device: str,
        serial: str,
        key: str,
        now_ms: int,
        issue: Callable[[], Issued],
    ) -> Issued | Pending | Refused:
        """Turn a claim into a certificate, once. *key* is the SHA-256 of the public key.

        *issue* signs; its certificate is committed before it is given out.
        """
        with self._transaction() as db:
            row = db.execute("SELECT * FROM claim WHERE digest = ?", (_digest(code),)).fetchone()
            refused = _refusal(row, device, serial, key, now_ms)
            if refused is not None:
                return refused
            if row["certificate"] is not None:
                return self._certificate(db, row["certificate"])
            db.execute("UPDATE claim SET key = ? WHERE digest = ?", (key, row["digest"]))
            if not row["approved"]:
                return Pending(RETRY_SECONDS)
            issued = issue()
            self._keep(db, issued, device, serial, now_ms)
            db.execute(
                "UPDATE claim SET certificate = ? WHERE digest = ?", (issued.number, row["digest"])
            )
            return issued

    def renew(
        self, number: str, device: str, serial: str, now_ms: int, issue: Callable[[], Issued]
    ) -> Issued | Refused:
        """The next certificate for the holder of certificate *number*."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM certificate WHERE number = ?", (number,)).fetchone()
            if row is None:
                return Refused(403, "this certificate was not issued here")
            if row["revoked_ms"] is not None:
                return Refused(403, f"device {row['device']} was revoked; it needs a new claim")
            if (row["device"], row["serial"]) != (device, serial):
                return Refused(403, "a renewal keeps the name and serial of the certificate in use")
            issued = issue()
            self._keep(db, issued, device, serial, now_ms)
            return issued

    def approve(self, device: str, note: Note) -> bool:
        """Let the request that waits for *device* through; False if there is no such claim."""
        with self._transaction() as db:
            found = db.execute(
                "UPDATE claim SET approved = 1 WHERE device = ? AND approved = 0", (device,)
            )
            if found.rowcount:
                note()
            return found.rowcount > 0

    def revoke(self, device: str, now_ms: int, note: Note) -> int:
        """Void every certificate and claim of *device*; returns how many of both there were."""
        with self._transaction() as db:
            claims = db.execute("DELETE FROM claim WHERE device = ?", (device,)).rowcount
            certificates = db.execute(
                "UPDATE certificate SET revoked_ms = ? WHERE device = ? AND revoked_ms IS NULL",
                (now_ms, device),
            ).rowcount
            if claims + certificates:
                note()
            return claims + certificates

    def serve(self, device: str, purpose: str, note: Note) -> None:
        """*device* may have the gallery of *purpose*, "bus" or "hall", and no other."""
        with self._transaction() as db:
            _serve(db, device, purpose)
            note()

    def serving(self, purpose: str, now_ms: int) -> list[str]:
        """Active devices that may have the gallery of *purpose*, by name."""
        with self._named():
            rows = self._db.execute(
                "SELECT DISTINCT device FROM certificate JOIN purpose USING (device) "
                "WHERE purpose = ? AND revoked_ms IS NULL AND ends_ms > ? ORDER BY device",
                (purpose, now_ms),
            )
            return [row["device"] for row in rows]

    def may_have(self, device: str, number: str, purpose: str) -> bool:
        """Whether *device* with its certificate *number*, not revoked, serves *purpose*."""
        with self._named():
            row = self._db.execute(
                "SELECT 1 FROM certificate JOIN purpose USING (device) WHERE number = ? "
                "AND device = ? AND revoked_ms IS NULL AND purpose = ?",
                (number, device, purpose),
            ).fetchone()
        return row is not None

    def purpose(self, device: str) -> str:
        """Whose gallery *device* may have; empty for none."""
        with self._named():
            row = self._db.execute("SELECT purpose FROM purpose WHERE device = ?", (device,))
            found = row.fetchone()
        return str(found["purpose"]) if found else ""

    def revoked(self, now_ms: int) -> list[tuple[str, int]]:
        """(number, Unix ms) of every revoked certificate that has not ended by itself."""
        with self._named():
            rows = self._db.execute(
                "SELECT number, revoked_ms FROM certificate WHERE revoked_ms IS NOT NULL "
                "AND ends_ms > ? ORDER BY revoked_ms, number",
                (now_ms,),
            )
            return [(row["number"], row["revoked_ms"]) for row in rows]

    def banned(self) -> list[str]:
        """Devices of which nothing but revoked certificates is left."""
        with self._named():
            rows = self._db.execute(
                "SELECT device FROM certificate GROUP BY device "
                "HAVING SUM(revoked_ms IS NULL) = 0 ORDER BY device"
            )
            return [row["device"] for row in rows]

    def devices(self, now_ms: int) -> list[DeviceState]:
        """Every device there is a claim or a certificate for, by name."""
        with self._named():
            return listed(self._db, now_ms)

    def add_broker(self, directory: Path, pid_file: Path | None) -> None:
        """Remember where a broker's rules lie, so that a revocation reaches them."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO broker VALUES (?, ?)",
                (str(directory), str(pid_file) if pid_file else ""),
            )

    def brokers(self) -> list[tuple[Path, Path | None]]:
        """(directory, file with the process id) of every broker."""
        with self._named():
            rows = self._db.execute("SELECT * FROM broker ORDER BY directory").fetchall()
        return [
            (Path(row["directory"]), Path(row["pid_file"]) if row["pid_file"] else None)
            for row in rows
        ]

    def _keep(
        self, db: sqlite3.Connection, issued: Issued, device: str, serial: str, now_ms: int
    ) -> None:
        db.execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (issued.number, device, serial, issued.pem, now_ms, issued.ends_ms),
        )

    def _certificate(self, db: sqlite3.Connection, number: str) -> Issued:
        row = db.execute("SELECT * FROM certificate WHERE number = ?", (number,)).fetchone()
        return Issued(row["number"], row["pem"], row["ends_ms"])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._named(), transaction(self._db):
            yield self._db

    def _named(self) -> AbstractContextManager[None]:
        return REGISTRY.named(self._path)


def _serve(db: sqlite3.Connection, device: str, purpose: str) -> None:
    if purpose not in PURPOSES:
        raise UsageError(f"purpose {purpose!r}: choose from {', '.join(PURPOSES)}")
    db.execute("INSERT OR REPLACE INTO purpose VALUES (?, ?)", (device, purpose))


def _digest(code: str) -> str:
    plain = "".join(code.split()).replace("-", "").upper()
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


def _refusal(
    row: sqlite3.Row | None, device: str, serial: str, key: str, now_ms: int
) -> Refused | None:
    if row is None:
        return Refused(401, "there is no such claim: mistyped, void, or replaced by a newer one")
    if row["expires_ms"] <= now_ms:
        return Refused(403, "the claim has expired; ask for a new one (kaopass city claim)")
    if row["device"] != device:
        return Refused(403, f"the claim is for device {row['device']}, not for {device}")
    if row["serial"] != serial:
        return Refused(403, f"the claim is for hardware {row['serial']}, but this one is {serial}")
    if row["key"] not in (None, key):
        return Refused(403, "the claim has been used already, with another key")
    return None
