"""``kaopass city`` from the outside: its own processes, signals, output and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.base.errors import UsageError
from agent.base.events import StoredEvent
from agent.base.values import LinkEvent, LinkUp, Message
from agent.cityos.events.store import Arrival, Store
from agent.cityos.service.app import parse_broker
from agent.hw.net.mqtt import MqttLink
from agent.protocol.items import encode_event
from agent.protocol.messages import Birth, Bounds, decode_ack, pack
from agent.sim.net.mosquitto import free_port
from tests.events import EPOCH, one_of_each, stored
from tests.mosquitto import Mosquitto
from tests.waiting import LATE_SECONDS, until


def kaopass(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "city", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=LATE_SECONDS,
        env={**os.environ, **environment},
    )


def turn_until(link: MqttLink, kind: type[LinkUp] | type[Message]) -> LinkEvent:
    """The first event of *kind*."""
    found: list[LinkEvent] = []
    until(
        lambda: found,
        meanwhile=lambda: found.extend(e for e in link.turn(0.1) if isinstance(e, kind)),
    )
    return found[0]


def serving(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", "city", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def filled(tmp_path: Path) -> str:
    path = str(tmp_path / "city.db")
    store = Store(path)
    birth = Birth(3, EPOCH, (Bounds(EPOCH, 1, 3),), "0.1.0")
    store.state("bus-1", birth, 1_790_000_000_000)
    arrival = Arrival({seq: stored(seq) for seq in (1, 3)}, {2: "bad_kind"})
    store.commit({("bus-1", EPOCH): arrival}, 1_790_000_000_000)
    store.commit({("hall-1", EPOCH): Arrival({1: stored(1)})}, 1_790_000_001_000)
    store.close()
    return path


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_when_it_is_ready_commits_acknowledges_and_stops_cleanly(
    tmp_path: Path, mosquitto: Mosquitto, end: signal.Signals
) -> None:
    database = str(tmp_path / "city.db")
    process = serving("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--database", database)
    link = MqttLink(
        "127.0.0.1", mosquitto.port, client_id="bus-1", subscriptions=["kp1/bus-1/d/ack"]
    )
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        link.open()
        assert turn_until(link, LinkUp) == LinkUp()
        link.publish("kp1/bus-1/u/ev", pack([encode_event(stored(1))]))
        message = turn_until(link, Message)
        assert isinstance(message, Message)
        assert decode_ack(message.payload).upto == 1
    finally:
        link.close()
        process.send_signal(end)
        _, complaints = process.communicate(timeout=LATE_SECONDS)
    assert (process.returncode, complaints) == (0, "")
    store = Store(database, create=False)
    assert store.event_count() == 1
    store.close()


@pytest.mark.slow
def test_serve_waits_for_a_broker_that_is_not_there_and_says_why(tmp_path: Path) -> None:
    port = free_port()
    database = str(tmp_path / "city.db")
    process = serving("--broker", f"mqtt://127.0.0.1:{port}", "--database", database)
    assert process.stderr is not None
    assert f"broker 127.0.0.1:{port}: cannot connect" in process.stderr.readline()
    process.terminate()
    said, _ = process.communicate(timeout=LATE_SECONDS)
    assert (process.returncode, said) == (0, "")


@pytest.mark.slow
def test_events_are_listed_for_people_and_for_programs(filled: str) -> None:
    listed = kaopass("events", "--database", filled)
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == 3
    assert "高森三丁目" in listed.stdout
    lines = kaopass("events", "--database", filled, "--device", "bus-1", "--since", "1", "--json")
    (row,) = [json.loads(line) for line in lines.stdout.splitlines()]
    assert (row["device"], row["seq"], row["kind"]) == ("bus-1", 3, "boarding")
    assert len(kaopass("events", "--database", filled, "--limit", "2").stdout.splitlines()) == 2


@pytest.mark.slow
def test_events_that_name_nobody_say_what_they_count(filled: str) -> None:
    events = one_of_each()
    store = Store(filled)
    arrival = Arrival({n: StoredEvent(EPOCH, n, event) for n, event in enumerate(events, start=1)})
    store.commit({("bus-9", EPOCH): arrival}, 1_790_000_002_000)
    store.close()
    (line,) = kaopass("events", "--database", filled, "--kind", "count").stdout.splitlines()
    assert '"entered": 3, "exited": 1' in line
    assert "高森三丁目" in line
    lines = kaopass("events", "--database", filled, "--kind", "survey", "--json").stdout
    assert json.loads(lines)["body"]["answer"] == "good"
    everything = kaopass("events", "--database", filled, "--device", "bus-9").stdout
    assert len(everything.splitlines()) == len(events)
    none = kaopass("events", "--database", filled, "--kind", "tide")
    assert (none.returncode, none.stdout) == (0, "no such events\n")
    shown = kaopass("devices", "--database", filled).stdout
    assert "ALARM 1 events of the kind weather, which this version cannot read" in shown


@pytest.mark.slow
def test_devices_are_shown_at_a_glance(filled: str) -> None:
    shown = kaopass("devices", "--database", filled).stdout.splitlines()
    assert "bus-1" in shown[0]
    assert "online" in shown[0]
    assert "1 rejected" in shown[0]
    lines = kaopass("devices", "--json", KAOPASS_CITY_DATABASE=filled).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0] == {
        "device": "bus-1",
        "online": True,
        "last_seen_ms": 1_790_000_000_000,
        "software": "0.1.0",
        "connection": 3,
        "events": 2,
        "rejected": 1,
        "gaps": 0,
        "epochs": {EPOCH: 3},
        "lag": 0,
        "unread": {},
        "alarms": ["1 events refused: see 'kaopass city quarantine'"],
    }
    assert "ALARM 1 events refused" in shown[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("events", "--database", "none.db"), "no such file", 1),
        (("serve", "--broker", "broker:1883"), "mqtt://host:port", 2),
        (("serve", "--broker", "mqtt://h:99999"), "not an address", 2),
        (("serve", "--broker", "mqtt://h", "--ca", "x"), "mqtts://", 2),
        (("serve", "--broker", "mqtt://h", "--database", "mysql://h/x"), "only sqlite", 2),
        (("serve", "--broker", "mqtts://h", "--ca", "none.pem"), "none.pem", 1),
        (("serve",), "--broker", 2),
    ],
)
def test_a_wrong_call_is_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
    code: int,
) -> None:
    result = kaopass(*arguments, KAOPASS_CITY_DATABASE=str(tmp_path / "city.db"))
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


def test_without_sqlalchemy_it_says_what_to_install(tmp_path: Path) -> None:
    """A module of that name that cannot be imported stands in the way of the real one."""
    (tmp_path / "sqlalchemy.py").write_text("raise ImportError('not here')")
    result = kaopass("events", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "pip install 'kaopass[city]'" in result.stderr
    assert kaopass("--help", PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_broker_address_is_read_whole() -> None:
    found = parse_broker(
        "mqtts://city:p%40ss@broker.town:8884", ca=Path("ca.pem"), protocol="3.1.1"
    )
    assert (found.host, found.port, found.username, found.password) == (
        "broker.town",
        8884,
        "city",
        "p@ss",
    )
    assert found.tls is not None
    assert found.tls.ca == Path("ca.pem")
    assert "p@ss" not in repr(found)
    assert (parse_broker("mqtt://h").port, parse_broker("mqtts://h").port) == (1883, 8883)
    with pytest.raises(UsageError):
        parse_broker("http://h")
