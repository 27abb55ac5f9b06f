"""Encrypted credentials by the real systemd-creds: with the host's key, and sealed to a TPM."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.base.errors import KeySourceError
from agent.hw.keystores.credential import CredentialFiles
from agent.sim.net.mosquitto import free_port
from tests.waiting import LATE_SECONDS, until

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-creds") is None or os.geteuid() != 0,
    reason="needs systemd 250 and root",
)
HOST = ("--with-key=host",)


def test_a_credential_is_made_read_and_replaced(tmp_path: Path) -> None:
    files = CredentialFiles(tmp_path, HOST)
    assert files.load("device-key") is None
    old, new = files.create("device-key"), files.create("device-key-next")
    assert files.load("device-key") == old != new
    assert (tmp_path / "device-key.cred").stat().st_mode & 0o777 == 0o600
    assert old not in (tmp_path / "device-key.cred").read_bytes()
    files.promote("device-key-next", "device-key")
    assert files.load("device-key") == new
    assert [file.name for file in tmp_path.iterdir()] == ["device-key.cred"]


def test_a_credential_is_never_overwritten_by_another(tmp_path: Path) -> None:
    files = CredentialFiles(tmp_path, HOST)
    files.create("device-key")
    with pytest.raises(KeySourceError, match="exists already"):
        files.create("device-key")


def test_a_damaged_credential_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "device-key.cred").write_bytes(b"nonsense")
    with pytest.raises(KeySourceError, match="systemd-creds decrypt failed"):
        CredentialFiles(tmp_path, HOST).load("device-key")


def two_ports() -> int:
    """The first of two free ports in a row."""
    while True:
        port = free_port()
        with socket.socket() as other, suppress(OSError):
            other.bind(("127.0.0.1", port + 1))
            return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def tpm(folder: Path) -> Iterator[str]:
    """A software TPM 2.0 on loopback; yields its name for systemd."""
    folder.mkdir()
    port = two_ports()
    control = port + 1  # where the TPM library looks for it
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
            *("--server", f"type=tcp,port={port},bindaddr=127.0.0.1"),
            *("--ctrl", f"type=tcp,port={control},bindaddr=127.0.0.1"),
            *("--flags", "not-need-init,startup-clear"),
        ]
    )
    try:
        until(lambda: listens(control), what="the TPM")
        yield f"swtpm:host=127.0.0.1,port={port}"
    finally:
        process.terminate()
        process.wait(LATE_SECONDS)


@pytest.mark.tpm
@pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs swtpm and libtss2-tcti-swtpm0")
def test_a_key_sealed_to_a_tpm_opens_with_that_tpm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = CredentialFiles(tmp_path, ("--with-key=tpm2",))
    with tpm(tmp_path / "one") as device:
        monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", device)
        key = files.create("device-key")
        assert files.load("device-key") == key
    with tpm(tmp_path / "other") as device:
        monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", device)
        with pytest.raises(KeySourceError, match="systemd-creds decrypt failed"):
            files.load("device-key")
