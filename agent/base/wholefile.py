"""Small files that are there whole, or as they were before, whenever the power goes."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LEFTOVER_SECONDS = 3_600.0


def write_file(path: Path, content: bytes) -> None:
    """Put *content* at *path*, mode 0600; it is on the disk on return.

    What root writes belongs to the owner of the file that is replaced, or else of the directory:
    an agent or a broker that runs under a user of its own has to read it. Raises OSError; *path*
    is as it was then.
    """
    prefix = f".{path.name}.part-"
    clear_leftovers(path.parent, prefix)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            give_to_owner(file.fileno(), path if path.exists() else path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(draft).unlink()
        raise
    sync_directory(path.parent)


def create_file(path: Path) -> None:
    """Make an empty file at *path*, mode 0600, unless there is one. Raises OSError.

    One that is there is not opened: closing it would drop the locks that a connection of this
    process holds on it (POSIX, fcntl), and another process may then throw away a log in use.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        return
    sync_directory(path.parent)


def give_to_owner(handle: int, of: Path) -> None:
    """What root has made, open as *handle*, belongs to the owner of the file or directory *of*."""
    if os.geteuid() == 0:
        owner = of.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names in *directory* survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_leftovers(directory: Path, prefix: str) -> None:
    """Remove the drafts that a cut left in *directory*; what is being written now is younger."""
    for draft in directory.glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > LEFTOVER_SECONDS:
                draft.unlink()
