"""The page for a city's backend is true: its examples are what the code reads and writes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.base.events import FIX_COLUMNS, TIMETABLE_COLUMNS
from agent.link.uplink.state import REMEMBERED_COMMANDS
from agent.protocol import control
from agent.protocol.commands import BY_NAME, read_replay
from agent.protocol.control import read_unsigned
from agent.protocol.events.enrolment import ENROLMENT, MAX_SEALED_BYTES
from agent.protocol.events.kind import WORD
from agent.protocol.events.kinds import KINDS
from agent.protocol.events.unknown import MAX_UNKNOWN_BYTES
from agent.protocol.items import Lost, decode_item
from agent.protocol.messages import decode_ack, decode_state
from agent.protocol.signed import Role
from agent.settings.remote import DEVICES_OWN
from tests.protocol.town import Town, make_town

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- example: (\w+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
NOW_MS = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("page") / "ca")


def plain(decode: Callable[[bytes], Any]) -> Callable[[Town, Any], Any]:
    return lambda _, value: decode(json.dumps(value).encode())


def command(town: Town, value: Any) -> Any:
    signed = town.command.sign(control.COMMAND, value)
    return control.read_command(signed, town.trust, value["device"], wall_ms=NOW_MS)


def config(town: Town, value: Any) -> Any:
    signed = town.command.sign(control.CONFIG, value)
    return control.read_config(signed, town.trust, value["device"], wall_ms=NOW_MS)


READERS: dict[str, Callable[[Town, Any], Any]] = {
    "event": lambda _, value: decode_item(value).event,  # type: ignore[union-attr]
    "lost": lambda _, value: decode_item(value),
    "ack": plain(decode_ack),
    "state": plain(decode_state),
    "command": command,
    "outcome": plain(control.decode_result),
    "unsigned": lambda _, value: read_unsigned(json.dumps(value).encode(), "bus-7"),
    "config": config,
    "report": plain(control.decode_report),
}


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_is_what_the_code_reads(name: str, text: str, town: Town) -> None:
    found = READERS[name](town, json.loads(text))
    assert isinstance(found, Lost) == (name == "lost")


def test_there_is_an_example_of_everything() -> None:
    assert {name for name, _ in EXAMPLES} == set(READERS)
    unsigned = json.loads(next(text for name, text in EXAMPLES if name == "unsigned"))
    assert read_replay(unsigned).last == 90


def test_every_kind_of_event_is_told_and_shown() -> None:
    shown = {json.loads(text)["kind"] for name, text in EXAMPLES if name == "event"}
    for kind in KINDS:
        assert all(f"`{word}`" in PAGE for word in kind.words), kind.words
        # What is sealed looks like noise, so there is no example of that one.
        assert kind is ENROLMENT or shown.intersection(kind.words), kind.words
    assert f"{MAX_UNKNOWN_BYTES:,}" in PAGE
    assert WORD.pattern.pattern == "[a-z0-9_]{1,32}"
    assert "at most 32 of `a-z0-9_`" in PAGE
    for column in (*TIMETABLE_COLUMNS, *FIX_COLUMNS):
        assert column in PAGE, column


def test_numbers_and_names_on_the_page_are_the_codes() -> None:
    for role in (Role.COMMAND, Role.GALLERY):
        assert role.value.dotted_string in PAGE
    for name in (*BY_NAME, *control.STATES):
        assert f"`{name}`" in PAGE, name
    for topic in ("cmd", "cfg"):
        assert f"kp1/{{device}}/d/{topic}" in PAGE
    assert f"{MAX_SEALED_BYTES:,}" in PAGE
    assert f"newest {REMEMBERED_COMMANDS}" in PAGE
    for setting in DEVICES_OWN:
        section, _, key = setting.partition(".")
        assert f"`{setting}`" in PAGE or f"`{key}`" in PAGE or f"`{section}.*`" in PAGE, setting
