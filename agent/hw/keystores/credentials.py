"""The file behind a systemd credential, for root alone: read, made and replaced.

The agent never sees it: systemd opens it for the unit (``LoadCredentialEncrypted=``). Only
``kaopass keys rotate`` run by root needs this side.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agent.base.errors import KeySourceError
from agent.base.wholefile import sync_directory, write_file

DIRECTORY = Path("/etc/kaopass")  # as systemd/kaopass-agent.service and scripts/install-board say
KEY_BYTES = 32
CREDENTIAL = "device-key"  # the name sealed into every one of them; systemd compares it
_SECONDS = 60  # a TPM takes its time


class CredentialFiles:
    """Keys as encrypted credentials ``NAME.cred`` in a directory, through ``systemd-creds``."""

    def __init__(self, directory: Path = DIRECTORY, options: Sequence[str] = ()) -> None:
        """*options* go to ``systemd-creds encrypt``, for example ``--with-key=tpm2``."""
        self._directory = directory
        self._options = options

    def __str__(self) -> str:
        return f"the encrypted credentials in {self._directory}"

    def load(self, name: str) -> bytes | None:
        """The key called *name*, None if there is no such file. Raises KeySourceError."""
        path = self._path(name)
        if not path.exists():
            return None
        key = _systemd_creds(["decrypt", f"--name={CREDENTIAL}", str(path), "-"], b"")
        if len(key) == 2 * KEY_BYTES:
            key = bytes.fromhex(key.decode("ascii"))
        if len(key) != KEY_BYTES:
            raise KeySourceError(f"credential {path} holds {len(key)} bytes instead of {KEY_BYTES}")
        return key

    def create(self, name: str) -> bytes:
        """Make and keep a new random key; on the disk on return. Raises KeySourceError."""
        path = self._path(name)
        if path.exists():
            raise KeySourceError(f"credential {path} exists already; it is never replaced")
        key = secrets.token_bytes(KEY_BYTES)
        arguments = ["encrypt", f"--name={CREDENTIAL}", *self._options, "-", "-"]
        sealed = _systemd_creds(arguments, key)
        try:
            write_file(path, sealed)
        except OSError as error:
            raise KeySourceError(
                f"credential {path} cannot be written: {error.strerror}"
            ) from error
        return key

    def promote(self, name: str, to: str) -> None:
        """Make the key called *name* the one called *to*, in one step; the old one is gone."""
        try:
            self._path(name).replace(self._path(to))
            sync_directory(self._directory)
        except OSError as error:
            raise KeySourceError(
                f"{self._path(to)} cannot be replaced: {error.strerror}"
            ) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.cred"


def _systemd_creds(arguments: Sequence[str], given: bytes) -> bytes:
    try:
        done = subprocess.run(
            ["systemd-creds", *arguments],
            input=given,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeySourceError(
            f"systemd-creds cannot be run: {error}; it is in systemd 250"
        ) from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise KeySourceError(
            f"systemd-creds {arguments[0]} failed: {words[-1]}; run this as root, on the board that"
            " made the credential"
        )
    return done.stdout
