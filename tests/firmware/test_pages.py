"""The technician's pages name only commands and files that exist, the same in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.cli.main import COMMANDS

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "docs" / name for name in ("technician.md", "technician.ja.md")]
COMMAND = re.compile(r"(?:^|[`\s])kaopass ([a-z]+)", re.MULTILINE)


def code(page: Path) -> str:
    """What is typed: indented blocks and `inline code`."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ {7}(\S.*)$", text, re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_the_page_exists(page: Path) -> None:
    named = set(COMMAND.findall(code(page)))
    assert {"status", "settings", "models", "gallery", "journal"} <= named
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_script_on_the_page_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    scripts = re.findall(r"\bscripts/[a-z-]+", code(page))
    assert links
    assert scripts
    for link in links:
        assert (page.parent / link).exists(), link
    for script in scripts:
        assert (CHECKOUT / script).exists(), script


def test_both_languages_give_the_same_commands_in_the_same_order() -> None:
    english, japanese = (
        re.findall(r"^ {7}(\S.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        for page in PAGES
    )
    assert english == japanese


def test_the_units_socket_is_where_the_boards_command_asks() -> None:
    """The wrapper and the unit must mean one socket; settings derive it from RUNTIME_DIRECTORY."""
    wrapper = (CHECKOUT / "firmware_config/common/bin/kaopass").read_text(encoding="utf-8")
    unit = (CHECKOUT / "systemd/kaopass-agent.service").read_text(encoding="utf-8")
    assert "RUNTIME_DIRECTORY=/run/kaopass" in wrapper
    assert "\nRuntimeDirectory=kaopass\n" in unit
