"""Folders and archives that hold model files: one way to copy a member out, whatever the kind.

Members are only ever streamed to a file this project names itself, never unpacked to their own
names; an archive that holds a name leading outside is refused all the same.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from agent.base.errors import ModelError

MAX_MEMBERS = 20_000
CHUNK_BYTES = 1 << 20
ZIP_SUFFIXES = (".zip", ".whl")
TAR_SUFFIXES = (".tar.gz", ".tgz")

Write = Callable[[bytes], object]


class Holding(Protocol):
    """Something that may hold model files."""

    def names(self) -> list[str]:
        """Paths of the files inside, with forward slashes."""

    def copy(self, name: str, write: Write, max_bytes: int) -> None:
        """Pass the file *name* to *write*, chunk by chunk. Raises ModelError."""


class Folder:
    """A folder; *only* names the files that matter in one too large to list."""

    def __init__(self, path: Path, only: Sequence[str] | None = None) -> None:
        self._path = path
        self._only = only

    def names(self) -> list[str]:
        if self._only is not None:
            return [name for name in self._only if (self._path / name).is_file()]
        found = []
        for path in self._path.rglob("*"):
            if path.is_file():
                found.append(path.relative_to(self._path).as_posix())
            if len(found) > MAX_MEMBERS:
                raise _too_many(self._path)
        return found

    def copy(self, name: str, write: Write, max_bytes: int) -> None:
        with _errors_named(self._path), (self._path / name).open("rb") as stream:
            _pump(stream, write, max_bytes, f"{self._path / name}")


class Zip:
    """A .zip or .whl archive."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        with _errors_named(self._path), zipfile.ZipFile(self._path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _too_many(self._path)
            return [_safe(self._path, m.filename) for m in members if not m.is_dir()]

    def copy(self, name: str, write: Write, max_bytes: int) -> None:
        with (
            _errors_named(self._path),
            zipfile.ZipFile(self._path) as archive,
            archive.open(name) as stream,
        ):
            _pump(stream, write, max_bytes, f"{self._path}: {name}")


class Tar:
    """A .tar.gz or .tgz archive."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        found = []
        with _errors_named(self._path), tarfile.open(self._path, "r:gz") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise _too_many(self._path)
                name = _safe(self._path, member.name)
                # A link would make one name stand for another file, perhaps outside.
                if member.isfile():
                    found.append(name)
        return found

    def copy(self, name: str, write: Write, max_bytes: int) -> None:
        with _errors_named(self._path), tarfile.open(self._path, "r:gz") as archive:
            stream = archive.extractfile(name)
            if stream is None:
                raise ModelError(f"{self._path}: {name} is not a plain file")
            _pump(stream, write, max_bytes, f"{self._path}: {name}")


def open_holding(path: Path) -> Holding:
    """The folder or archive at *path*. Raises ModelError if it is neither."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise ModelError(f"{path}: there is no such folder or archive")
    if path.name.lower().endswith(ZIP_SUFFIXES):
        return Zip(path)
    if path.name.lower().endswith(TAR_SUFFIXES):
        return Tar(path)
    kinds = ", ".join(ZIP_SUFFIXES + TAR_SUFFIXES)
    raise ModelError(f"{path}: neither a folder nor an archive ({kinds})")


def choose(names: list[str], wanted: str, file_name: str) -> str | None:
    """Which of *names* is meant: *wanted*, else the only one called like it or *file_name*."""
    if wanted in names:
        return wanted
    for last in (PurePosixPath(wanted).name, file_name):
        same = [name for name in names if PurePosixPath(name).name == last]
        if len(same) == 1:
            return same[0]
    return None


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise ModelError(f"{path}: damaged or not the archive its name says: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        # zipfile's way to refuse an encrypted member or a compression it does not know.
        raise ModelError(f"{path}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _pump(stream: IO[bytes], write: Write, max_bytes: int, what: str) -> None:
    total = 0
    while chunk := stream.read(CHUNK_BYTES):
        total += len(chunk)
        if total > max_bytes:
            raise ModelError(f"{what}: more than the {max_bytes} bytes it should have")
        write(chunk)


def _safe(path: Path, name: str) -> str:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]:
        raise ModelError(f"{path}: refused, it holds a name that leads outside: {name!r}")
    return name


def _too_many(path: Path) -> ModelError:
    return ModelError(f"{path}: refused, it holds more than {MAX_MEMBERS} files")
