"""Keys as systemd credentials: the unit's side, which is handed them, and root's, who makes them.

systemd decrypts a credential for its unit (``LoadCredentialEncrypted=``); the agent never sees the
file behind it. Only ``kaopass keys rotate`` run by root needs that side.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agent.base.drivers import KeySourceDriver
from agent.base.errors import KeySourceError
from agent.base.wholefile import sync_directory, write_file
from agent.hw.keystores.file import KEY_BYTES, decoded, unreadable

DIRECTORY = Path("/etc/kaopass")  # as systemd/kaopass-agent.service and scripts/install-board say
CREDENTIAL = "device-key"  # the name sealed into every one of them; systemd compares it
_SECONDS = 60  # a TPM takes its time


class CredentialKeySource:
    """Keys that systemd decrypts for its unit (``LoadCredentialEncrypted=``), in memory only.

    Bound to the machine's TPM where there is one; else systemd's host key lies on the same card.
    """

    def __init__(self, directory: Path | None) -> None:
        """*directory* is ``$CREDENTIALS_DIRECTORY``, None when it is not set."""
        self._directory = directory

    def __str__(self) -> str:
        return f"the systemd credentials in {self._directory}"

    def load(self, name: str) -> bytes | None:
        """The credential called *name*, None if the unit has none of that name.

        Raises KeySourceError if this process was given no credentials, or not a key.
        """
        if self._directory is None:
            raise KeySourceError(
                "keys.source = 'credential', but $CREDENTIALS_DIRECTORY is not set: only systemd"
                " hands credentials over; start the unit, or for a single command run: "
                f"systemd-run --pipe --wait -p LoadCredentialEncrypted={name}:"
                f"{DIRECTORY / name}.cred kaopass ..."
            )
        path = self._directory / name
        try:
            # No check of the mode: systemd lets the unit's user in by an access list.
            return decoded(path, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error

    def create(self, name: str) -> bytes:
        """Always raises KeySourceError: only root can make a credential; the message says how."""
        store = DIRECTORY / f"{name}.cred"
        raise KeySourceError(
            f"the unit has no credential {name!r}, and a service cannot make one; as root run: "
            f"head -c 32 /dev/urandom | systemd-creds encrypt --name={name} - {store}"
            f" and start the unit with LoadCredentialEncrypted={name}:{store}"
        )


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


def _handed_over(directory: Path) -> CredentialKeySource:
    del directory
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return CredentialKeySource(Path(given) if given else None)


DRIVER = KeySourceDriver(
    _handed_over,
    lambda _directory: CredentialFiles(),
    protects="whoever holds the card alone, if systemd sealed it to a TPM; else not",
)
