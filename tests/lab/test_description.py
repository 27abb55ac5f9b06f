"""The schemas and the AsyncAPI page are the code's own, valid, and refuse what the code refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource

from agent import __version__
from agent.base.errors import MessageError
from agent.lab.description import EVENTS, MESSAGES, asyncapi, schemas
from agent.protocol.commands import BY_NAME
from agent.protocol.control import COMMAND_MESSAGE, CONFIG_MESSAGE, REPORT, RESULT, read_unsigned
from agent.protocol.fields import CrossCheckError
from agent.protocol.items import decode_item
from agent.protocol.messages import ACK, decode_state
from agent.protocol.topics import TOPICS
from tests.protocol.schemas import Validator
from tests.protocol.test_page import EXAMPLES

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = schemas()
REGISTRY: Registry[Any] = Registry().with_resources(
    [(f"{name}.json", Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
)
ITEM = SCHEMAS["batch"]["items"]


def _command(value: Any) -> None:
    """A command is read first, and its arguments when its turn comes."""
    command = COMMAND_MESSAGE.form.read(value)
    BY_NAME[command.command].arguments.read(command.arguments)


# By the name an example has on the page: the schema, and the reader.
HELD: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "event": (ITEM, decode_item),
    "lost": (ITEM, decode_item),
    "ack": (SCHEMAS["ack"], ACK.read),
    "state": (
        {"anyOf": [SCHEMAS["birth"], SCHEMAS["will"]]},
        lambda value: decode_state(json.dumps(value).encode()),
    ),
    "command": (SCHEMAS["command"], _command),
    "outcome": (SCHEMAS["command-result"], RESULT.read),
    "unsigned": (
        SCHEMAS["unsigned-command"],
        lambda value: read_unsigned(json.dumps(value).encode(), "bus-7"),
    ),
    "config": (SCHEMAS["settings"], CONFIG_MESSAGE.form.read),
    "report": (SCHEMAS["settings-report"], REPORT.read),
}
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53,
    1.5,
    "",
    "x",
    "0" * 64,
    "é" * 200,
    [],
    [[]],
    {},
    {"x": 1},
    ["x"],
)


def valid(schema: dict[str, Any], value: Any) -> bool:
    return bool(Validator(schema, registry=REGISTRY).is_valid(value))


def ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in *value*."""
    inner: Any = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield (*way, key)
        yield from ways(each, (*way, key))


def spoil(value: Any, draw: st.DataObject) -> Any:
    """*value* with one thing in it gone, or something odd instead, or one thing more."""
    spoilt = copy.deepcopy(value)
    *way, last = draw.draw(st.sampled_from(sorted(ways(value), key=str)))
    holder = spoilt
    for key in way:
        holder = holder[key]
    odd = draw.draw(st.sampled_from(ODD))
    how = draw.draw(st.sampled_from(("gone", "odd", "more")))
    if how == "gone":
        del holder[last]
    elif how == "odd" or isinstance(holder, list):
        holder[last] = odd
    else:
        holder["sealed" if draw.draw(st.booleans()) else "later"] = odd
    return spoilt


def test_the_files_are_what_the_code_says() -> None:
    made = {f"schema/{name}.json": schema for name, schema in SCHEMAS.items()}
    made["asyncapi.json"] = asyncapi(__version__)
    found = {
        path.relative_to(DOCS).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in (*DOCS.glob("schema/*"), DOCS / "asyncapi.json")
    }
    assert found == made, "run scripts/protocol-docs"


def test_every_schema_is_one() -> None:
    for schema in SCHEMAS.values():
        Validator.check_schema(schema)
    assert len(EVENTS) > len(MESSAGES) / 2


def test_every_message_of_every_topic_is_described_and_no_reference_leads_nowhere() -> None:
    said = asyncapi(__version__)
    assert {name for topic in TOPICS for name in topic.messages} == set(MESSAGES)
    assert len(said["channels"]) == len(said["operations"]) == len(TOPICS)
    for way in ways(said):
        if way[-1] != "$ref":
            continue
        to: Any = said
        for key in way:
            to = to[key]
        if to.startswith("#/"):
            target: Any = said
            for key in to[2:].split("/"):
                target = target[key]
        else:
            assert (DOCS / to).is_file(), to


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_of_the_page_is_valid(name: str, text: str) -> None:
    schema, read = HELD[name]
    value = json.loads(text)
    assert valid(schema, value)
    read(value)


@given(st.sampled_from(EXAMPLES), st.data())
def test_schema_and_reader_refuse_the_same(example: tuple[str, str], draw: st.DataObject) -> None:
    """But for rules across fields and sizes, which the schema carries as a comment."""
    schema, read = HELD[example[0]]
    value = spoil(json.loads(example[1]), draw)
    refusal: MessageError | None = None
    try:
        read(value)
    except MessageError as error:
        refusal = error
    if isinstance(refusal, CrossCheckError):
        return
    assert valid(schema, value) == (refusal is None), (value, refusal)
