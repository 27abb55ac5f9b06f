"""The device's identity on disk: complete generations beside each other, one of them current.

::

    identity/current -> g-3f2a91c0     replaced by one rename: the only moment that counts
    identity/g-3f2a91c0/               key.pem, certificate.pem, ca.pem, plan.json, trust.pem

A generation is begun with its key and the plan it serves, filled step by step, and becomes current
whole. One that was never finished is found again by its plan: a repeat goes on with the same key.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.base.errors import ProvisioningError
from agent.base.wholefile import sync_directory, write_file

CURRENT = "current"
KEY, CERTIFICATE, AUTHORITIES, TRUST, PLAN = (
    "key.pem",
    "certificate.pem",
    "ca.pem",
    "trust.pem",
    "plan.json",
)
_GENERATION, _DRAFT = "g-", "draft-"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a generation is for. ``proof`` tells one claim (its hash) or renewal from another."""

    kind: str  # "claim" or "renewal"
    server: str
    device: str
    serial: str
    proof: str


class Generation:
    """One key and what has come of it so far. Files are whole and on the disk, or not there."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    @property
    def key(self) -> Path:
        return self.folder / KEY

    @property
    def certificate(self) -> Path:
        return self.folder / CERTIFICATE

    @property
    def authorities(self) -> Path:
        """Authorities of the broker, and of the EST server from the second time on."""
        return self.folder / AUTHORITIES

    def read(self, name: str) -> bytes | None:
        """The content of file *name*, None if it is not there yet. Raises ProvisioningError."""
        with _named(self.folder):
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Keep *content* as file *name*, mode 0600. Raises ProvisioningError."""
        with _named(self.folder):
            write_file(self.folder / name, content)


class IdentityFolder:
    """Owner of the directory ``identity/`` in the state."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def current(self) -> Generation | None:
        """The identity in use, None if the device has none. Raises ProvisioningError."""
        with _named(self._directory):
            link = self._directory / CURRENT
            if not link.is_symlink():
                return None
            # Resolved once: its files stay together even if it is replaced meanwhile.
            folder = self._directory / link.readlink().name
        plan = _plan(folder)
        if plan is None:
            raise ProvisioningError(
                f"identity {folder} is damaged: no plan in it; provision this device again with a "
                "new claim"
            )
        return Generation(folder, plan)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process changes the identity at a time. Raises ProvisioningError."""
        with _named(self._directory):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._directory.parent)
            handle = os.open(
                self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ProvisioningError(
                    f"identity {self._directory}: another command or the running agent is at work "
                    "on it; try again in a minute"
                ) from error
            yield
        finally:
            os.close(handle)

    def begun(self, plan: Plan) -> Generation | None:
        """The generation of exactly this *plan*, finished or not. Raises ProvisioningError."""
        with _named(self._directory):
            for folder in sorted(self._directory.glob(f"{_GENERATION}*")):
                if _plan(folder) == plan and (folder / KEY).exists():
                    return Generation(folder, plan)
        return None

    def begin(self, plan: Plan, key: bytes) -> Generation:
        """A new generation of *plan* with its private *key*; appears whole or not at all."""
        with _named(self._directory):
            draft = Path(tempfile.mkdtemp(dir=self._directory, prefix=_DRAFT))
            write_file(draft / KEY, key)
            write_file(draft / PLAN, json.dumps(asdict(plan)).encode())
            folder = self._directory / f"{_GENERATION}{secrets.token_hex(4)}"
            draft.rename(folder)
            sync_directory(self._directory)
        return Generation(folder, plan)

    def commit(self, generation: Generation) -> None:
        """Make *generation* the current one: before or after, never between."""
        with _named(self._directory):
            link = self._directory / f"{_DRAFT}link"
            link.unlink(missing_ok=True)
            link.symlink_to(generation.folder.name)
            sync_directory(self._directory)
            link.replace(self._directory / CURRENT)
            sync_directory(self._directory)

    def clean(self) -> None:
        """Remove all but the current generation: old keys and attempts never finished."""
        current = self.current()
        keep = current.folder.name if current else ""
        with _named(self._directory):
            for entry in self._directory.iterdir():
                if entry.name.startswith((_GENERATION, _DRAFT)) and entry.name != keep:
                    if entry.is_symlink():
                        entry.unlink()
                    else:
                        shutil.rmtree(entry)
            sync_directory(self._directory)


def _plan(folder: Path) -> Plan | None:
    try:
        return Plan(**json.loads((folder / PLAN).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProvisioningError(
            f"identity {folder}: {error.strerror or error}; is the state directory there and "
            "writable for this user?"
        ) from error
