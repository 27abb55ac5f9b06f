"""The status socket: answers anybody allowed, one agent a place, and no trace when it is gone."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.base.errors import StatusError
from agent.base.values import Health
from agent.device.statussocket import StatusSocket, ask
from tests.waiting import returns

HEALTH = Health("ready", ("lamps: no GPIO chip",), {"frames": 3}, {"place": "泉パークタウン"})


def snapshot() -> Health:
    return HEALTH


@contextmanager
def serving(path: Path) -> Iterator[StatusSocket]:
    served = StatusSocket(path, snapshot)
    served.open()
    try:
        yield served
    finally:
        served.close()


def test_each_connection_gets_one_snapshot(tmp_path: Path) -> None:
    with serving(tmp_path / "status.sock"):
        for _ in range(3):
            assert ask(tmp_path / "status.sock") == {
                "state": "ready",
                "alarms": ["lamps: no GPIO chip"],
                "counters": {"frames": 3},
                "detail": {"place": "泉パークタウン"},
            }


def test_the_socket_is_for_user_and_group_only_and_leaves_with_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "run" / "status.sock"
    with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert sorted(entry.name for entry in path.parent.iterdir()) == [
            "status.sock",
            "status.sock.lock",
        ]
    assert not path.exists()


def test_a_second_agent_in_this_process_or_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    second = (
        "import sys; from pathlib import Path\n"
        "from agent.device.statussocket import StatusSocket\n"
        "from agent.base.errors import StatusError\n"
        "try:\n    StatusSocket(Path(sys.argv[1]), lambda: None).open()\n"
        "except StatusError as error:\n    print(error)\n"
    )
    with serving(path):
        with pytest.raises(StatusError, match="another agent is running"):
            StatusSocket(path, snapshot).open()
        told = subprocess.run(
            [sys.executable, "-c", second, str(path)], capture_output=True, text=True, check=True
        )
        assert "another agent is running" in told.stdout
        assert ask(path)["state"] == "ready"  # the first one still answers


def test_a_dead_agents_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path):
        assert ask(path)["state"] == "ready"


def test_a_foreign_program_that_answers_is_not_displaced(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StatusError, match="answers on"):
            StatusSocket(path, snapshot).open()
        assert path.exists()


def test_an_ordinary_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    path.write_text("precious")
    with pytest.raises(StatusError, match="left alone"):
        StatusSocket(path, snapshot).open()
    assert path.read_text() == "precious"


def test_after_a_refusal_the_place_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    path.write_text("precious")
    with pytest.raises(StatusError):
        StatusSocket(path, snapshot).open()
    path.unlink()
    with serving(path):
        assert ask(path)["state"] == "ready"


def test_a_path_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="107 bytes"):
        StatusSocket(tmp_path / ("x" * 108), snapshot).open()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StatusError, match=r"state\.socket"):
        StatusSocket(tmp_path / "file" / "status.sock", snapshot).open()


def test_close_does_not_wait_for_an_idle_client(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    served = StatusSocket(path, snapshot)
    served.open()
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(path))
        returns(served.close)
        returns(served.close)
    assert "status" not in [thread.name for thread in threading.enumerate()]


def test_a_client_that_never_reads_does_not_keep_others_waiting_for_long(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    large = Health("ready", (), {}, {"much": "x" * 600_000})
    served = StatusSocket(path, lambda: large)
    served.open()
    try:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            assert len(ask(path)["detail"]["much"]) == 600_000
    finally:
        served.close()


def test_a_snapshot_that_fails_once_is_answered_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    answers = iter([None, HEALTH])

    def moody() -> Health:
        answer = next(answers)
        if answer is None:
            raise RuntimeError("a defect somewhere")
        return answer

    served = StatusSocket(path, moody)
    served.open()
    try:
        with pytest.raises(StatusError, match="no kaopass agent"):
            ask(path)
        assert ask(path)["state"] == "ready"
    finally:
        served.close()


def test_no_agent_is_told_with_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"no agent is running.*systemctl start kaopass-agent"):
        ask(tmp_path / "status.sock")


def test_a_hung_agent_is_told_apart_from_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "status.sock"))
        hung.listen()
        with pytest.raises(StatusError, match="does not answer"):
            ask(tmp_path / "status.sock", timeout_seconds=0.05)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may ask anybody")
def test_a_user_outside_the_group_is_told_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path / "status.sock"):
        (tmp_path / "status.sock").chmod(0)
        with pytest.raises(StatusError, match="usermod -aG kaopass"):
            ask(tmp_path / "status.sock")
