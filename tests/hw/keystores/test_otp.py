"""The Pi's OTP key: derived from what is burnt into the board and a salt on the card."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.base.errors import KeySourceError
from agent.hw.keystores.file import FileKeySource
from agent.hw.keystores.otp import IOCTL_PROPERTY, OtpKeySource, read_private_key
from agent.settings.drivers import KEY_SOURCES
from tests.hw.keystores.firmware import Firmware

ROWS = (0x00112233, 0x44556677, 0x8899AABB, 0xCCDDEEFF, 1, 2, 3, 0xFFFFFFFF)
BURNT = bytes.fromhex("".join(f"{row:08x}" for row in ROWS))


def source(directory: Path, *rows: int, locked: bool = False) -> OtpKeySource:
    return OtpKeySource(FileKeySource(directory), Firmware(rows or ROWS, locked=locked))


def test_the_rows_are_read_as_the_firmwares_own_tool_prints_them() -> None:
    assert read_private_key(Firmware(ROWS)) == BURNT


def test_a_key_comes_back_on_the_same_board_alone(tmp_path: Path) -> None:
    key = source(tmp_path / "keys").create("device-key")
    assert len(key) == 32
    assert key != BURNT
    assert source(tmp_path / "keys").load("device-key") == key
    other = source(tmp_path / "keys", *ROWS[:-1], 5)
    assert other.load("device-key") not in (None, key)


def test_what_is_on_the_card_is_not_the_key(tmp_path: Path) -> None:
    key = source(tmp_path / "keys").create("device-key")
    (salt,) = (tmp_path / "keys").iterdir()
    assert salt.name == "otp-device-key"
    assert salt.stat().st_mode & 0o777 == 0o600
    assert key not in salt.read_bytes()
    assert BURNT not in salt.read_bytes()


def test_a_new_salt_is_a_new_key_and_takes_the_old_ones_place(tmp_path: Path) -> None:
    keys = source(tmp_path / "keys")
    old, new = keys.create("device-key"), keys.create("device-key-next")
    assert old != new
    keys.promote("device-key-next", "device-key")
    assert keys.load("device-key") == new
    assert keys.load("device-key-next") is None


def test_no_salt_is_no_key(tmp_path: Path) -> None:
    assert source(tmp_path / "keys").load("device-key") is None


def test_a_board_without_a_burnt_key_is_told_how_to_burn_one(tmp_path: Path) -> None:
    empty = OtpKeySource(FileKeySource(tmp_path / "keys"), Firmware())
    with pytest.raises(KeySourceError, match=r"rows of this board are empty.*rpi-otp-private-key"):
        empty.create("device-key")
    assert not (tmp_path / "keys").exists()


def test_a_locked_key_is_said_to_be_locked(tmp_path: Path) -> None:
    with pytest.raises(KeySourceError, match="lock_device_private_key"):
        source(tmp_path / "keys", locked=True).create("device-key")


def test_firmware_with_too_few_rows_is_refused() -> None:
    with pytest.raises(KeySourceError, match="too old"):
        read_private_key(Firmware(ROWS[:4]))


def test_a_machine_without_the_mailbox_is_told_what_it_needs(tmp_path: Path) -> None:
    def absent(message: bytearray) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    keys = OtpKeySource(FileKeySource(tmp_path / "keys"), absent)
    with pytest.raises(KeySourceError, match=r"/dev/vcio.*group video.*DeviceAllow"):
        keys.create("device-key")


def test_a_salt_open_to_others_is_refused(tmp_path: Path) -> None:
    source(tmp_path / "keys").create("device-key")
    (tmp_path / "keys" / "otp-device-key").chmod(0o644)
    with pytest.raises(KeySourceError, match="chmod 0600"):
        source(tmp_path / "keys").load("device-key")


def test_the_settings_name_it(tmp_path: Path) -> None:
    assert isinstance(KEY_SOURCES.driver("otp").make(tmp_path), OtpKeySource)
    assert KEY_SOURCES.driver("otp").make(tmp_path).load("device-key") is None


def test_the_request_is_the_drivers() -> None:
    """_IOWR(100, 0, char *) on a 64-bit system."""
    assert IOCTL_PROPERTY == 0xC0086400
