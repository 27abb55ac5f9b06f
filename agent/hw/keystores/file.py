"""Keys as 0600 files."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from agent.base.drivers import KeySourceDriver
from agent.base.errors import KeySourceError
from agent.base.wholefile import sync_directory

KEY_BYTES = 32
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
HEX = re.compile(rb"[0-9A-Fa-f]{64}")


class FileKeySource:
    """Keys as files that only their owner may read: 32 raw bytes, or 64 hexadecimal digits.

    Protects against other users of the machine, not against whoever holds the storage card.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __str__(self) -> str:
        return str(self._directory)

    def load(self, name: str) -> bytes | None:
        """The key called *name*, None if there is no such file.

        Raises KeySourceError if the file is open to others, belongs to another user, has the
        wrong size or cannot be read.
        """
        path = self._path(name)
        try:
            # Not blocking, in case somebody put a pipe there.
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        with os.fdopen(handle, "rb") as file:
            # The opened file is examined, so that it cannot be exchanged in between.
            self._refuse_unsafe(path, os.fstat(file.fileno()))
            try:
                return decoded(path, file.read(1024))
            except OSError as error:
                raise unreadable(path, error) from error

    def create(self, name: str) -> bytes:
        """Make a random key and keep it; it is on the disk, whole, when this returns.

        Raises KeySourceError if there is one of that name or it cannot be written.
        """
        path = self._path(name)
        key = secrets.token_bytes(KEY_BYTES)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_unsafe_directory()
            handle, draft = tempfile.mkstemp(dir=self._directory, prefix=f".{name}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(key)
                    file.flush()
                    os.fsync(file.fileno())
                # Unlike a rename, a link fails if the name is taken; a cut leaves all or nothing.
                path.hardlink_to(draft)
            finally:
                Path(draft).unlink()
            sync_directory(self._directory)
            sync_directory(self._directory.parent)
        except FileExistsError as error:
            raise KeySourceError(
                f"key {path} exists already; it is never replaced, because what was written"
                " under it would be lost"
            ) from error
        except OSError as error:
            raise KeySourceError(
                f"key {path} cannot be written: {error.strerror}; make {self._directory} a"
                " directory that the agent's user may write"
            ) from error
        return key

    def promote(self, name: str, to: str) -> None:
        """Make the key called *name* the one called *to*, in one step; the old one is gone.

        Raises KeySourceError if it cannot be done; both are as they were then.
        """
        try:
            self._path(name).replace(self._path(to))
            sync_directory(self._directory)
        except OSError as error:
            raise KeySourceError(
                f"key {self._path(to)} cannot be replaced: {error.strerror}; make"
                f" {self._directory} a directory that the agent's user may write"
            ) from error

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise KeySourceError(
                f"key name {name!r}: must be lower-case letters, digits and hyphens"
            )
        return self._directory / name

    def _refuse_unsafe(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise KeySourceError(f"key {path} is no regular file; put a file of 32 bytes there")
        if status.st_uid not in (os.geteuid(), 0):
            raise KeySourceError(
                f"key {path} belongs to user {status.st_uid}, who could change it; run: "
                f"chown {os.geteuid()} {path}"
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise KeySourceError(
                f"key {path} has mode {mode:04o}, so others may use it; run: chmod 0600 {path}"
            )

    def _refuse_unsafe_directory(self) -> None:
        mode = stat.S_IMODE(self._directory.stat().st_mode)
        if mode & 0o022:
            raise KeySourceError(
                f"key directory {self._directory} has mode {mode:04o}, so others could exchange"
                f" keys; run: chmod 0700 {self._directory}"
            )


def decoded(path: Path, content: bytes) -> bytes:
    """The key in *content*: 32 raw bytes, or 64 hexadecimal digits with white space around them.

    Raises KeySourceError, which names *path*.
    """
    if len(content) == KEY_BYTES:
        return content
    digits = content.strip()
    if HEX.fullmatch(digits):
        return bytes.fromhex(digits.decode("ascii"))
    raise KeySourceError(
        f"key {path} is {len(content)} bytes long; a key is 32 raw bytes or 64 hexadecimal digits;"
        " put the right one back from its backup"
    )


def unreadable(path: Path, error: OSError) -> KeySourceError:
    return KeySourceError(
        f"key {path} cannot be read: {error.strerror}; run this as the agent's user, for example"
        " with sudo -u kaopass"
    )


DRIVER = KeySourceDriver(
    FileKeySource,
    FileKeySource,
    protects="other users of this machine; not whoever holds the storage card",
    file="device-key",
)
