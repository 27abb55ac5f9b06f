"""``kaopass keys``, ``gallery rekey`` and ``gallery subject``: what they print and leave behind."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.base.audit import entries
from agent.gallery.gallery import Gallery
from agent.settings.model import load
from agent.usecases.subject import is_receipt
from agent.wiring.desk import open_ring
from tests.recognition.people import NOW_MS, PACK, person_id, templates


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    state = tmp_path / "state"
    file.write_text(f'[state]\ndirectory = "{state}"\n', encoding="utf-8")
    with Gallery(state / "gallery.db", open_ring(load(file)), PACK) as gallery:
        for number in (1, 2):
            rows = gallery.protection.apply(templates(number, values=64))
            gallery.enroll(person_id(number), rows, now_ms=NOW_MS)
    return file


def run(settings: Path, *arguments: object) -> int:
    gc.collect()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--settings", str(settings)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def actions(settings: Path) -> list[str]:
    return [entry.action for entry in entries(load(settings).audit_file)]


def test_show_tells_the_source_and_a_fingerprint_and_never_the_key(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, "keys", "show") == 0
    shown = capsys.readouterr().out
    file = load(settings).keys_directory / "device-key"
    assert f"file              {file}\npermissions       0600, owner" in shown
    assert "template key      bus 1" in shown
    assert file.read_bytes().hex() not in shown
    assert open_ring(load(settings)).fingerprint() in shown


@pytest.mark.slow
def test_rotate_changes_the_key_and_keeps_everybody(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_ring(load(settings)).fingerprint()
    assert run(settings, "keys", "rotate", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["people"], told["events"]) == (2, 0)
    assert told["fingerprint"] == open_ring(load(settings)).fingerprint() != before
    assert run(settings, "gallery", "verify") == 0
    assert "people     2, 0 of them damaged" in capsys.readouterr().out
    assert actions(settings) == ["keys.rotated"]


def test_rotate_tells_each_step_of_its_way(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, "keys", "rotate") == 0
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 6
    assert "2 people and 0 events are under it" in told.out


def test_rekey_puts_every_template_under_another_key(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, "gallery", "rekey", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["templates"], told["domain"], told["version"]) == (6, "bus", 2)
    assert run(settings, "gallery", "verify") == 0
    assert actions(settings) == ["gallery.rekeyed"]


def test_a_device_moved_to_a_hall_is_told_to_rekey(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(settings.read_text() + '[place]\nkind = "hall"\n')
    chosen = load(settings)
    assert run(settings, "gallery", "rekey") == 0
    with Gallery(
        chosen.state_directory / "gallery.db", open_ring(chosen), PACK, domain="hall"
    ) as gallery:
        assert gallery.protection.name == "hall 2"


@pytest.mark.slow
def test_subject_exports_to_a_file_of_ones_own_and_erases_with_a_receipt(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "held.json"
    assert run(settings, "gallery", "subject", person_id(1), "--export", output) == 0
    assert output.stat().st_mode & 0o777 == 0o600
    assert json.loads(output.read_text())["gallery"]["id"] == person_id(1)
    assert run(settings, "gallery", "subject", person_id(1), "--erase", "--json") == 0
    receipt = json.loads(capsys.readouterr().out)
    assert is_receipt(open_ring(load(settings)), receipt)
    assert run(settings, "gallery", "subject", person_id(1), "--erase") == 1
    assert actions(settings) == ["subject.exported", "subject.erased"]
    assert person_id(1) not in load(settings).audit_file.read_text()


def test_subject_without_a_wish_is_wrong_usage(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, "gallery", "subject", person_id(1)) == 2
    assert "--export FILE, --erase" in capsys.readouterr().err
