"""The page over real HTTP on loopback: headers, the stream of pictures, the events, the end."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from agent.base.errors import UsageError
from agent.base.values import DoorSignal
from agent.demo.page import Page
from agent.demo.state import DemoState
from tests.waiting import LATE_SECONDS, never


class Watched(DemoState):
    """Counts how often a picture was encoded."""

    asked = 0

    def jpeg(self, *, hidden: bool) -> tuple[int, bytes]:
        self.asked += 1
        return super().jpeg(hidden=hidden)


@pytest.fixture
def state() -> Watched:
    state = Watched()
    state.show_frame(np.full((48, 64, 3), 120, np.uint8), [])
    return state


@pytest.fixture
def page(state: Watched) -> Iterator[Page]:
    with Page(state) as page:
        yield page


@contextmanager
def get(page: Page, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    address = page.url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=LATE_SECONDS)
    connection.request("GET", path, headers=headers)
    with closing(connection), connection.getresponse() as answer:
        yield answer


def next_picture(answer: http.client.HTTPResponse) -> bytes:
    while line := answer.readline():
        if line.lower().startswith(b"content-length:"):
            answer.readline()
            return answer.read(int(line.split(b":")[1]))
    raise AssertionError("the stream ended")


def next_state(answer: http.client.HTTPResponse) -> dict[str, Any]:
    while line := answer.readline():
        if line.startswith(b"data: "):
            told: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            return told
    raise AssertionError("the stream ended")


def test_the_page_is_japanese_first_and_runs_only_its_own_script(page: Page) -> None:
    with get(page, "/") as answer:
        html = answer.read().decode()
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce is not None
    assert '<html lang="ja">' in html
    assert html.count(f'nonce="{nonce[1]}"') == 2
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in html
    assert headers["Set-Cookie"] is None
    assert headers["Cache-Control"] == "no-store"


def test_every_answer_has_another_nonce(page: Page) -> None:
    with get(page, "/") as one, get(page, "/") as other:
        assert one.headers["Content-Security-Policy"] != other.headers["Content-Security-Policy"]


def test_the_picture_is_a_stream_of_jpegs_that_nobody_may_keep(page: Page, state: Watched) -> None:
    with get(page, "/picture") as answer:
        assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        assert answer.headers["Cache-Control"] == "no-store"
        assert next_picture(answer)[:2] == b"\xff\xd8"
        state.show_frame(np.full((48, 64, 3), 10, np.uint8), [])
        second = cv2.imdecode(np.frombuffer(next_picture(answer), np.uint8), cv2.IMREAD_COLOR)
    assert second is not None
    assert float(np.asarray(second, np.uint8).mean()) == pytest.approx(10, abs=3)


def test_faces_can_be_hidden(page: Page, state: Watched) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    state.show_frame(noise, [], [(0.0, 0.0, 96.0, 96.0)])
    spread = []
    for path in ("/picture", "/picture?blur=1"):
        with get(page, path) as answer:
            data = np.frombuffer(next_picture(answer), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert picture is not None
        spread.append(float(np.asarray(picture, np.uint8).std()))
    assert spread[1] < spread[0] / 3


def test_nothing_is_encoded_while_nobody_watches(page: Page, state: Watched) -> None:
    with get(page, "/") as answer:
        answer.read()
    for tone in range(5):
        state.show_frame(np.full((48, 64, 3), tone, np.uint8), [])
    never(lambda: state.asked)


def test_events_bring_the_state_and_then_each_change(page: Page, state: Watched) -> None:
    with get(page, "/state") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert next_state(answer)["signal"] == "ready"
        state.show(DoorSignal("welcome"), None)
        assert next_state(answer)["colour"] == "green"


def test_another_host_name_is_refused(page: Page) -> None:
    with get(page, "/picture", Host="attacker.example") as answer:
        assert answer.status == 400


def test_it_stops_cleanly_while_clients_are_connected(state: Watched) -> None:
    with ExitStack() as clients:
        with Page(state) as page:
            events = clients.enter_context(get(page, "/state"))
            pictures = clients.enter_context(get(page, "/picture"))
            next_state(events)
            next_picture(pictures)
        # Both streams were ended, not cut off: a cut would raise IncompleteRead.
        events.read()
        pictures.read()


def test_a_port_that_is_taken_is_named(page: Page, state: Watched) -> None:
    port = int(page.url.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(UsageError, match=rf"{port}.*another port"), Page(state, port=port):
        raise AssertionError("two pages on one port")
