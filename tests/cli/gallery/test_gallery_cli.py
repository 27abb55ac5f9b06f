"""``kaopass gallery``: what it prints, for people and programs, and how it exits."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.base.audit import entries
from agent.base.errors import KeySourceError
from agent.cli.common import operator
from agent.gallery.gallery import Gallery
from agent.settings.model import load
from agent.wiring.desk import LocalDesk, open_ring
from tests.recognition.people import NOW_MS, PACK, enroll, nickname, person_id, templates


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path / "state"}"\n', encoding="utf-8")
    return file


@pytest.fixture
def enrolled(settings: Path) -> Path:
    """Two people enrolled as the agent would."""
    chosen = load(settings)
    path = chosen.state_directory / "gallery.db"
    with Gallery(path, open_ring(chosen), PACK) as gallery:
        enroll(gallery, 1)
        gallery.enroll(person_id(2), templates(2), purposes=("hall",), now_ms=NOW_MS)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["gallery", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_list_shows_everybody(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--settings", settings) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{person_id(1)}  {nickname(1)}  bus+hall  2026-09-21  3 of {PACK}",
        f"{person_id(2)}  -  hall  2026-09-21  3 of {PACK}",
        "2 enrolled",
    ]


def test_list_as_json_is_complete(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--settings", settings, "--json") == 0
    people = json.loads(capsys.readouterr().out)
    assert people[1] == {
        "id": person_id(2),
        "nickname": "",
        "purposes": ["hall"],
        "created_ms": NOW_MS,
        "templates": {PACK: 3},
        "source": "device",
        "linked": False,
        "expires_ms": 0,
    }


def test_revoke_takes_out_one_person(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("revoke", person_id(1), "--settings", settings, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": person_id(1)}
    assert run("list", "--settings", settings) == 0
    assert "1 enrolled" in capsys.readouterr().out


def test_revoking_nobody_is_an_error(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("revoke", "resident-9", "--settings", settings) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "kaopass: nobody is enrolled as 'resident-9'; see: kaopass gallery list\n"
    )
    assert captured.out == ""


def audited(settings: Path) -> list[tuple[str, str, str]]:
    """What the device's log says: action, by whom, on whom."""
    found = entries(load(settings).audit_file)
    return [(entry.action, entry.actor, entry.subject) for entry in found]


def test_a_revocation_is_noted_and_the_attempt_on_nobody_is_not(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("revoke", "resident-9", "--settings", settings) == 1
    assert audited(settings) == []
    assert run("revoke", person_id(1), "--settings", settings) == 0
    log = LocalDesk(load(settings)).audit
    assert audited(settings) == [
        ("gallery.revoked", log.reference(operator()), log.reference(person_id(1)))
    ]
    assert person_id(1) not in load(settings).audit_file.read_text()


def test_nobody_is_revoked_where_that_cannot_be_noted(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(settings).audit_file.mkdir()
    assert run("revoke", person_id(1), "--settings", settings) == 1
    assert "nothing is done that cannot be noted" in capsys.readouterr().err
    assert run("list", "--settings", settings) == 0
    assert "2 enrolled" in capsys.readouterr().out


def test_an_empty_gallery_says_so(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        assert run("revoke", person_id(number), "--settings", settings) == 0
    capsys.readouterr()
    assert run("list", "--settings", settings) == 0
    assert capsys.readouterr().out == "nobody is enrolled\n"


def test_verify_of_a_sound_gallery_succeeds(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", "--settings", settings) == 0
    assert capsys.readouterr().out.splitlines() == [
        "people     2, 0 of them damaged",
        "templates  6, 0 of them damaged",
    ]


def test_verify_says_what_is_damaged_and_fails(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(enrolled)) as raw:
        raw.execute("UPDATE template SET sealed = zeroblob(2076) WHERE id = 1")
        raw.commit()
    assert run("verify", "--settings", settings) == 1
    assert "6, 1 of them damaged\nenrol again whoever is missing" in capsys.readouterr().out


def test_verify_salvages_a_broken_file_and_says_where_it_is(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(enrolled.read_bytes())
    content[-16_384:] = bytes(16_384)
    enrolled.write_bytes(content)
    assert run("verify", "--settings", settings, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["salvaged_from"] == f"{enrolled}.damaged-1"
    assert report["people"] == 2
    assert Path(report["salvaged_from"]).exists()


@pytest.mark.parametrize("arguments", [("list",), ("revoke", "a"), ("verify",)])
def test_no_gallery_is_named_and_none_is_made(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments, "--settings", settings) == 1
    assert f"there is no gallery at {tmp_path / 'state' / 'gallery.db'}" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_another_key_is_said_plainly(
    settings: Path, enrolled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = enrolled.parent / "keys" / "device-key"
    key.write_bytes(bytes(32))
    assert run("list", "--settings", settings) == 1
    assert "was written under another key" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["gallery.db", "journal.db"])
def test_a_lost_key_is_not_made_anew_over_data(settings: Path, tmp_path: Path, data: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / data).write_bytes(b"")
    with pytest.raises(KeySourceError, match=rf"no key called 'device-key' in {tmp_path}"):
        open_ring(load(settings))
    assert not (tmp_path / "state" / "keys").exists()


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("list", "revoke", "verify"):
        assert run(name, "--help") == 0
        assert len(capsys.readouterr().out.splitlines()) > 5
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("list", "revoke", "verify"))


def test_an_unknown_command_is_wrong_usage() -> None:
    assert run("enrol") == 2


def test_with_the_citys_gallery_nobody_is_enrolled_without_consent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a picture is opened; and the ways to say it are not mixed."""
    settings = tmp_path / "city.toml"
    settings.write_text(f'[gallery]\nsource = "city"\n[state]\ndirectory = "{tmp_path}/state"\n')
    local = tmp_path / "local.toml"
    local.write_text(f'[state]\ndirectory = "{tmp_path}/state"\n')
    enroll = ("enroll", "somebody", "none.jpg", "--settings")
    assert run(*enroll, settings) == 2
    assert "without their consent" in capsys.readouterr().err
    assert run(*enroll, settings, "--agreed", "bus") == 2
    assert "--notice and --controller" in capsys.readouterr().err
    assert run(*enroll, settings, "--purpose", "bus") == 2
    assert "--agreed or --consent" in capsys.readouterr().err
    agreed = ("--agreed", "bus", "--notice", "1", "--controller", "city")
    assert run(*enroll, settings, *agreed, "--allow-duplicate") == 2
    assert "--allow-duplicate is for a local gallery" in capsys.readouterr().err
    assert run(*enroll, local, "--agreed", "bus") == 2
    assert "here use --purpose" in capsys.readouterr().err


def test_status_tells_whose_gallery_it_is_and_who_waits_for_the_city(
    settings: Path, enrolled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--settings", settings, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"source": "local", "people": 2, "provisional": []}
    with Gallery(enrolled, open_ring(load(settings)), PACK) as gallery:
        gallery.enroll("guest", templates(3), now_ms=NOW_MS, provisional=True)
    settings.write_text(settings.read_text() + '[gallery]\nsource = "city"\n')
    assert run("status", "--settings", settings, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["version"], told["lease_hours_left"]) == ("city", 0, 0.0)
    assert told["provisional"] == ["guest"]
    assert run("status", "--settings", settings) == 0
    told = capsys.readouterr().out
    assert "provisional       guest" in told
    assert "expires           -\n" in told  # no version yet
