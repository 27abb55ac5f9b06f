"""A field's reader and its schema are one: what one refuses, the other refuses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.base.errors import MessageError
from agent.protocol.fields import CrossCheckError, FieldError
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import (
    Array,
    Base64,
    Choice,
    Constant,
    Flag,
    Hexadecimal,
    Integer,
    Name,
    Nullable,
    OpenObject,
    Optional,
    Spec,
    Text,
)
from tests.protocol.schemas import valid


@dataclass(frozen=True)
class Visit:
    """Something that is sent."""

    first: int
    last: int
    code: str
    note: str | None = None


VISIT = Form(
    Visit,
    "visit",
    {
        "online": Constant(True),
        "from": Integer(1),
        "to": Integer(1, 9),
        "code": Name(re.compile("[a-z]{1,3}")),
        "note": Optional(Nullable(Text(1, 3)), None),
    },
    names={"from": "first", "to": "last"},
    checks=(CrossCheck("to", "not before from", lambda visit: visit.first <= visit.last),),
    most_bytes=100,
)
GOOD = {"online": True, "from": 2, "to": 3, "code": "ab"}
SPECS: dict[str, Spec[Any]] = {
    "integer": Integer(-2, 9),
    "flag": Flag(),
    "constant": Constant(1),
    "text": Text(1, 5),
    "name": Name(re.compile("[a-z0-9]{1,5}")),
    "choice": Choice(("a", "b0")),
    "hexadecimal": Hexadecimal(2),
    "base64": Base64(1, 4),
    "array": Array(Integer(), 2, 1),
    "nullable": Nullable(Flag()),
    "open": OpenObject(30, of_objects=True),
    "form": VISIT,
}

words = st.text("abz09AB+/=\n\x00\x7f\ud800は", max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 11) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
forms = st.fixed_dictionaries(
    {},
    optional={
        key: st.sampled_from([GOOD.get(key, "abc"), True, 1, None]) | values
        for key in (*VISIT.fields, "more")
    },
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@given(value=values | forms)
@example(value="a\n")
@example(value=True)
@example(value="AAA=")
@example(value="AAAA")
@example(value="AAAAAAA=")
@example(value="AA==AA==")
@example(value="0aff")
@example(value=dict(GOOD))
@example(value={**GOOD, "note": "は", "more": 1})
def test_reader_and_schema_refuse_the_same(name: str, value: Any) -> None:
    spec = SPECS[name]
    allowed = valid(spec.schema(), value)
    refusal = None
    try:
        read = spec.read(value, "field")
    except FieldError as error:
        refusal = error
    if refusal is None:
        assert allowed
        assert spec.read(spec.write(read), "field") == read
    elif allowed:
        # JSON Schema takes 1.0 for an integer, and knows nothing of rules across fields.
        fraction = any(isinstance(each, float) and each.is_integer() for each in leaves(value))
        assert fraction or isinstance(refusal, CrossCheckError)


def leaves(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(leaf for item in inner for leaf in leaves(item))]


def test_what_is_missing_is_said_before_what_is_wrong() -> None:
    with pytest.raises(FieldError) as caught:
        VISIT.read({"online": True, "from": 0, "to": 3}, "")
    assert (str(caught.value), caught.value.code) == ("visit: code missing", "bad_visit")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"from": 0, "code": "?"}, "from: not an integer from 1 to 2^53"),
        ({"to": 1}, "to: not before from"),
        ({"online": 1}, "online: not true"),
        ({"note": "long"}, "note: not a text of 1 to 3 characters"),
    ],
)
def test_the_first_wrong_field_is_named_with_the_way_to_it(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(FieldError, match=re.escape(message)):
        VISIT.read(GOOD | change)
    inside: Form[dict[str, object]] = Form(dict, "outer", {"visits": Array(VISIT, 2)})
    with pytest.raises(FieldError, match=f"visits.{re.escape(message)}"):
        inside.read({"visits": [GOOD | change]})


def test_a_form_writes_what_it_reads_in_the_order_of_its_fields() -> None:
    visit = VISIT.decode(json.dumps(GOOD | {"later": 1}).encode())
    assert visit == Visit(2, 3, "ab")
    assert VISIT.encode(visit) == b'{"online":true,"from":2,"to":3,"code":"ab"}'
    assert VISIT.encode(Visit(2, 3, "ab", "x")).endswith(b',"note":"x"}')
    with pytest.raises(MessageError, match="at most 100 are read"):
        VISIT.decode(json.dumps(GOOD | {"more": "x" * 100}).encode())


def test_a_schema_says_in_words_what_it_cannot_express() -> None:
    assert VISIT.schema()["$comment"] == "Refused also: to: not before from; at most 100 bytes"
