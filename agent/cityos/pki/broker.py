"""Mosquitto's configuration for a town: mutual TLS, two lines of rules, and what is revoked.

What Mosquitto does with it, and what it cannot do, is in docs/identity.md; tests show each line.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509

from agent.base.errors import CityError
from agent.base.wholefile import write_file
from agent.cityos.pki.ca import BACKDATE, Authority
from agent.cityos.pki.claims import Registry
from agent.protocol.topics import ANY, DOWN, UP, below

RULES, REVOKED, CONFIG = "kaopass.acl", "crl.pem", "kaopass.conf"
_COMM = "mosquitto"
_USER = "%u"  # in a rule: whoever is connected, which is the CN of its certificate

_CONFIG = """\
# Written by: kaopass city broker-config. Read by Mosquitto 2.0 or later, e.g. with
#   include_dir {directory}
# in /etc/mosquitto/mosquitto.conf. Written anew each time, so do not edit it.
listener {port}{bind}
tls_version tlsv1.2
cafile {directory}/ca.pem
certfile {directory}/broker.pem
keyfile {directory}/broker.key
crlfile {directory}/{revoked}

# Who has no certificate of this town that is valid and not revoked does not get in; who has one is
# its CN, whatever name and client id it gives.
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {directory}/{rules}

# What one client may cost. The city's workers are clients too, and take what all devices send.
max_connections {connections}
message_size_limit {message_bytes}
max_inflight_messages 100
max_queued_messages 10000
max_queued_bytes 67108864
# An ack must not wait 40 ms in the kernel for the device to confirm what was sent before it.
set_tcp_nodelay true
persistent_client_expiration 1d
"""


def write_config(
    directory: Path,
    authority: Authority,
    registry: Registry,
    now_ms: int,
    *,
    hosts: list[str],
    port: int = 8883,
    bind: str = "",
    connections: int = 10_000,
    message_bytes: int = 262_144,
    pid_file: Path | None = None,
) -> None:
    """Write everything a broker reached as *hosts* needs into *directory*. Raises CityError.

    The broker gets a new certificate each time. *pid_file* is where it writes its process id:
    with it, revocations take effect at once.
    """
    directory = directory.absolute()
    certificate, key = authority.issue_server(hosts)
    text = _CONFIG.format(
        directory=directory,
        port=port,
        bind=f" {bind}" if bind else "",
        connections=connections,
        message_bytes=message_bytes,
        rules=RULES,
        revoked=REVOKED,
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(directory / "ca.pem", authority.certificates_pem())
        write_file(directory / "broker.pem", certificate)
        write_file(directory / "broker.key", key)
        _write_rules(directory, authority, registry, now_ms)
        write_file(directory / CONFIG, text.encode())
    except OSError as error:
        raise _unwritable(directory, error) from error
    registry.add_broker(directory, pid_file.absolute() if pid_file else None)


def publish(authority: Authority, registry: Registry, now_ms: int) -> list[str]:
    """Bring rules and revocations of every broker up to date and have it read them.

    Returns what somebody still has to do, a line for each. Raises CityError.
    """
    left = []
    for directory, pid_file in registry.brokers():
        try:
            _write_rules(directory, authority, registry, now_ms)
        except OSError as error:
            raise _unwritable(directory, error) from error
        trouble = _reload(pid_file)
        if trouble:
            left.append(
                f"the broker of {directory} must read its rules: systemctl reload mosquitto "
                f"({trouble})"
            )
    return left


def worker_names(authority: Authority) -> list[str]:
    """The city side's workers, who may read all events and write to all devices."""
    return sorted(file.stem for file in (authority.directory / "workers").glob("*.pem"))


def _write_rules(directory: Path, authority: Authority, registry: Registry, now_ms: int) -> None:
    lines = [
        "# A device writes upwards and reads downwards, both under its own name only.",
        f"pattern write {below(UP, _USER)}",
        f"pattern read {below(DOWN, _USER)}",
    ]
    for name in worker_names(authority):
        lines += ["", f"user {name}"]
        lines += [f"topic read {below(UP, ANY)}", f"topic write {below(DOWN, ANY)}"]
    # The revocation list keeps them from coming; this also silences who is connected still.
    for name in registry.banned():
        lines += ["", f"user {name}", "topic deny #"]
    write_file(directory / RULES, ("\n".join(lines) + "\n").encode())
    _wait_for_next_second(directory / REVOKED)
    write_file(directory / REVOKED, authority.revocations(registry.revoked(now_ms)))


def _wait_for_next_second(file: Path) -> None:
    """OpenSSL keeps the list it has unless the new one is dated later, and dates have seconds."""
    try:
        written = x509.load_pem_x509_crl(file.read_bytes()).last_update_utc + BACKDATE
    except (FileNotFoundError, ValueError):
        return
    age_seconds = (datetime.now(timezone.utc) - written).total_seconds()
    if 0 <= age_seconds < 1:
        time.sleep(1 - age_seconds)


def _reload(pid_file: Path | None) -> str:
    """SIGHUP to the broker; why that was not possible, empty if it was."""
    if pid_file is None:
        return "its process is not known: give --pid-file"
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        # The file may be older than the last reboot, and the number somebody else's by now.
        if Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() != _COMM:
            return f"process {pid} of {pid_file} is not the broker"
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        return f"{pid_file}: {error}"
    return ""


def _unwritable(directory: Path, error: OSError) -> CityError:
    return CityError(
        f"broker configuration {directory}: cannot be written: {error.strerror or error}"
    )
