"""What a person does about the city's events, from the outside."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.base.errors import CityError, KaopassError, UsageError
from agent.cityos.events.intake import IntakeStatus
from agent.cityos.events.store import Arrival, Store
from agent.cityos.service.metrics import CityCollector, serve_metrics
from agent.cli.city.group import command
from agent.protocol.commands import read_replay
from agent.protocol.messages import Birth, Bounds
from agent.sim.net.mosquitto import free_port
from tests.events import EPOCH, make_event, stored
from tests.waiting import LATE_SECONDS

KEY = ("bus-1", EPOCH)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Events 1 and 3 of five, 2 refused; and bus-2, which contradicts itself."""
    path = str(tmp_path / "city.db")
    store = Store(path)
    store.state("bus-1", Birth(3, EPOCH, (Bounds(EPOCH, 1, 5),), "0.1.0"), 1_790_000_000_000)
    events = {seq: stored(seq) for seq in (1, 3)}
    store.commit({KEY: Arrival(events, {2: "bad_kind"})}, 1_790_000_000_000)
    for stop in ("A", "B"):
        store.commit({("bus-2", EPOCH): Arrival({1: stored(1, stop=stop)})}, 1_790_000_000_000)
    store.close()
    return path


def run(database: str, *arguments: str) -> Result:
    result = CliRunner().invoke(command, [*arguments, "--database", database])
    if isinstance(result.exception, KaopassError):
        raise result.exception
    return result


def due(database: str) -> list[tuple[str, int, int, bool]]:
    store = Store(database)
    commands = store.due(1_790_000_000_000)
    store.close()
    replays = [(command.device, read_replay(command.arguments)) for command in commands]
    return [(name, replay.first, replay.last, replay.refused) for name, replay in replays]


def test_the_quarantine_names_refused_events_and_devices_set_aside(database: str) -> None:
    lines = run(database, "quarantine", "list").output.splitlines()
    assert "bus-2" in lines[0]
    assert "set aside" in lines[0]
    assert lines[1].endswith("bad_kind")
    rows = run(database, "quarantine", "list", "--json", "--device", "bus-1").output.splitlines()
    assert [json.loads(row)["seq"] for row in rows] == [2]


def test_a_released_device_is_taken_in_again_and_refused_events_are_asked_for(
    database: str,
) -> None:
    assert "taken in again" in run(database, "quarantine", "release", "bus-2").output
    assert run(database, "quarantine", "release", "bus-1").output.startswith("1 refused")
    assert due(database) == [("bus-1", 2, 2, True)]
    with pytest.raises(CityError, match="no device called"):
        run(database, "quarantine", "release", "bus-9")


def test_a_dropped_event_leaves_the_quarantine(database: str) -> None:
    assert run(database, "quarantine", "drop", "bus-1", "--seq", "2").output.startswith("1 refused")
    assert "bad_kind" not in run(database, "quarantine", "list").output


def test_a_replay_is_asked_of_the_device_by_whoever_serves(database: str) -> None:
    run(database, "replay", "bus-1", "--from", "1", "--to", "3")
    run(database, "replay", "bus-1", "--epoch", EPOCH[:6], "--from", "3")
    assert [asked[:2] for asked in due(database)] == [("bus-1", 1), ("bus-1", 3)]
    with pytest.raises(UsageError, match="upwards"):
        run(database, "replay", "bus-1", "--from", "9", "--to", "3")
    with pytest.raises(CityError, match="0 epochs"):
        run(database, "replay", "bus-1", "--epoch", "ffff")


def test_prune_and_backup_say_what_they_did(database: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert str(copy) in run(database, "backup", str(copy)).output
    assert run(database, "prune", "--keep-days", "100000").output.startswith("0 events")
    assert len(run(str(copy), "events").output.splitlines()) == 3


def test_metrics_tell_counters_and_the_lag_of_each_device_and_nothing_personal(
    database: str,
) -> None:
    store = Store(database)
    port = free_port()
    stop = serve_metrics(CityCollector(lambda: IntakeStatus(events=7), store.pulses), port)
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/metrics", timeout=LATE_SECONDS
        ) as answer:
            text = answer.read().decode()
    finally:
        stop()
        store.close()
    assert "kaopass_city_events_total 7.0" in text
    assert 'kaopass_device_lag_events{device="bus-1"} 2.0' in text
    assert 'kaopass_device_set_aside{device="bus-2"} 1.0' in text
    assert make_event(1).person not in text
    assert EPOCH not in text


def test_metrics_of_a_broken_database_say_so() -> None:
    def broken() -> list[object]:
        raise CityError("gone")

    collector = CityCollector(IntakeStatus, broken)  # type: ignore[arg-type]
    values = {metric.name: metric.samples for metric in collector.collect()}
    assert values["kaopass_city_database_up"][0].value == 0
