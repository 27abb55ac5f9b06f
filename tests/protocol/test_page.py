"""The page for a city's backend is true: its examples are what the code reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agent.base.events import FIX_COLUMNS, TIMETABLE_COLUMNS
from agent.lab.description import MESSAGES
from agent.link.uplink.state import REMEMBERED_COMMANDS
from agent.protocol import control
from agent.protocol.commands import BY_NAME, COMMANDS, Argument, CommandSpec, read_replay
from agent.protocol.events.enrolment import ENROLMENT, MAX_SEALED_BYTES
from agent.protocol.events.kind import WORD
from agent.protocol.events.kinds import KINDS
from agent.protocol.events.unknown import MAX_UNKNOWN_BYTES
from agent.protocol.items import Lost
from agent.protocol.signed import Role
from agent.protocol.topics import DOWN, QOS, TOPICS, UP, below
from agent.settings.remote import DEVICES_OWN
from tests.protocol.readers import EXAMPLES, PAGE, reader_of
from tests.protocol.town import Town

ROWS = PAGE.splitlines()


@pytest.mark.parametrize(("name", "value"), EXAMPLES)
def test_an_example_is_what_the_code_reads(name: str, value: Any, town: Town) -> None:
    found = reader_of(name)(town, value)
    assert isinstance(found, Lost) == (name == "lost")


def test_there_is_an_example_of_everything() -> None:
    shown = {name for name, _ in EXAMPLES}
    # What is inside something sealed, or looks like noise, has none.
    assert {*MESSAGES, "unsigned-command", "lost"} <= shown
    unsigned = next(value for name, value in EXAMPLES if name == "unsigned-command")
    assert read_replay(unsigned).last == 90


def test_the_table_of_topics_is_the_codes() -> None:
    told = [row for row in ROWS if row.startswith("| `kp1/")]
    assert told == [
        f"| `{topic.of('{device}')}` | {topic.says} |{' yes' if topic.retained else ''} |"
        for topic in TOPICS
    ]
    for direction in (UP, DOWN):
        assert f"`{below(direction, '%u')}`" in PAGE
    assert f"Everything is QoS {QOS}." in PAGE


def untold(commands: Sequence[CommandSpec]) -> list[str]:
    """What the page does not say of *commands*."""
    lines = []
    for spec in commands:
        arguments = [
            f"`{name}`" + (f": {field.says}" if isinstance(field, Argument) else "")
            for name, field in spec.arguments.fields.items()
        ]
        lines.append(f"| `{spec.name}` | {', '.join(arguments) or 'none'} | {spec.does} |")
    timeless, ending, noted, unsigned = (
        [f"`{spec.name}`" for spec in commands if getattr(spec, what)]
        for what in ("timeless", "ends_agent", "noted", "unsigned")
    )
    text = " ".join(PAGE.split())
    sentences = [
        f"Before there is either, only {_listed(timeless)} are done; the others fail and say so.",
        f"{_listed(ending)} are recorded before they are done,",
        f"{_listed(noted)} are in the audit logs of both sides.",
        f"It takes {_listed(unsigned)}, which removes nothing, and no other command",
    ]
    return [line for line in lines if line not in ROWS] + [s for s in sentences if s not in text]


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def test_the_page_says_of_every_command_what_the_table_says() -> None:
    assert untold(COMMANDS) == []
    told = [row for row in ROWS if row.startswith("| `") and row.split("`")[1] in BY_NAME]
    assert len(told) == len(COMMANDS)


def test_a_command_that_the_page_does_not_tell_is_found() -> None:
    assert untold((*COMMANDS, CommandSpec("hop", "hops"))) == ["| `hop` | none | hops |"]
    assert len(untold((*COMMANDS, CommandSpec("hop", "hops", timeless=True, noted=True)))) == 3


def test_every_kind_of_event_is_told_and_shown() -> None:
    shown = {value["kind"] for name, value in EXAMPLES if name.startswith("event-")}
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
    for name in control.STATES:
        assert f"`{name}`" in PAGE, name
    assert f"{MAX_SEALED_BYTES:,}" in PAGE
    assert f"newest {REMEMBERED_COMMANDS}" in PAGE
    for setting in DEVICES_OWN:
        section, _, key = setting.partition(".")
        assert f"`{setting}`" in PAGE or f"`{key}`" in PAGE or f"`{section}.*`" in PAGE, setting
