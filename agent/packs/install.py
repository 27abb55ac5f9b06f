"""Installing a pack: files come whole, checked and synced, or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import ModelError
from agent.base.wholefile import clear_leftovers, sync_directory
from agent.packs.archives import Holding, choose, open_holding
from agent.packs.manifest import ModelFile, Pack
from agent.packs.sources import Clients, Progress, fetch
from agent.packs.store import check_file

TEMPORARY = ".part-"


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did. ``source`` is empty when everything was there already."""

    folder: Path
    files: tuple[str, ...]
    source: str


def install(
    pack: Pack,
    directory: Path,
    *,
    given: Path | None = None,
    clients: Clients | None = None,
    progress: Progress | None = None,
) -> Installed:
    """Put the files of *pack* into ``directory/<pack>/``; those that are right stay untouched.

    *given* is a folder or archive to take them from; without it the manifest's sources are tried
    in order. Every file is written beside its place, compared with its sha256, synced and renamed,
    and none is renamed before all are there. Raises ModelError saying what each source lacked.
    """
    report = progress or _silent
    folder = directory / pack.name
    wanted = [file for file in pack.files if not _is_right(pack, file, folder / file.name)]
    if not wanted:
        return Installed(folder, (), "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be made: {error.strerror}") from error
    clear_leftovers(folder, TEMPORARY)
    if given is not None:
        _take(pack, wanted, open_holding(given), {}, folder, report)
        return Installed(folder, tuple(file.name for file in wanted), str(given))
    reasons = []
    for source in pack.sources:
        with tempfile.TemporaryDirectory(prefix="kaopass-models-") as scratch:
            try:
                holding = fetch(source, Path(scratch), clients or Clients(), report)
                _take(pack, wanted, holding, source.paths, folder, report)
            except ModelError as error:
                reasons.append(f"{source}: {error}")
                continue
            return Installed(folder, tuple(file.name for file in wanted), str(source))
    raise ModelError(
        "\n  ".join([f"model pack {pack.name!r}: no source could supply it", *reasons])
    )


def _silent(what: str, done_bytes: int, all_bytes: int) -> None:
    del what, done_bytes, all_bytes


def _is_right(pack: Pack, file: ModelFile, path: Path) -> bool:
    try:
        check_file(pack, file, path)
    except ModelError:
        return False
    return True


def _take(
    pack: Pack,
    wanted: list[ModelFile],
    holding: Holding,
    paths: dict[str, str],
    folder: Path,
    progress: Progress,
) -> None:
    """Stage every wanted file of *holding*, then rename all of them into place."""
    total = sum(file.bytes for file in wanted)
    moved = 0

    def count(chunk_bytes: int) -> None:
        nonlocal moved
        moved += chunk_bytes
        progress(pack.name, moved, total)

    names = holding.names()
    staged: dict[Path, Path] = {}
    try:
        for file in wanted:
            member = choose(names, paths.get(file.role, file.name), file.name)
            if member is None:
                raise ModelError(f"{file.name} is not in it")
            staged[_stage(file, holding, member, folder, count)] = folder / file.name
        for temporary, final in list(staged.items()):
            temporary.replace(final)
            del staged[temporary]
        sync_directory(folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def _stage(
    file: ModelFile, holding: Holding, member: str, folder: Path, moved: Callable[[int], None]
) -> Path:
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=f"-{file.name}", dir=folder)
    temporary = Path(name)
    digest = hashlib.sha256()
    size = 0
    try:
        with os.fdopen(handle, "wb") as out:

            def write(chunk: bytes) -> None:
                nonlocal size
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                moved(len(chunk))

            holding.copy(member, write, file.bytes)
            out.flush()
            os.fsync(out.fileno())
        if size < file.bytes:
            raise ModelError(f"{file.name}: truncated, {size} of {file.bytes} bytes")
        found = digest.hexdigest()
        if found != file.sha256:
            raise ModelError(
                f"{file.name}: altered, expected sha256 {file.sha256[:8]}..., found {found[:8]}..."
            )
        temporary.chmod(0o644)
    except BaseException:
        # Whatever the reason, even Ctrl-C: no half file stays behind.
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary
