"""The agent as a process, provisioned in a town: commanded, set, and set back, by the city."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.cityos.control.configs import Version
from agent.cityos.control.orders import Ordered
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city
from agent.cityos.service.loop import CityService
from agent.cityos.usecases import steering
from agent.protocol.commands import COMMANDS
from agent.protocol.galleries.records import key_of
from tests.cityos.database import database_of
from tests.line.door import Door, people_of
from tests.provisioning.town import Town, kaopass, now_ms, town
from tests.waiting import until

__all__ = ["town"]  # a fixture

pytestmark = pytest.mark.slow

DEVICE = "door-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(str(tmp_path / "city.db"))) as opened:
        yield opened


@pytest.fixture
def city(town: Town, store: Store) -> Iterator[CityService]:
    broker = BrokerAddress("localhost", town.broker.port, tls=town.worker())
    service = build_city(broker, store, signer=town.authority.signer("command"))
    service.start()
    yield service
    assert service.stop()


@pytest.fixture
def door(tmp_path: Path, town: Town) -> Iterator[Door]:
    """Provisioned, with two residents, and people in front of it."""
    sync = {"host": "localhost", "tls": True}
    device = {"name": DEVICE, "serial": "S1"}
    with Door(tmp_path / "door", town.broker.port, sync=sync, device=device) as found:
        provisioned = kaopass(
            *("provision", "--settings", str(found.settings), "--server", town.est.url),
            *("--claim", town.claim(DEVICE, "S1")),
            *("--ca-fingerprint", town.authority.fingerprint),
        )
        assert provisioned.returncode == 0, provisioned.stderr
        found.enrol(dict(list(people_of("players.jpg").items())[:2]))
        yield found


def test_a_city_looks_after_a_device_it_never_sees(
    door: Door, city: CityService, store: Store
) -> None:
    asked: set[str] = set()

    def told(command: str, seconds: float = 30.0, **arguments: str) -> tuple[str, str, Any]:
        asked.add(command)
        name = steering.send(database_of(store), DEVICE, command, arguments, now_ms())

        def found() -> Ordered:
            ordered = steering.command(database_of(store), name)
            assert ordered is not None
            return ordered

        until(lambda: found().answered_ms is not None, command, seconds=seconds)
        return found().state, found().reason, found().detail

    def settled(seconds: float = 30.0, **sections: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        made = steering.set_settings(database_of(store), DEVICE, sections, now_ms())

        def state() -> Version:
            return steering.settings_of(database_of(store), DEVICE)[made.version - 1]

        until(lambda: state().state != "waiting", f"settings {sections}", seconds=seconds)
        return state().state, state().problems

    door.start(door.queue_of())
    door.wait_for("ready")
    until(lambda: store.devices() and store.devices()[0].online)

    assert told("ping") == ("done", "", {})
    state, _, detail = told("status")
    assert (state, detail["state"]) == ("done", "ready")
    _, _, detail = told("diagnostics")
    assert detail["journal"]["pending"] >= 0
    assert detail["disk"]["free_bytes"] > 0
    assert "resident-" not in json.dumps(detail)
    state, reason, _ = told("restart")
    assert state == "failed"
    assert "systemd" in reason

    # Somebody withdraws: gone from this device, before any new gallery.
    person = next(iter(people_of("players.jpg")))
    door.wait_for("welcome")
    assert told("revoke-now", key=key_of(person).hex())[2] == {"found": True}
    assert told("revoke-now", key=key_of(person).hex())[2] == {"found": False}
    listed = kaopass("gallery", "list", "--settings", str(door.settings), "--json").stdout
    assert person not in listed

    assert told("reload", 60)[0] == "done"
    assert settled(60, vision={"max_faces": 5}) == ("accepted", ())
    shown = kaopass("settings", "--settings", str(door.settings)).stdout
    assert "max_faces = 5  # from the city, version 1" in shown

    # Nothing of it is taken when a part is wrong, and each mistake is told.
    state, problems = settled(vision={"max_faces": 6, "max_face": 1}, sync={"host": "elsewhere"})
    assert state == "refused"
    assert [problem.split(":")[0] for problem in problems] == ["sync.host", "vision.max_face"]

    # Valid, but the agent does not come up: what was in force is again, and the city is told.
    state, problems = settled(60, models={"pack": "not-installed"})
    assert state == "refused"
    assert "does not come up" in problems[0]
    shown = kaopass("settings", "--settings", str(door.settings)).stdout
    assert "max_faces = 5  # from the city, version 1" in shown
    assert told("status")[2]["state"] == "ready"
    assert store.devices()[0].online
    # Nothing in the table of commands is without somebody who does it.
    assert asked == {spec.name for spec in COMMANDS if not spec.ordered_by}
    door.stop()
    audit = kaopass("audit", "list", "--settings", str(door.settings), "--json").stdout
    actions = [json.loads(line)["action"] for line in audit.splitlines()]
    assert [action for action in actions if action.startswith(("command", "settings"))] == [
        *("command.failed", "command.done", "command.done", "command.done"),
        *("settings.accepted", "settings.refused", "settings.accepted"),
    ]
