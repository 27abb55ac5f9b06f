"""The schemas and the AsyncAPI document are the code's: what one refuses, the other refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import MessageError
from agent.lab.description import DIALECT, INSIDE, MESSAGES, asyncapi, files, schemas
from agent.protocol.commands import COMMANDS, Argument, CommandSpec
from agent.protocol.consent import CONSENT, Consent
from agent.protocol.events.kinds import KINDS
from agent.protocol.fields import CrossCheckError
from agent.protocol.forms import Form
from agent.protocol.items import encode_event
from agent.protocol.specs import Integer
from agent.protocol.topics import QOS, TOPICS
from tests.events import enrolment, stored
from tests.protocol.conftest import town
from tests.protocol.readers import EXAMPLES, reader_of
from tests.protocol.schemas import Validator, valid
from tests.protocol.town import Town

__all__ = ["town"]  # a fixture

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = schemas()
VALIDATORS = {name: Validator(schema) for name, schema in SCHEMAS.items()}
CONSENTS = [
    CONSENT.write(
        Consent("bus", "the town", ("face templates",), ("the bus company",), 30, "1", "ja", 5, 9)
    )
]
# Of what the page shows no example of: it is sealed, or noise.
UNSHOWN: list[tuple[str, Any]] = [
    ("event-enrolment", json.loads(encode_event(enrolment(3, size=9)))),
    ("event-unknown", {**json.loads(encode_event(stored(4))), "kind": "tramming", "tram": 3}),
    ("consent", CONSENTS[0]),
    ("enrolment", {"template_version": 2, "consents": CONSENTS}),
    (
        "gallery-keys",
        {
            "key": "5d1f0c9e2b7a4486",
            **dict.fromkeys(("content", "template", "enrolment"), "A" * 43 + "="),
            "template_version": 2,
            "pseudonyms": {"bus": "A" * 43 + "=", "linked": "A" * 43 + "="},
        },
    ),
    (
        "record",
        {
            **{"id": "r-1", "nickname": "はな", "purposes": ["bus"], "linked": True},
            **{"expires_ms": 0, "templates": [{"pack": "p", "count": 3, "values": 512}]},
        },
    ),
]
SEEDS = EXAMPLES + UNSHOWN
# What is read by one reader: an item of a batch, a state, an ask.
EVENTS = tuple(name for name in SCHEMAS if name.startswith("event-"))
TOGETHER = [(*EVENTS, "lost"), *(topic.messages for topic in TOPICS if len(topic.messages) > 1)]


def test_the_committed_files_are_what_the_code_tells() -> None:
    told = files()
    written = [*(DOCS / "schema").iterdir(), DOCS / "asyncapi.json"]
    assert sorted(str(path.relative_to(DOCS)) for path in written) == sorted(told)
    for path, content in told.items():
        assert (DOCS / path).read_text(encoding="utf-8") == content, "run scripts/protocol-docs"


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema_of_the_dialect_it_names(name: str) -> None:
    Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == DIALECT
    assert SCHEMAS[name]["title"] == name


def test_there_is_a_schema_of_everything_said_and_a_seed_of_every_schema() -> None:
    said = {name for topic in TOPICS for name in topic.messages}
    assert said == {*MESSAGES, "batch", "unsigned-command"}
    assert len(EVENTS) == len(KINDS) + 1
    assert {*said, *INSIDE, *EVENTS} == set(SCHEMAS)
    assert {name for name, _ in SEEDS} | {"batch"} == set(SCHEMAS)


@pytest.mark.parametrize(("name", "value"), SEEDS)
def test_an_example_is_of_its_schema_and_of_no_other_that_could_be_meant(
    name: str, value: Any, town: Town
) -> None:
    reader_of(name)(town, value)
    fitting = [other for other in _together(name) if VALIDATORS[other].is_valid(value)]
    assert fitting == [name]


def test_a_batch_is_of_items_that_its_schema_names() -> None:
    named = {item["$ref"] for item in SCHEMAS["batch"]["items"]["anyOf"]}
    assert named == {f"{name}.json" for name in (*EVENTS, "lost")}
    assert all((DOCS / "schema" / file).exists() for file in named)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), SEEDS)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_what_is_spoilt_is_refused_by_reader_and_schema_alike(
    name: str, value: Any, town: Town, data: st.DataObject
) -> None:
    spoilt = _spoil(value, data)
    allowed = any(VALIDATORS[other].is_valid(spoilt) for other in _together(name))
    refusal: MessageError | None = None
    try:
        reader_of(name)(town, spoilt)
    except MessageError as error:
        refusal = error
    if refusal is None:
        assert allowed, "taken by the reader, refused by the schema"
    elif allowed:
        assert _beyond_schemas(refusal, spoilt), f"refused by the reader alone: {refusal}"


def _beyond_schemas(refusal: MessageError, value: Any) -> bool:
    """Whether *refusal* is of what JSON Schema cannot express; there is nothing else."""
    return (
        # 1.0 is an integer to JSON Schema, and no one that keeps 2^53 apart from 2^53 + 1 here.
        any(isinstance(leaf, float) and leaf.is_integer() for leaf in _nodes(value))
        # A rule across fields, which the schema has as a comment.
        or isinstance(refusal, CrossCheckError)
        # Which device it is for is known from the topic.
        or "another device" in str(refusal)
    )


def _together(name: str) -> tuple[str, ...]:
    return next((names for names in TOGETHER if name in names), (name,))


def _nodes(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(node for item in inner for node in _nodes(item))]


_WORDS = st.text("abz09AB+/=_-.\n\x00\x7fはｱ", max_size=9)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), -(2**53) - 1, 10**30, 0.5, 1.0])
    | _WORDS
)
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=4,
)


def _spoil(value: Any, data: st.DataObject) -> Any:
    """*value* with one to three things about it changed."""
    spoilt = {"": copy.deepcopy(value)}
    for _ in range(data.draw(st.integers(1, 3))):
        holders = [node for node in _nodes(spoilt) if isinstance(node, (dict, list)) and node]
        holder = data.draw(st.sampled_from(holders))
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        place = data.draw(st.sampled_from(places))
        change = data.draw(st.sampled_from(["other", "nearby", "swap", "gone", "more"]))
        if change == "other":
            holder[place] = data.draw(_ANYTHING)
        elif change == "nearby":
            holder[place] = _nearby(holder[place], data)
        elif change == "swap":
            holder[place] = copy.deepcopy(data.draw(st.sampled_from(_nodes(spoilt))))
        elif change == "gone" and place != "":
            del holder[place]
        elif isinstance(holder, dict):
            holder[data.draw(st.sampled_from(["more", "lost", "sealed"]))] = data.draw(_ANYTHING)
        else:
            holder.extend(copy.deepcopy(holder) * data.draw(st.integers(1, 40)))
    return spoilt[""]


def _nearby(value: Any, data: st.DataObject) -> Any:
    """Almost *value*."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + data.draw(st.sampled_from([-1, 1, 2**53, -(2**53)]))
    if isinstance(value, str):
        changed = [value[:-1], value + value[-1:], value * 9, value + "\n", value.upper()]
        return data.draw(st.sampled_from(changed))
    return data.draw(_ANYTHING)


