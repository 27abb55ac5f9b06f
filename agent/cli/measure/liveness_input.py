"""What the commands of ``kaopass liveness`` read: settings, files, kinds of attack."""

from __future__ import annotations

from pathlib import Path

import click

from agent.base.errors import UsageError
from agent.settings.model import Settings, load

paths_type = click.Path(path_type=Path)


def settings_of(settings_file: Path | None) -> Settings:
    """The settings; without a file the default pack's research licence is assumed, to try out."""
    return load(settings_file, None if settings_file else {"models": {"licence": "research"}})


def files_under(path: Path) -> list[Path]:
    """The pictures and clips of a folder and all below it, or the file itself."""
    from agent.hw.cameras.file import VIDEO_SUFFIXES
    from agent.hw.cameras.shared.pictures import PICTURE_SUFFIXES

    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    known = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in known)
    if not files:
        raise UsageError(
            f"{path}: no pictures or clips in it; these can be read: {', '.join(known)}"
        )
    return files


def kinds_under(path: Path) -> dict[str, list[Path]]:
    """Each subfolder's files by its name."""
    if not path.is_dir():
        raise UsageError(f"{path}: must be a folder with one subfolder for each kind of attack")
    kinds = {
        folder.name: files_under(folder) for folder in sorted(path.iterdir()) if folder.is_dir()
    }
    if not kinds:
        raise UsageError(f"{path}: has no subfolder; put each kind of attack into one")
    return kinds
