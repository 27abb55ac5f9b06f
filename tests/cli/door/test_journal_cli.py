"""``kaopass journal`` shows and exports what was recorded, pseudonyms masked unless asked for."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.base.errors import JournalError, UsageError
from agent.base.values import Nack
from agent.cli.door.journal import command
from agent.journal import Journal
from agent.journal.export import COLUMNS
from agent.settings.model import load
from agent.wiring.desk import open_ring
from tests.events import one_of_each
from tests.journal.events import ack, event, moment


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """A device with three events: one acknowledged, one refused, one pending of 1970."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path / "state"}"\n', encoding="utf-8")
    settings = load(file)
    key = open_ring(settings).journal_key()
    with Journal(settings.state_directory / "journal.db", key) as journal:
        journal.append(event(1))
        journal.append(event(2))
        journal.append(event(3, moment(3, wall_ms=0, clock="unset")))
        journal.confirm(ack(journal.epoch, 2, nack=(Nack(2, "unknown_stop"),)))
    return file


def run(settings_file: Path, *arguments: str) -> Result:
    subcommand, *options = arguments
    result = CliRunner().invoke(command, [subcommand, "--settings", str(settings_file), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_shows_the_newest_events_with_their_state_and_no_pseudonym(
    settings_file: Path,
) -> None:
    lines = run(settings_file, "list", "--limit", "2").output.splitlines()
    assert len(lines) == 2
    assert "quarantined" in lines[0]
    assert lines[0].endswith("masked  unknown_stop")
    assert "パークバス1 front 紫山一丁目" in lines[0]
    assert lines[1].split()[0:2] == ["3", "pending"]
    assert "?  boarding" in lines[1]  # a clock that was not set
    assert f"{3:064x}" not in "".join(lines)


def test_list_says_what_events_of_every_kind_are_about(settings_file: Path) -> None:
    settings = load(settings_file)
    with Journal(
        settings.state_directory / "journal.db", open_ring(settings).journal_key()
    ) as journal:
        for each in one_of_each():
            journal.append(each)
    lines = run(settings_file, "list").output.splitlines()
    assert len(lines) == 3 + len(one_of_each())
    assert "count" in lines[-3]
    assert lines[-3].endswith("entered 3, exited 1, source apc, quality high")
    assert lines[-2].endswith("question satisfaction, answer good")
    assert lines[-1].endswith("weather    masked  masked")
    (correction, _) = run(settings_file, "list", "--kind", "correction").output.splitlines()
    assert "what withdrawn, why undo" in correction
    assert f"{77:064x}" not in "".join(lines)


def test_list_for_a_program_is_one_json_array(settings_file: Path) -> None:
    (record,) = json.loads(run(settings_file, "list", "--json", "--state", "acked").output)
    assert tuple(record) == COLUMNS
    assert (record["seq"], record["person"], record["stop"]) == (1, "masked", "紫山一丁目")
    assert json.loads(run(settings_file, "list", "--json", "--kind", "check_in").output) == []
    assert run(settings_file, "list", "--kind", "check_in").output == "no such events\n"


def test_pseudonyms_are_shown_when_asked_for(settings_file: Path) -> None:
    shown = run(settings_file, "list", "--json", "--show-persons").output
    assert [record["person"] for record in json.loads(shown)] == [f"{n:064x}" for n in (1, 2, 3)]


def test_export_as_csv_and_as_json_lines_hold_the_same(settings_file: Path) -> None:
    as_csv = list(csv.DictReader(io.StringIO(run(settings_file, "export").output)))
    as_lines = [
        json.loads(line)
        for line in run(settings_file, "export", "--format", "jsonl").output.splitlines()
    ]
    assert [int(row["seq"]) for row in as_csv] == [1, 2, 3]
    assert {row["person"] for row in as_csv} == {"masked"}
    for row, record in zip(as_csv, as_lines, strict=True):
        assert row == {name: "" if v is None else str(v) for name, v in record.items()}


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--first", "2"], [2, 3]),
        (["--last", "2"], [1, 2]),
        (["--state", "pending", "--state", "acked"], [1, 3]),
        (["--kind", "boarding", "--first", "3"], [3]),
        (["--kind", "check_out"], []),
    ],
    ids=str,
)
def test_export_takes_what_the_filters_leave(
    settings_file: Path, options: list[str], numbers: list[int]
) -> None:
    output = run(settings_file, "export", "--format", "jsonl", *options).output
    assert [json.loads(line)["seq"] for line in output.splitlines()] == numbers


def test_an_exported_file_is_private_and_complete_or_not_there(
    settings_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.csv"
    result = run(settings_file, "export", "--output", str(file))
    assert "3 events written" in result.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))) == 3
    with pytest.raises(UsageError, match=r"no/events\.csv cannot be written"):
        run(settings_file, "export", "--output", str(tmp_path / "no" / "events.csv"))
    with pytest.raises(UsageError, match="--last 1 is before --first 2"):
        run(settings_file, "export", "--first", "2", "--last", "1")
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_stats_count_by_state(settings_file: Path) -> None:
    found = json.loads(run(settings_file, "stats", "--json").output)
    assert (found["pending"], found["acked"], found["quarantined"]) == (1, 1, 1)
    assert (found["first"], found["last"], found["gap_records"]) == (1, 3, [])
    text = run(settings_file, "stats").output
    assert "kept         1 to 3 (last number 3)" in text
    assert "lost         0 in 0 gaps" in text


def test_commands_read_beside_a_running_agent(settings_file: Path) -> None:
    """The agent's connection stays open, and its next event is not in the way of a reader."""
    settings = load(settings_file)
    key = open_ring(settings).journal_key()
    with Journal(settings.state_directory / "journal.db", key) as journal:
        journal.append(event(4))
        assert json.loads(run(settings_file, "stats", "--json").output)["last"] == 4
        assert journal.append(event(5)).seq == 5


def test_a_device_without_a_journal_is_told_so(tmp_path: Path) -> None:
    """And neither a journal nor a key is made by looking."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path / "state"}"\n', encoding="utf-8")
    with pytest.raises(JournalError, match="there is no journal at"):
        run(file, "stats")
    assert not (tmp_path / "state").exists()


def test_a_list_of_nothing_says_so(settings_file: Path) -> None:
    assert run(settings_file, "list", "--kind", "enrolment").output == "no such events\n"
    settings = load(settings_file)
    (settings.state_directory / "journal.db").unlink()
    Journal(settings.state_directory / "journal.db", open_ring(settings).journal_key()).close()
    assert run(settings_file, "list").output == "no events\n"


def test_requeue_offers_quarantined_events_again(settings_file: Path) -> None:
    assert run(settings_file, "requeue", "--first", "3").output.startswith("0 events")
    assert run(settings_file, "requeue").output == "1 event offered to the city again\n"
    states = [row["state"] for row in json.loads(run(settings_file, "list", "--json").output)]
    assert states == ["acked", "pending", "pending"]
    with pytest.raises(UsageError, match="this journal has"):
        run(settings_file, "requeue", "--epoch", "00" * 16)
