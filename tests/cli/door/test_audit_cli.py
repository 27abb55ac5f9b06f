"""``kaopass audit``: an empty log is said to be empty, and a log that is gone is no empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.__main__ import main
from agent.base.audit import AuditLog
from agent.settings.model import load
from agent.wiring.desk import LocalDesk


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path / "state"}"\n', encoding="utf-8")
    return file


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["audit", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def log(settings: Path) -> AuditLog:
    return LocalDesk(load(settings)).audit


def test_a_log_that_does_not_exist_is_not_called_unbroken(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", "--settings", settings) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"there is no audit log at {load(settings).audit_file}" in err


def test_a_citys_directory_without_a_log_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("verify", "list"):
        assert run(command, "--city", tmp_path / "nowhere") == 2
        assert "does not exist" in capsys.readouterr().err
        assert run(command, "--city", tmp_path) == 2
        assert "there is no audit.jsonl in it" in capsys.readouterr().err


def test_one_entry_is_one_entry_and_its_head_is_found_again(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = log(settings).append("gallery.enrolled", subject="p").hash
    assert run("verify", "--settings", settings, "--head", head.upper()) == 0
    assert capsys.readouterr().out == f"1 entry, unbroken\nhead {head}\n"
    assert run("verify", "--settings", settings, "--head", "0" * 63 + "1") == 1


@pytest.mark.parametrize("head", ["abc", "g" * 64, " "])
def test_a_head_that_is_none_is_wrong_usage(
    settings: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log(settings).append("gallery.enrolled", subject="p")
    assert run("verify", "--settings", settings, "--head", head) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_a_list_of_nothing_says_so(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--settings", settings) == 0
    assert capsys.readouterr().out == "no entries\n"
    log(settings).append("gallery.enrolled", subject="p")
    assert run("list", "--settings", settings, "--id", "q") == 0
    assert capsys.readouterr().out == "no such entries\n"
    assert run("list", "--settings", settings, "--id", "p") == 0
    assert "gallery.enrolled" in capsys.readouterr().out
