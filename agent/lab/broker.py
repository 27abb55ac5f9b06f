"""A Mosquitto of one's own to measure with: over TLS, by a throw-away authority, on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.sim.net.authority import ThrowawayAuthority
from agent.sim.net.mosquitto import LOOPBACK, Mosquitto, free_port


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """(authority, certificate, key) files for loopback in *folder*, good for a day."""
    authority = ThrowawayAuthority("kaopass lab")
    certificate, key = authority.issue_pair("localhost")
    files = (folder / "ca.pem", folder / "broker.pem", folder / "broker.key")
    files[2].touch(mode=0o600)
    for file, content in zip(files, (authority.pem, certificate, key), strict=True):
        file.write_bytes(content)
    return files


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker on loopback is, and whose certificates to trust; None: it has no TLS."""

    port: int
    authority: Path | None

    @property
    def options(self) -> list[str]:
        """For ``kaopass city serve``."""
        url = f"{'mqtts' if self.authority else 'mqtt'}://{LOOPBACK}:{self.port}"
        return ["--broker", url, *(["--ca", str(self.authority)] if self.authority else [])]


class LabBroker(Mosquitto):
    """Mosquitto on a free port, where anybody is let in. Raises LinkError and UsageError."""

    def __init__(self, folder: Path, *options: str, tls: bool = True) -> None:
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {port} {LOOPBACK}",
            "allow_anonymous true",
            "set_tcp_nodelay true",  # as the city's own configuration of a broker has it
            *options,
        ]
        authority = None
        if tls:
            authority, certificate, key = make_certificates(folder)
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        super().__init__(folder, port, lines)
        self.authority = authority

    @property
    def address(self) -> Address:
        """How to reach it, from any process."""
        return Address(self.port, self.authority)
