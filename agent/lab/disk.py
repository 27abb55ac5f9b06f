"""What the benchmarks that write to a disk have in common: which one, and how far they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh directory inside it
_PREFIX = "kaopass-bench-"

Progress = Callable[[str, float], None]  # what is under way, and how far it is: 0 to 1


@contextmanager
def fresh_folder(within: Path) -> Iterator[Path]:
    """A directory inside *within*, deleted in the end."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=within) as name:
        yield Path(name)


@contextmanager
def quick_folder(needed_bytes: int, otherwise: Path) -> Iterator[Path]:
    """The same in memory if there is room for it, for what the disk's speed has no part in."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > needed_bytes
    with fresh_folder(_MEMORY if roomy else otherwise) as folder:
        yield folder
