"""``kaopass city command`` and ``settings``: noted, shown, waited for, and mistakes told."""

from __future__ import annotations

import json
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.base.errors import CityError, SettingsError, UsageError
from agent.cityos.events.store import Store
from agent.cityos.pki.ca import Authority
from agent.cityos.usecases import steering
from agent.cli.city.arguments import arguments_of
from agent.cli.city.command import send_command
from agent.cli.city.group import command
from agent.protocol.commands import COMMANDS, Argument, CommandSpec
from agent.protocol.control import CommandResult, SettingsReport
from agent.protocol.forms import Form
from agent.protocol.messages import Birth, Bounds
from agent.protocol.specs import Flag, Integer, Optional
from tests.cityos.database import database_of
from tests.events import EPOCH
from tests.waiting import returns, until

KEY = "ab" * 32


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "city.db")
    with closing(Store(path)) as store:
        for name in ("bus-1", "bus-2"):
            store.state(name, Birth(1, EPOCH, (Bounds(EPOCH, 1, 0),), "0.1.0"), 1_000)
    return path


def run(database: str, *arguments: str) -> Result:
    result = CliRunner().invoke(command, [*arguments, "--database", database])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(database: str, *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(database, *arguments, "--json").stdout)
    return found


def test_a_command_is_noted_shown_and_listed(database: str) -> None:
    made = told(database, "command", "bus-1", "ping")
    assert (made["device"], made["command"], made["state"]) == ("bus-1", "ping", "waiting")
    assert told(database, "command", "send", "bus-1", "revoke-now", "--key", KEY)["arguments"] == {
        "key": KEY
    }
    listed = run(database, "command", "list").stdout.splitlines()
    assert [line.split()[2] for line in listed] == ["ping", "revoke-now"]
    assert run(database, "command", "list", "--device", "bus-2").stdout == "no commands\n"


def test_waiting_prints_the_answer_and_fails_without_one(database: str) -> None:
    def answer() -> None:
        with closing(Store(database)) as store:
            until(lambda: steering.commands(database_of(store)))
            store.result(
                "bus-1",
                CommandResult(steering.commands(database_of(store))[0].id, "done", detail={"a": 1}),
                2_000,
            )

    device = threading.Thread(target=answer)
    device.start()
    made = told(database, "command", "bus-1", "status", "--wait", "60")
    device.join()
    assert (made["state"], made["detail"]) == ("done", {"a": 1})
    with pytest.raises(CityError, match="ping is waiting"):
        returns(lambda: run(database, "command", "bus-1", "ping", "--wait", "0.3"))


def test_what_changes_a_device_is_in_the_citys_audit_log(database: str, tmp_path: Path) -> None:
    ca = tmp_path / "city-ca"
    Authority.create(ca, "test town")
    run(database, "command", "bus-1", "revoke-now", "--key", KEY, "--ca-directory", str(ca))
    run(database, "command", "bus-1", "ping", "--ca-directory", str(ca))
    run(database, "settings", "set", "bus-1", "vision.max_faces=5", "--ca-directory", str(ca))
    log = (ca / "audit.jsonl").read_text()
    assert [json.loads(line)["action"] for line in log.splitlines()] == [
        *("command.ordered", "settings.set"),
    ]
    assert KEY not in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("revoke-now",), "needs --key"),
        (("revoke-now", "--key", "ABC"), "needs --key"),
        (("ping", "--key", KEY), "not for ping"),
    ],
)
def test_a_wrong_command_is_not_noted(
    database: str, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        run(database, "command", "bus-1", *arguments)
    assert run(database, "command", "bus-1", "format-disk").exit_code == 2
    with pytest.raises(CityError, match="ever spoke"):
        run(database, "command", "bus-9", "ping")
    assert run(database, "command", "list").stdout == "no commands\n"


def test_a_new_entry_in_the_table_of_commands_can_be_given(database: str) -> None:
    hop = CommandSpec(
        "hop",
        "hops so often",
        arguments=Form(
            dict,
            "hop",
            {
                "how_often": Argument(Integer(1, 9), "how often", "N"),
                "high": Optional(Argument(Flag(), "with a run-up")),
            },
        ),
    )
    command = send_command((*COMMANDS, hop))
    told = CliRunner().invoke(command, ["--help"]).stdout
    assert re.search(r"^ +hop +hops so often$", told, re.MULTILINE)
    assert re.search(r"--how-often N +hop: how often\.", told)
    assert re.search(r"--high +hop: with a run-up\.", told)
    for arguments, words in (
        ((), "hop needs --how-often: how often"),
        (("--how-often", "10"), "--how-often: not an integer from 1 to 9"),
        (("--key", KEY, "--how-often", "3"), "--key is for revoke-now, not for hop"),
    ):
        result = CliRunner().invoke(command, ["bus-1", "hop", *arguments, "--database", database])
        assert isinstance(result.exception, UsageError)
        assert words in str(result.exception)
    given = {"how_often": 3, "high": True, "key": None}
    assert arguments_of(hop, COMMANDS, given) == {"how_often": 3, "high": True}


def test_settings_are_set_shown_and_refusals_explained(database: str) -> None:
    changes = ("vision.max_faces=5", "place.name=泉7号", 'camera.kind="v4l2"')
    # Right or wrong together with the device's own decision.min_frames: it will tell.
    assert told(database, "settings", "set", "bus-2", "decision.max_frames=2")["version"] == 1
    made = told(database, "settings", "set", "bus-1", *changes)
    assert (made["version"], made["base"]) == (1, 0)
    assert made["settings"] == {
        "vision": {"max_faces": 5},
        "place": {"name": "泉7号"},
        "camera": {"kind": "v4l2"},
    }
    with closing(Store(database)) as store:
        store.reported("bus-1", SettingsReport(1), 2_000)
        run(database, "settings", "set", "bus-1", "--unset", "place.name", "models.pack=other")
        store.reported(
            "bus-1", SettingsReport(1, 2, ("the agent does not come up with them",)), 3_000
        )
    shown = run(database, "settings", "show", "bus-1").stdout
    assert "settings 1 (after 0): accepted" in shown
    assert "vision.max_faces = 5" in shown
    assert "settings 2 (after 1): refused" in shown
    assert "refused: the agent does not come up with them" in shown
    with pytest.raises(CityError, match="version 1 in force, not 0"):
        run(database, "settings", "set", "bus-1", "vision.max_faces=4", "--base", "0")
    with pytest.raises(CityError, match="settings 3 are waiting"):
        run(database, "settings", "set", "bus-1", "vision.max_faces=4", "--wait", "0.3")
    assert "nothing is set" in run(database, "settings", "show", "bus-3").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing is set"),
        (("vision.max_faces",), "SECTION.KEY=VALUE"),
        (("max_faces=5",), "a setting is SECTION.KEY"),
        (("vision.max_face=5",), "did you mean vision.max_faces"),
        (("vision.max_faces=0",), "greater than or equal to 1"),
        (("sync.host=elsewhere", "keys.source=otp"), "sync.host: belongs to the device"),
        (("--unset", "place.name"), "not set from here"),
    ],
)
def test_wrong_settings_are_told_before_any_device_hears_of_them(
    database: str, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises((UsageError, SettingsError), match=words):
        run(database, "settings", "set", "bus-1", *arguments)
    assert "nothing is set" in run(database, "settings", "show", "bus-1").stdout
