"""The constraints hold one version of whatever the project asks for, on each of its Pythons."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Where a Pi has them, they are the board's own packages: scripts/install-board asks apt for them.
OF_THE_BOARD = {"pi"}


def project() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return read


def lines(name: str) -> Iterator[Requirement]:
    for line in (CHECKOUT / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


def applies(requirement: Requirement, python: str) -> bool:
    machine = {"platform_machine": "aarch64", "implementation_name": "cpython", "extra": ""}
    versions = {"python_version": python, "python_full_version": f"{python}.1"}
    return requirement.marker is None or requirement.marker.evaluate({**machine, **versions})


def asked_for(*extras: str) -> list[Requirement]:
    asked = [Requirement(line) for line in project()["dependencies"]]
    for extra in extras:
        asked += [Requirement(line) for line in project()["optional-dependencies"][extra]]
    return [requirement for requirement in asked if requirement.name != "kaopass"]


def check(constraints: str, asked: list[Requirement], python: str) -> None:
    held: dict[str, str] = {}
    for line in lines(constraints):
        if applies(line, python):
            name = canonicalize_name(line.name)
            assert name not in held, f"two versions of {name}"
            (specifier,) = line.specifier
            assert specifier.operator == "==", line
            held[name] = specifier.version
    for requirement in asked:
        if applies(requirement, python):
            version = held.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} is not held: run scripts/lock"
            assert requirement.specifier.contains(version), f"{requirement}: run scripts/lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_held_for_the_checkout(python: str) -> None:
    extras = set(project()["optional-dependencies"]) - OF_THE_BOARD
    check("constraints.txt", asked_for(*extras), python)


@pytest.mark.parametrize("python", PYTHONS[:3])
def test_every_dependency_of_a_door_is_held_beside_numpy_1(python: str) -> None:
    one = Requirement("numpy<2")
    check("firmware_config/common/constraints-numpy1.txt", [*asked_for(), one], python)
