"""Topics are written in one place, and the broker's rules are those of the table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agent.base.values import Message
from agent.protocol import topics
from agent.protocol.topics import ANY, DOWN, TOPICS, UP, below, parse_topic

AGENT = Path(topics.__file__).parents[1]


def test_no_topic_is_spelled_out_anywhere_else() -> None:
    spelled = []
    words = (f"{topics.VERSION}/", *(f'"{path}"' for path in topics.BY_PATH))
    for path in AGENT.rglob("*.py"):
        if path == Path(topics.__file__) or "_data" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in words):
            continue
        tree = ast.parse(text)
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                path_of_topic = node.value in topics.BY_PATH or f"{topics.VERSION}/" in node.value
                if id(node) not in docs and path_of_topic:
                    spelled.append(f"{path.relative_to(AGENT)}:{node.lineno}")
    assert spelled == []


def test_who_says_what_follows_from_the_topic() -> None:
    assert len({topic.path for topic in TOPICS}) == len(TOPICS)
    for topic in TOPICS:
        direction = {"device": UP, "city": DOWN}[topic.publisher]
        assert topic.subscriber != topic.publisher
        for device in ("bus-7", ANY, "%u"):
            rule = below(direction, device)
            assert topic.of(device).startswith(rule.removesuffix("#"))
        assert parse_topic(topic.of("bus-7")) == ("bus-7", topic.path)


def test_a_message_is_retained_as_its_topic_says() -> None:
    assert {topic.path for topic in TOPICS if topic.retained} == {
        *("u/st", "u/rep", "d/cfg", "d/gal/head"),
    }
    for topic in TOPICS:
        message = topic.message("bus-7", b"x")
        assert message == Message(topic.of("bus-7"), b"x", retain=topic.retained)


@pytest.mark.parametrize(
    ("topic", "written"),
    [
        (topics.EVENTS, "kp1/bus-7/u/ev"),
        (topics.STATE, "kp1/bus-7/u/st"),
        (topics.RESULTS, "kp1/bus-7/u/res"),
        (topics.REPORT, "kp1/bus-7/u/rep"),
        (topics.ASKS, "kp1/bus-7/u/gal"),
        (topics.ACKS, "kp1/bus-7/d/ack"),
        (topics.COMMANDS, "kp1/bus-7/d/cmd"),
        (topics.CONFIG, "kp1/bus-7/d/cfg"),
        (topics.HEAD, "kp1/bus-7/d/gal/head"),
        (topics.NOW, "kp1/bus-7/d/gal/now"),
        (topics.KEY, "kp1/bus-7/d/gal/key"),
        (topics.BODY, "kp1/bus-7/d/gal/body"),
    ],
)
def test_topics_are_called_what_they_always_were(topic: topics.Topic, written: str) -> None:
    assert topic.of("bus-7") == written
