"""Settings and commands on the wire, for one device, of known kinds, within their sizes."""

from __future__ import annotations

import dataclasses
import time

import pytest

from agent.base.errors import MessageError
from agent.protocol import control
from tests.protocol.town import Town

NOW_MS = time.time_ns() // 1_000_000
COMMAND = control.Command("bus-1", "c-1", 4, NOW_MS, 60, "replay", {"epoch": "e", "from": 1})
CONFIG = control.Config("bus-1", 3, 2, {"decision": {"fpir": 0.01}})


def test_a_command_comes_back_for_its_device_alone(town: Town) -> None:
    message = control.sign_command(COMMAND, town.command)
    assert control.read_command(message, town.trust, "bus-1", wall_ms=NOW_MS) == COMMAND
    with pytest.raises(MessageError, match="another device"):
        control.read_command(message, town.trust, "bus-2", wall_ms=NOW_MS)
    with pytest.raises(MessageError):
        control.read_config(message, town.trust, "bus-1", wall_ms=NOW_MS)


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "format-disk"},
        {"id": ""},
        {"id": "a b"},
        {"counter": 0},
        {"ttl_seconds": 0},
        {"ttl_seconds": 10**9},
        {"arguments": {"a": "x" * 5_000}},
    ],
)
def test_what_is_out_of_range_is_refused(town: Town, changes: dict[str, object]) -> None:
    command = dataclasses.replace(COMMAND, **changes)  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        control.read_command(
            control.sign_command(command, town.command), town.trust, "bus-1", wall_ms=NOW_MS
        )


def test_settings_come_back_for_their_device_alone(town: Town) -> None:
    message = control.sign_config(CONFIG, town.command)
    assert control.read_config(message, town.trust, "bus-1", wall_ms=NOW_MS) == CONFIG
    with pytest.raises(MessageError, match="another device"):
        control.read_config(message, town.trust, "bus-2", wall_ms=NOW_MS)
    backwards = dataclasses.replace(CONFIG, base=3)
    with pytest.raises(MessageError):
        control.read_config(
            control.sign_config(backwards, town.command), town.trust, "bus-1", wall_ms=NOW_MS
        )


def test_what_a_device_says_comes_back() -> None:
    outcome = control.CommandResult("c-1", "failed", "no such epoch", {"count": 0})
    assert control.decode_result(control.encode_result(outcome)) == outcome
    report = control.SettingsReport(3, 4, ("decision.fpir = 7: too great",))
    assert control.decode_report(control.encode_report(report)) == report
    with pytest.raises(MessageError):
        control.decode_result(b'{"id":"c","state":"maybe","reason":"","detail":{}}')