def test_the_asyncapi_document_says_who_says_what_where() -> None:
    told = asyncapi()
    assert told["asyncapi"] == "3.0.0"
    assert {*told} == {
        *("asyncapi", "info", "defaultContentType", "channels", "operations", "components")
    }
    operations = {
        operation["channel"]["$ref"]: operation for operation in told["operations"].values()
    }
    assert len(operations) == len(told["channels"]) == len(TOPICS)
    channels = {channel["address"]: name for name, channel in told["channels"].items()}
    for topic in TOPICS:
        name = channels[topic.of("{device}")]
        operation = operations[f"#/channels/{name}"]
        assert operation["action"] == ("send" if topic.path.startswith("u/") else "receive")
        bindings = {"qos": QOS, "retain": topic.retained, "bindingVersion": "0.2.0"}
        assert operation["bindings"] == {"mqtt": bindings}
        assert [ref["$ref"] for ref in operation["messages"]] == [
            f"#/channels/{name}/messages/{message}" for message in topic.messages
        ]
        assert list(told["channels"][name]["parameters"]) == ["device"]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    told = asyncapi()
    references = [
        node["$ref"] for node in _nodes(told) if isinstance(node, dict) and "$ref" in node
    ]
    assert len(references) > 3 * len(TOPICS)
    for reference in references:
        file, _, path = reference.partition("#")
        if file:
            assert (DOCS / file).is_file(), reference
        found = told
        for part in path.split("/")[1:]:
            found = found[part]


NEW = CommandSpec(
    "hop",
    'hops so often; `{"hops"}`',
    arguments=Form(dict, "hop", {"times": Argument(Integer(1, 9), "how often", "N")}),
    unsigned=True,
)


def test_a_new_command_is_in_the_schemas_and_the_old_files_are_out_of_date() -> None:
    told = schemas((*COMMANDS, NEW))
    command = dict(next(value for name, value in EXAMPLES if name == "command"), command="hop")
    for arguments, good in (({"times": 3}, True), ({"times": 10}, False), ({}, False)):
        assert valid(told["command"], {**command, "arguments": arguments}) == good
    assert not valid(SCHEMAS["command"], {**command, "arguments": {"times": 3}})
    assert valid(told["unsigned-command"], {"command": "hop", "id": "a", "times": 3})
    assert told["command"] != json.loads((DOCS / "schema/command.json").read_text("utf-8"))
