"""What a built wheel carries: every module, and the files that ship beside the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.base.resources import data_path

CHECKOUT = Path(__file__).parents[2]
SOURCES = ("agent", "models", "firmware_config", "systemd")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that no build folder lands in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        shutil.copytree(
            CHECKOUT / name,
            copy / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(copy: Path) -> set[str]:
    """The names in a wheel built from the copy."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--wheel-dir", "out", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((copy / "out").glob("kaopass-*.whl"))) as archive:
        return set(archive.namelist())


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(copy: Path, wheel: set[str]) -> None:
    """Modules, and whatever pages, sounds or texts lie beside them."""
    needed = {f"agent/{name}" for name in files_below(copy / "agent")}
    needed = {name for name in needed if not name.startswith("agent/_data/")}
    assert len(needed) > 20
    assert needed - wheel == set()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["models", "firmware_config", "systemd"])
def test_the_folders_beside_the_code_are_in_the_wheel(
    copy: Path, wheel: set[str], folder: str
) -> None:
    needed = {f"agent/_data/{folder}/{name}" for name in files_below(copy / folder)}
    assert needed
    assert needed - wheel == set()


@pytest.mark.slow
def test_nothing_else_is_in_the_wheel(wheel: set[str]) -> None:
    """No tests, no weights, nothing outside the one package."""
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"agent", "kaopass"}
    assert not [name for name in wheel if name.endswith((".onnx", ".db", ".pyc"))]


@pytest.mark.parametrize("folder", ["models", "firmware_config", "systemd"])
def test_a_checkout_reads_the_same_folders_in_place(folder: str) -> None:
    assert data_path(folder).resolve() == CHECKOUT / folder
