"""Key files and credentials: only a key nobody else can use is accepted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.base.errors import KeySourceError, SettingsError
from agent.hw.keystores.credential import CredentialKeySource
from agent.hw.keystores.file import FileKeySource
from agent.settings.drivers import KEY_SOURCES
from agent.settings.model import load

KEY = bytes(range(32))


def keep(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "device-key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_new_key_is_32_bytes_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "keys"
    key = FileKeySource(directory).create("device-key")
    assert len(key) == 32
    assert FileKeySource(directory).load("device-key") == key
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in directory.iterdir()] == ["device-key"]
    assert (directory / "device-key").stat().st_mode & 0o777 == 0o600


def test_two_new_keys_differ(tmp_path: Path) -> None:
    source = FileKeySource(tmp_path / "keys")
    assert source.create("device-key") != source.create("other-key")


def test_an_absent_key_is_none(tmp_path: Path) -> None:
    assert FileKeySource(tmp_path / "nowhere").load("device-key") is None


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = keep(tmp_path / "keys", KEY)
    with pytest.raises(KeySourceError, match="exists already"):
        FileKeySource(tmp_path / "keys").create("device-key")
    assert path.read_bytes() == KEY
    assert [found.name for found in path.parent.iterdir()] == ["device-key"]


@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n"], ids=repr
)
def test_raw_and_hexadecimal_keys_are_read(tmp_path: Path, content: bytes) -> None:
    keep(tmp_path / "keys", content)
    assert FileKeySource(tmp_path / "keys").load("device-key") == KEY


@pytest.mark.parametrize(
    "content", [b"", KEY[:31], KEY + b"\n", b"g" * 64, KEY.hex().encode()[:62]]
)
def test_a_file_of_another_size_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    path = keep(tmp_path / "keys", content)
    with pytest.raises(KeySourceError) as caught:
        FileKeySource(tmp_path / "keys").load("device-key")
    assert f"{path} is {len(content)} bytes long" in str(caught.value)
    assert not content or content.decode("latin-1") not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_open_to_others_is_refused_with_the_command_that_closes_it(
    tmp_path: Path, mode: int
) -> None:
    path = keep(tmp_path / "keys", KEY, mode)
    with pytest.raises(KeySourceError) as caught:
        FileKeySource(tmp_path / "keys").load("device-key")
    assert f"{path} has mode {mode:04o}" in str(caught.value)
    assert str(caught.value).endswith(f"run: chmod 0600 {path}")


def test_a_read_only_key_is_accepted(tmp_path: Path) -> None:
    keep(tmp_path / "keys", KEY, 0o400)
    assert FileKeySource(tmp_path / "keys").load("device-key") == KEY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    path = keep(tmp_path / "keys", KEY)
    os.chown(path, 12345, -1)
    with pytest.raises(KeySourceError, match=r"belongs to user 12345.*run: chown 0 "):
        FileKeySource(tmp_path / "keys").load("device-key")


def test_a_pipe_in_place_of_a_key_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "device-key", 0o600)
    with pytest.raises(KeySourceError, match="no regular file"):
        FileKeySource(tmp_path).load("device-key")


def test_no_key_is_made_where_others_could_exchange_it(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(KeySourceError, match=r"mode 0777.*chmod 0700"):
        FileKeySource(directory).create("device-key")
    assert not list(directory.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeySourceError, match="cannot be written: Not a directory"):
        FileKeySource(tmp_path / "file" / "keys").create("device-key")


@pytest.mark.parametrize("name", ["", "../device-key", "a/b", ".hidden", "Device"])
def test_a_name_cannot_lead_out_of_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeySourceError, match="key name"):
        FileKeySource(tmp_path).load(name)


def test_a_credential_is_read_whatever_mode_systemd_gave_it(tmp_path: Path) -> None:
    keep(tmp_path, KEY, 0o440)
    assert CredentialKeySource(tmp_path).load("device-key") == KEY
    assert CredentialKeySource(tmp_path).load("other-key") is None


def test_a_credential_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, b"short")
    with pytest.raises(KeySourceError, match="5 bytes long"):
        CredentialKeySource(tmp_path).load("device-key")


def test_a_credential_cannot_be_made_and_the_message_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(KeySourceError, match="systemd-creds encrypt --name=device-key"):
        CredentialKeySource(tmp_path).create("device-key")


def test_without_credentials_the_message_says_where_they_come_from() -> None:
    with pytest.raises(KeySourceError, match=r"CREDENTIALS_DIRECTORY is not set.*systemd-run"):
        CredentialKeySource(None).load("device-key")


def test_the_settings_name_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "keys", KEY)
    assert KEY_SOURCES.driver("file").make(tmp_path / "keys").load("device-key") == KEY
    keep(tmp_path / "credentials", KEY[::-1], 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert KEY_SOURCES.driver("credential").make(tmp_path / "keys").load("device-key") == KEY[::-1]
    with pytest.raises(SettingsError, match=r"keys\.source = 'tpm': is none of .*otp"):
        load(None, {"keys": {"source": "tpm"}})


def test_one_key_takes_anothers_place_in_one_step(tmp_path: Path) -> None:
    source = FileKeySource(tmp_path / "keys")
    source.create("device-key")
    new = source.create("device-key-next")
    source.promote("device-key-next", "device-key")
    assert source.load("device-key") == new
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["device-key"]
    with pytest.raises(KeySourceError, match="cannot be replaced: No such file"):
        source.promote("device-key-next", "device-key")


def test_the_advice_for_a_credential_is_what_the_unit_and_the_installer_use(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    place = "device-key:/etc/kaopass/device-key.cred"
    unit = (root / "systemd/kaopass-agent.service").read_text()
    assert f"LoadCredentialEncrypted={place}\n" in unit
    assert "/etc/kaopass/device-key.cred" in (root / "scripts/install-board").read_text()
    with pytest.raises(KeySourceError, match=f"LoadCredentialEncrypted={place}$"):
        CredentialKeySource(tmp_path).create("device-key")
    with pytest.raises(KeySourceError, match=f"LoadCredentialEncrypted={place} "):
        CredentialKeySource(None).load("device-key")
