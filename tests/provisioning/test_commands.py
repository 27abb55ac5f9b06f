"""The commands as people type them: from an empty directory to an acknowledged event."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.base.retry import Backoff
from agent.journal import Journal
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.protocol.topics import down_topics
from agent.settings.model import load
from agent.sim.net.mosquitto import free_port
from agent.wiring.desk import open_ring
from agent.wiring.link import mqtt_link
from tests.events import make_event
from tests.provisioning.town import Broker, kaopass
from tests.waiting import LATE_SECONDS, until

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """A command that serves; gives its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LATE_SECONDS)
        assert process.returncode == 0, errors


def done(*arguments: str) -> str:
    found = kaopass(*arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.broker
def test_from_an_empty_directory_to_the_first_acknowledged_event(tmp_path: Path) -> None:
    """The whole of it by its commands: authority, EST server, broker, city side, one device."""
    ca, port = str(tmp_path / "city-ca"), free_port()
    broker = Broker(tmp_path / "broker", port)
    hosts = ("--ca-directory", ca, "--host", "localhost", "--host", "127.0.0.1")
    made = json.loads(done("city", "ca", "init", *hosts, "--json"))
    done(
        *("city", "broker-config", *hosts, "--directory", str(broker.directory)),
        *("--port", str(port), "--bind", "127.0.0.1", "--pid-file", str(broker.pid_file)),
    )
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[device]\nname = "bus-1"\nserial = "S1"\n[sync]\nport = {port}\nbatch_seconds = 0.0\n'
        f'[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
    worker = f"{ca}/workers/city-1"
    serve = ("city", "serve", "--broker", f"mqtts://localhost:{port}")
    files = ("--ca", f"{ca}/ca.pem", "--certificate", f"{worker}.pem", "--key", f"{worker}.key")
    city = (*serve, "--database", str(tmp_path / "city.db"), *files)
    broker.start()
    try:
        est = ("city", "est", "--ca-directory", ca, "--listen", "127.0.0.1", "--port", "0")
        with running(*est) as ready, running(*city) as serving:
            assert "ready" in serving
            server = f"https://localhost:{ready.rsplit(':', 1)[1].strip()}"
            claim = json.loads(
                done("city", "claim", "bus-1", "--serial", "S1", "--ca-directory", ca, "--json")
            )
            assert claim["ca_fingerprint"] == made["fingerprint"]
            assert not (tmp_path / "state").exists()
            began = time.monotonic()
            found = json.loads(
                done(
                    *("provision", "--settings", str(settings), "--server", server),
                    *("--claim", claim["claim"], "--ca-fingerprint", claim["ca_fingerprint"]),
                    "--json",
                )
            )
            provisioned = time.monotonic() - began
            _acknowledge_one(settings)
            acknowledged = time.monotonic() - began
            print(  # noqa: T201 - figures that are asked for
                f"one command {provisioned:.2f} s (its own count {found['seconds']} s), "
                f"first acknowledged event after {acknowledged:.2f} s"
            )
            listed = done("city", "events", "--database", str(tmp_path / "city.db"), "--json")
            assert json.loads(listed)["device"] == "bus-1"
            _look_and_revoke(ca, str(settings), server, claim)
    finally:
        broker.stop()


def _acknowledge_one(settings_file: Path) -> None:
    """Sync as the agent wires it, with one event in the journal."""
    settings = load(settings_file)
    ring = open_ring(settings)

    def journal() -> Journal:
        return Journal(settings.state_directory / "journal.db", ring.journal_key())

    with journal() as opened:
        opened.append(make_event())
    state = SyncState(None)
    sync = Supervisor(
        "bus-1",
        "test",
        journal=journal,
        link=lambda will: mqtt_link(settings, down_topics("bus-1"), will),
        state=state,
        backoff=Backoff(state, min_seconds=0.1, max_seconds=1.0),
    )
    sync.start()
    try:
        until(lambda: sync.status.acked == 1, what="the city's acknowledgement")
    finally:
        sync.stop()


def _look_and_revoke(ca: str, settings: str, server: str, claim: dict[str, str]) -> None:
    at = ("--ca-directory", ca)
    row = json.loads(done("city", "device", "list", *at, "--json"))
    assert (row["name"], row["serial"], row["state"]) == ("bus-1", "S1", "active")
    assert "bus-1 is revoked" in done("city", "device", "revoke", "bus-1", *at)
    assert "revoked" in done("city", "device", "list", *at)
    again = kaopass(
        *("provision", "--settings", settings, "--server", server, "--claim", claim["claim"]),
        *("--ca-fingerprint", claim["ca_fingerprint"]),
    )
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    city = json.loads(done("audit", "verify", "--city", ca, "--json"))
    assert city["torn_bytes"] == 0
    actions = [
        json.loads(line)["action"]
        for line in done("audit", "list", "--city", ca, "--json").splitlines()
    ]
    for action in ("authority.made", "claim.made", "device.enrolled", "device.revoked"):
        assert actions.count(action) == 1
    mine = done("audit", "list", "--settings", settings)
    assert "identity.provisioned" in mine
    log = Path(ca) / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b"device.revoked", b"device.enrolled"))
    assert kaopass("audit", "verify", "--city", ca).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("city", "claim", "bus-1", "--serial", "S1"), 1, "kaopass city ca init"),
        (("city", "device", "list"), 1, "kaopass city ca init"),
        (("provision", "--server", "ftp://x", "--claim", "x"), 2, "give https"),
        (
            ("provision", "--server", "https://x", "--claim", "x", "--ca", "nowhere.pem"),
            2,
            "cannot be read",
        ),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text(f'[device]\nserial = "S1"\n[state]\ndirectory = "{tmp_path / "state"}"\n')
    where = ("--settings", str(settings)) if arguments[0] == "provision" else ()
    ca = ("--ca-directory", str(tmp_path / "none")) if arguments[0] == "city" else ()
    found = kaopass(*arguments, *where, *ca)
    assert found.returncode == code, found.stderr
    assert words in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.broker
def test_revoking_without_a_way_to_reload_the_broker_says_what_is_left(tmp_path: Path) -> None:
    ca = ("--ca-directory", str(tmp_path / "ca"))
    done("city", "ca", "init", *ca, "--host", "localhost")
    done("city", "broker-config", *ca, "--host", "localhost", "--directory", str(tmp_path / "b"))
    done("city", "claim", "bus-1", "--serial", "S1", *ca)
    found = kaopass("city", "device", "revoke", "bus-1", *ca)
    assert found.returncode == 0
    assert "systemctl reload mosquitto" in found.stderr
    assert kaopass("city", "device", "revoke", "bus-1", *ca).returncode == 1
