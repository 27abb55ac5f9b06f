"""A small town for one test: authority, EST server on TLS, Mosquitto with the shipped rules."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.base.audit import AuditLog
from agent.base.values import LinkDown, LinkUp
from agent.cityos.keys.audit import audit_log
from agent.cityos.pki.broker import publish, write_config
from agent.cityos.pki.ca import DEVICE_DAYS, Authority
from agent.cityos.pki.claims import Issued, Registry
from agent.cityos.service.est import EstServer, server_context
from agent.cityos.service.estdesk import Desk
from agent.cityos.usecases.office import CityPlaces, Office
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.keys.certificates import new_key, signing_request
from agent.link.provisioning.provisioning import Provisioned
from agent.settings.model import Settings
from agent.sim.net.mosquitto import Mosquitto, free_port
from agent.usecases.membership import provision as use_claim
from agent.wiring.provisioning import provisioning, server_trust
from tests.waiting import LATE_SECONDS, until

HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def noting() -> None:
    """No audit in this test."""


class Est:
    """The EST server in a thread of its own; ``stop`` and ``start`` keep its port."""

    def __init__(self, folder: Path, desk: Desk, **limits: float) -> None:
        self._context = server_context(folder / "est.pem", folder / "est.key", folder / "ca.pem")
        self.desk = desk
        self._limits = limits
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(LATE_SECONDS)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = EstServer(self.desk, self._context, "127.0.0.1", self.port, **self._limits)  # type: ignore[arg-type]
        await server.serve(self._stop, lambda _: ready.set())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LATE_SECONDS)
        assert not self._thread.is_alive()


class Broker(Mosquitto):
    """Mosquitto with nothing but the configuration that ``broker-config`` writes."""

    def __init__(self, folder: Path, port: int) -> None:
        self.directory = folder / "kaopass"
        self.pid_file = folder / "mosquitto.pid"
        lines = (f"pid_file {self.pid_file}", "log_type all", f"include_dir {self.directory}")
        super().__init__(folder, port, lines)

    def start(self, *more: str) -> None:
        """Returns when it takes signals, too: it listens before, and SIGHUP would end it then."""
        before = self._said(" running")
        super().start(*more)
        until(lambda: self._said(" running") > before, "Mosquitto has started")

    def reread(self) -> None:
        """Returns once it has read its files as they are now.

        It is told once more: a reading that is heard of after this call may have been asked for,
        and begun, before the files were changed.
        """
        if not self.pid:
            return
        before = self._said("Reloading config")
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: self._said("Reloading config") > before, "Mosquitto reads its files")

    def _said(self, words: str) -> int:
        if not self.log_file.exists():
            return 0
        return self.log_file.read_text(errors="replace").count(words)


class Town:
    """Everything of a city on this machine."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "city-ca"
        self.authority = Authority.create(self.ca, "test town")
        self.registry = Registry(self.ca)
        self.audit: AuditLog = audit_log(self.ca)
        self._write(self.ca / "est", self.authority.issue_server(["localhost", "127.0.0.1"]))
        (self.ca / "ca.pem").write_bytes(self.authority.certificates_pem())
        (self.ca / "workers").mkdir()
        self._write(self.ca / "workers/city-1", self.authority.issue_worker("city-1"))
        self.office = Office(CityPlaces(self.ca), self.authority, self.registry, self.audit)
        self.desk = Desk(self.office)
        self.est = Est(self.ca, self.desk)
        self.broker = Broker(folder / "broker", free_port())
        write_config(
            self.broker.directory,
            self.authority,
            self.registry,
            now_ms(),
            hosts=["localhost"],
            port=self.broker.port,
            bind="127.0.0.1",
            pid_file=self.broker.pid_file,
        )

    def start(self) -> None:
        self.est.start()
        self.broker.start()

    def stop(self) -> None:
        self.broker.stop()
        self.est.stop()
        self.registry.close()

    def publish(self) -> list[str]:
        left = publish(self.authority, self.registry, now_ms())
        self.broker.reread()
        return left

    def claim(self, device: str = "bus-1", serial: str = "S1", hours: float = 1.0) -> str:
        return self.registry.claim(device, serial, hours, now_ms(), noting)

    def revoke(self, device: str) -> None:
        assert self.registry.revoke(device, now_ms(), noting)
        assert self.publish() == []

    def worker(self) -> Tls:
        return Tls(
            self.ca / "ca.pem", self.ca / "workers/city-1.pem", self.ca / "workers/city-1.key"
        )

    def device(self, name: str, folder: Path, days: float = DEVICE_DAYS) -> Tls:
        """Credentials as EST would issue them, for *days*."""
        serial = f"serial-{name}"
        code = self.claim(name, serial)
        key = new_key()
        csr = x509.load_der_x509_csr(signing_request(key, name, serial))
        public = csr.public_key()
        certificate = self.authority.sign_device(public, name, serial, days)
        issued = Issued(
            f"{certificate.serial_number:x}",
            certificate.public_bytes(Encoding.PEM).decode(),
            round(certificate.not_valid_after_utc.timestamp() * 1000),
        )
        found = self.registry.use(code, name, serial, name, now_ms(), lambda: issued)
        assert isinstance(found, Issued)
        folder.mkdir(exist_ok=True)
        issuing = self.authority.certificates_pem()
        (folder / f"{name}.pem").write_bytes(found.pem.encode() + issuing)
        (folder / f"{name}.key").write_bytes(key)
        return Tls(self.ca / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")

    @staticmethod
    def _write(stem: Path, pair: tuple[bytes, bytes]) -> None:
        stem.with_suffix(".pem").write_bytes(pair[0])
        stem.with_suffix(".key").write_bytes(pair[1])


@pytest.fixture
def town(tmp_path: Path, mosquitto_program: str) -> Iterator[Town]:
    """A running one."""
    found = Town(tmp_path)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def settings_file(folder: Path, town: Town, device: str = "bus-1", serial: str = "S1") -> Path:
    """Settings of one device of *town* whose state is ``folder/state``."""
    path = folder / f"{device}.toml"
    path.write_text(
        f'[device]\nname = "{device}"\nserial = "{serial}"\n'
        f'[sync]\nhost = "localhost"\nport = {town.broker.port}\n'
        f'[state]\ndirectory = "{folder / "state"}"\n'
    )
    return path


def provision(
    settings: Settings,
    *,
    server: str,
    serial: str,
    claim: str,
    authority: bytes | None = None,
    fingerprint: str = "",
    audit: AuditLog | None = None,
    **options: Any,
) -> Provisioned:
    """As ``kaopass provision`` does it."""
    trust = server_trust(server, authority, fingerprint)
    return use_claim(
        provisioning(settings, server, trust, **options),
        claim,
        server=server,
        device=settings.device.name,
        serial=serial,
        trust=trust,
        audit=audit,
        actor="technician",
    )


def outcome(link: MqttLink, seconds: float = 10.0) -> LinkUp | LinkDown:
    """How connecting ends."""
    link.open()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for event in link.turn(0.1):
            if isinstance(event, (LinkUp, LinkDown)):
                return event
    pytest.fail("neither connected nor refused")


def kaopass(
    *arguments: str, preload: Path | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
