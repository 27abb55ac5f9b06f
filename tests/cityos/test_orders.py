"""Commands and settings at the city: kept, sent until answered, each after the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.base.errors import CityError, UsageError
from agent.cityos.control import configs, orders
from agent.cityos.control.configs import Version
from agent.cityos.events.store import Store
from agent.cityos.usecases import steering, upkeep
from agent.protocol.control import CommandResult, SettingsReport
from agent.protocol.messages import Birth, Bounds, Will
from tests.cityos.database import database_of
from tests.events import EPOCH

DEVICE = "bus-1"
ARGUMENTS = {"key": "ab" * 32}


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    found = open_store()
    online(found)
    return found


def online(store: Store, connection: int = 1) -> None:
    store.state(DEVICE, Birth(connection, EPOCH, (Bounds(EPOCH, 1, 0),), "0.1.0"), 1_000)


def sent(store: Store, now_ms: int, *, signed: bool = True) -> list[str]:
    return [command.id for command in store.due(now_ms, signed=signed)]


def test_a_command_goes_out_the_same_until_it_is_answered(store: Store) -> None:
    name = steering.send(database_of(store), DEVICE, "revoke-now", ARGUMENTS, 1_000)
    (first,) = store.due(1_000, signed=True)
    assert (first.device, first.command, first.arguments) == (DEVICE, "revoke-now", ARGUMENTS)
    assert store.due(1_000 + orders.AGAIN_MS - 1, signed=True) == []
    assert store.due(1_000 + orders.AGAIN_MS, signed=True) == [first]
    store.result(DEVICE, CommandResult(name, "received"), 40_000)
    assert store.due(1_000 + 2 * orders.AGAIN_MS, signed=True) == [first]
    store.result(DEVICE, CommandResult(name, "done", detail={"found": True}), 70_000)
    assert sent(store, 1_000 + 9 * orders.AGAIN_MS) == []
    found = steering.command(database_of(store), name)
    assert found is not None
    assert (found.state, found.detail, found.sends) == ("done", {"found": True}, 3)
    store.result(DEVICE, CommandResult(name, "failed", "too late"), 80_000)  # what is settled stays
    assert steering.command(database_of(store), name) == found


def test_only_the_device_it_is_for_can_answer_it(store: Store) -> None:
    name = steering.send(database_of(store), DEVICE, "ping", {}, 1_000)
    store.result("bus-2", CommandResult(name, "done"), 2_000)
    (found,) = steering.commands(database_of(store))
    assert found.state == "waiting"


def test_past_its_time_it_is_expired_and_no_longer_sent(store: Store) -> None:
    name = steering.send(database_of(store), DEVICE, "restart", {}, 1_000, ttl_seconds=60)
    store.state(DEVICE, Will(1), 1_000)
    assert sent(store, 2_000) == []  # it is away
    online(store, 2)
    assert sent(store, 61_000) == []
    found = steering.command(database_of(store), name)
    assert found is not None
    assert (found.state, found.sends) == ("expired", 0)


def test_counters_grow_with_the_time_so_that_workers_need_not_agree(store: Store) -> None:
    for now_ms in (1_000, 2_000, 3_000):
        steering.send(database_of(store), DEVICE, "ping", {}, now_ms)
    assert [command.counter for command in store.due(4_000, signed=True)] == [1_000, 2_000, 3_000]


def test_without_a_key_only_what_needs_none_goes_out(store: Store) -> None:
    replay = {"epoch": EPOCH, "from": 1, "to": 2, "refused": False}
    steering.send(database_of(store), DEVICE, "ping", {}, 1_000)
    asked = steering.send(database_of(store), DEVICE, "replay", replay, 1_000)
    assert sent(store, 1_000, signed=False) == [asked]
    assert len(sent(store, 1_000)) == 1  # a worker that signs sends the other


def test_each_worker_sends_what_another_does_not(open_store: Callable[[], Store]) -> None:
    first, second = open_store(), open_store()
    online(first)
    steering.send(database_of(first), DEVICE, "ping", {}, 1_000)
    assert len(sent(first, 1_000)) + len(sent(second, 1_000)) == 1


@pytest.mark.parametrize(
    ("command", "arguments", "ttl"),
    [
        ("format-disk", {}, 60),
        ("ping", {"a": "x" * 5_000}, 60),
        ("ping", {}, 0),
        ("ping", {}, 10**9),
    ],
)
def test_what_no_device_would_take_is_not_even_noted(
    store: Store, command: str, arguments: dict[str, Any], ttl: int
) -> None:
    with pytest.raises(UsageError):
        steering.send(database_of(store), DEVICE, command, arguments, 1_000, ttl_seconds=ttl)
    with pytest.raises(CityError, match="ever spoke"):
        steering.send(database_of(store), "bus-9", "ping", {}, 1_000)
    assert steering.commands(database_of(store)) == []


def test_settled_commands_are_forgotten_after_their_time_and_open_ones_are_not(
    store: Store,
) -> None:
    old, still_open, new = (
        steering.send(database_of(store), DEVICE, "ping", {}, 1_000) for _ in range(3)
    )
    store.result(DEVICE, CommandResult(old, "done"), 2_000)
    store.result(DEVICE, CommandResult(new, "done"), 86_400_000)
    upkeep.prune(database_of(store), 1.0, 86_400_000 + 3_000)
    assert {each.id for each in steering.commands(database_of(store))} == {still_open, new}


def configure(store: Store, now_ms: int = 1_000, **sections: dict[str, Any]) -> Version:
    return steering.set_settings(database_of(store), DEVICE, sections, now_ms)


def states(store: Store) -> list[str]:
    return [version.state for version in steering.settings_of(database_of(store), DEVICE)]


def test_a_version_follows_what_is_in_force_and_holds_all_that_is_set(store: Store) -> None:
    first = configure(store, vision={"max_faces": 5})
    assert (first.version, first.base) == (1, 0)
    store.reported(DEVICE, SettingsReport(1), 2_000)
    second = configure(store, place={"name": "9"})
    assert (second.version, second.base) == (2, 1)
    assert second.settings == {"vision": {"max_faces": 5}, "place": {"name": "9"}}
    assert states(store) == ["accepted", "waiting"]
    store.reported(DEVICE, SettingsReport(2), 3_000)
    assert states(store) == ["replaced", "accepted"]


def test_it_is_published_once_and_again_while_an_online_device_is_silent(store: Store) -> None:
    configure(store, vision={"max_faces": 5})
    (config,) = store.configs_due(1_000)
    assert (config.device, config.version, config.base) == (DEVICE, 1, 0)
    assert store.configs_due(2_000) == []
    assert store.configs_due(1_000 + configs.AGAIN_MS) == [config]
    store.state(DEVICE, Will(1), 1_000)
    assert store.configs_due(1_000 + 9 * configs.AGAIN_MS) == []  # the broker keeps it for it
    online(store, 2)
    store.reported(DEVICE, SettingsReport(1), 2_000)
    assert store.configs_due(1_000 + 19 * configs.AGAIN_MS) == []


def test_a_version_that_still_waits_is_replaced_by_one_that_builds_on_it(store: Store) -> None:
    configure(store, vision={"max_faces": 5})
    second = configure(store, place={"name": "9"})
    assert (second.base, second.settings) == (
        0,
        {"vision": {"max_faces": 5}, "place": {"name": "9"}},
    )
    assert states(store) == ["replaced", "waiting"]
    # The device took the first before it heard of the second, and says so.
    store.reported(DEVICE, SettingsReport(1, 2, ("made to follow version 0",)), 2_000)
    assert states(store) == ["accepted", "refused"]
    third = configure(store, place={"name": "9"})
    assert (third.version, third.base) == (3, 1)


def test_compare_and_set_for_people_too(store: Store) -> None:
    configure(store, vision={"max_faces": 5})
    store.reported(DEVICE, SettingsReport(1), 2_000)
    four = {"vision": {"max_faces": 4}}
    with pytest.raises(CityError, match="version 1 in force, not 0"):
        steering.set_settings(database_of(store), DEVICE, four, 3_000, base=0)
    assert steering.set_settings(database_of(store), DEVICE, four, 3_000, base=1).version == 2


def test_what_is_unset_is_the_devices_own_again(store: Store) -> None:
    configure(store, vision={"max_faces": 5, "max_yaw": 0.5})
    store.reported(DEVICE, SettingsReport(1), 2_000)
    made = steering.set_settings(
        database_of(store), DEVICE, {}, 3_000, unset=[("vision", "max_faces")]
    )
    assert made.settings == {"vision": {"max_yaw": 0.5}}
    with pytest.raises(UsageError, match="not set from here"):
        steering.set_settings(database_of(store), DEVICE, {}, 3_000, unset=[("place", "name")])
    assert steering.set_settings(database_of(store), DEVICE, {}, 4_000, whole=True).settings == {}


def test_refused_and_rolled_back_versions_are_kept_with_the_reasons(store: Store) -> None:
    configure(store, vision={"max_faces": 5})
    store.reported(DEVICE, SettingsReport(1), 2_000)
    configure(store, models={"pack": "x"})
    store.reported(DEVICE, SettingsReport(1, 2, ("the agent does not come up",)), 3_000)
    first, second = steering.settings_of(database_of(store), DEVICE)
    assert (first.state, second.state) == ("accepted", "refused")
    assert second.problems == ("the agent does not come up",)
    assert configure(store, place={"name": "9"}).settings == {
        "vision": {"max_faces": 5},
        "place": {"name": "9"},
    }


def test_settings_from_before_the_database_are_not_overwritten_unseen(store: Store) -> None:
    store.reported(DEVICE, SettingsReport(7), 2_000)
    with pytest.raises(CityError, match="--whole"):
        configure(store, place={"name": "9"})
    made = steering.set_settings(
        database_of(store), DEVICE, {"place": {"name": "9"}}, 3_000, whole=True
    )
    assert (made.version, made.base) == (8, 7)


def test_settings_for_nobody_are_refused(store: Store) -> None:
    with pytest.raises(CityError, match="ever spoke"):
        steering.set_settings(database_of(store), "bus-9", {"place": {"name": "9"}}, 1_000)
