"""Scripts run in a copy of their folder, with stand-ins for the programs they call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def program(path: Path, body: str) -> None:
    """A stand-in: a shell script which first writes its name and arguments to `calls`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\necho "{path.name} $*" >> "$CALLS"\n{body}\n')
    path.chmod(0o755)


class Copy:
    """Some files of the checkout in a folder, and `bin/`, which comes first on the search path."""

    def __init__(self, folder: Path, *files: str) -> None:
        self.folder = folder / "checkout"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._calls = folder / "calls"
        for name in files:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, self.folder / name)

    def environ(self, **more: str) -> dict[str, str]:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "APT_WAIT_SECONDS")}
        return {**own, "PATH": path, "CALLS": str(self._calls), **more}

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / script), *arguments],
            capture_output=True,
            text=True,
            env=self.environ(**environ),
            check=False,
        )

    def calls(self) -> list[str]:
        """What the stand-ins were called with, in order."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []
