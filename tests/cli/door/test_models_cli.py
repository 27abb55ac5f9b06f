"""``kaopass models`` as a technician and a program use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.base.errors import KaopassError, ModelError, UsageError
from agent.cli.door.models import command
from agent.packs.manifest import load_manifest
from agent.packs.store import find


def run(state: Path, *arguments: str) -> Result:
    return CliRunner(env={"KAOPASS_STATE__DIRECTORY": str(state)}).invoke(command, arguments)


def failure(result: Result) -> str:
    assert isinstance(result.exception, ModelError), result.output
    return str(result.exception)


def test_list_shows_licence_and_state_of_every_pack(tmp_path: Path) -> None:
    rows = json.loads(run(tmp_path, "list", "--json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert set(by_name) == {"buffalo_s", "faceplugin"}
    assert by_name["buffalo_s"]["licence"] == "research"
    assert by_name["buffalo_s"]["installed"]
    assert by_name["faceplugin"]["state"] == "not installed"


def test_list_for_people_marks_the_chosen_pack(tmp_path: Path) -> None:
    shown = run(tmp_path, "list").stdout
    assert "* buffalo_s" in shown
    assert "  faceplugin" in shown


def test_a_research_pack_is_installed_only_with_its_licence_accepted(tmp_path: Path) -> None:
    refused = run(tmp_path, "install", "buffalo_s")
    assert "--accept-licence research" in failure(refused)
    assert not (tmp_path / "models").exists()
    done = run(tmp_path, "install", "buffalo_s", "--accept-licence", "research")
    assert done.exit_code == 0, done.output
    assert "every sha256 is right" in done.stdout
    assert 'models.licence = "research"' in done.stderr
    found = find(load_manifest().pack("buffalo_s"), tmp_path / "models")
    assert found is not None
    assert found.origin == str(tmp_path / "models" / "buffalo_s")


def test_the_licence_accepted_in_the_settings_is_enough(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[models]\nlicence = "research"\ndirectory = "{tmp_path / "here"}"\n')
    done = run(tmp_path, "install", "buffalo_s", "--settings", str(settings), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["installed"] == ["scrfd_500m_bnkps.onnx", "w600k_mbf.onnx"]
    assert told["folder"] == str(tmp_path / "here" / "buffalo_s")
    assert done.stderr == ""


def test_installing_again_says_that_nothing_was_to_do(tmp_path: Path) -> None:
    for _ in range(2):
        done = run(tmp_path, "install", "buffalo_s", "--accept-licence", "research")
    assert "already installed" in done.stdout


def test_install_from_a_folder_without_the_files_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    done = run(tmp_path, "install", "faceplugin", "--from", str(tmp_path / "given"))
    assert "fr_detect.onnx is not in it" in failure(done)


def test_verify_accepts_what_is_right_and_names_what_is_not(tmp_path: Path) -> None:
    run(tmp_path, "install", "buffalo_s", "--accept-licence", "research")
    good = run(tmp_path, "verify")
    assert good.exit_code == 0
    assert "buffalo_s: ok" in good.stdout
    model = tmp_path / "models/buffalo_s/scrfd_500m_bnkps.onnx"
    body = bytearray(model.read_bytes())
    body[1000] ^= 1
    model.write_bytes(body)
    bad = run(tmp_path, "verify", "buffalo_s", "--json")
    row = json.loads(bad.stdout)[0]
    assert row["state"] == "damaged"
    assert "altered, expected sha256 a3562ef6" in row["detail"]
    assert "not in order: buffalo_s" in failure(bad)


def test_verify_of_a_pack_that_is_not_installed_fails(tmp_path: Path) -> None:
    assert "not in order: faceplugin" in failure(run(tmp_path, "verify", "faceplugin"))


@pytest.mark.parametrize("arguments", [("install", "bufalo"), ("verify", "bufalo")])
def test_a_mistyped_pack_brings_a_suggestion(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert isinstance(done.exception, UsageError)  # wrong usage, so exit code 2
    assert "did you mean 'buffalo_s'" in str(done.exception)


def test_an_archive_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "install", "faceplugin", "--from", str(tmp_path / "no.tgz"))
    assert done.exit_code == 2
    assert "does not exist" in done.stderr


def test_broken_settings_are_reported_before_anything_is_done(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[models]\nlicense = 'research'\n")
    done = run(tmp_path, "list", "--settings", str(settings))
    assert isinstance(done.exception, KaopassError)
    assert "models.licence" in str(done.exception)
