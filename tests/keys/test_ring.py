"""The key ring: one device key, unrelated keys for each purpose, never made anew over data."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from agent.base.errors import KeySourceError
from agent.keys.ring import KeyRing, open_keyring
from agent.sim.keystores.memory import MemoryKeySource

KEY = bytes(range(32))


class RivalSource(MemoryKeySource):
    """Another process makes the key just before us."""

    def create(self, name: str) -> bytes:
        super().create(name)
        raise KeySourceError("exists already")


class BrokenSource(MemoryKeySource):
    def create(self, name: str) -> bytes:
        raise KeySourceError("read-only file system")


def hkdf(key: bytes, info: bytes) -> bytes:
    """RFC 5869 with no salt and one block of output, written out."""
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def test_keys_are_hkdf_sha256_of_the_device_key() -> None:
    """The info strings are pinned: to change one is to lose what was written."""
    ring = KeyRing(KEY)
    assert ring.gallery_wrap_key() == hkdf(KEY, b"kaopass/1 gallery wrap")
    assert ring.gallery_index_key() == hkdf(KEY, b"kaopass/1 gallery index")
    assert ring.journal_key() == hkdf(KEY, b"kaopass/1 journal")
    assert ring.pseudonym_key("bus") == hkdf(KEY, b"kaopass/1 pseudonym bus")


def test_every_purpose_and_every_device_has_another_key() -> None:
    keys = []
    for ring in (KeyRing(KEY), KeyRing(KEY[::-1])):
        keys += [ring.gallery_wrap_key(), ring.gallery_index_key(), ring.journal_key()]
        keys += [ring.pseudonym_key("bus"), ring.pseudonym_key("hall")]
    assert len(set(keys)) == 10
    assert {len(key) for key in keys} == {32}


def test_no_text_form_shows_the_key() -> None:
    ring = KeyRing(KEY)
    for text in (repr(ring), str(ring), f"{[ring]}"):
        assert text.strip("[]") == "KeyRing(<secret>)"


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(KeySourceError, match=f"is {size} bytes long"):
        KeyRing(bytes(size))


def test_the_stored_device_key_is_used() -> None:
    ring = open_keyring(MemoryKeySource({"device-key": KEY}), may_create=False)
    assert ring.journal_key() == KeyRing(KEY).journal_key()


def test_a_first_start_makes_a_key_and_keeps_it() -> None:
    source = MemoryKeySource()
    ring = open_keyring(source, may_create=True)
    assert ring.journal_key() == KeyRing(source.load("device-key") or b"").journal_key()


def test_a_lost_key_is_never_silently_replaced() -> None:
    source = MemoryKeySource()
    with pytest.raises(KeySourceError, match=r"no key called 'device-key' in memory.*enrol"):
        open_keyring(source, may_create=False)
    assert source.load("device-key") is None


def test_two_processes_at_first_start_end_with_one_key() -> None:
    source = RivalSource()
    ring = open_keyring(source, may_create=True)
    assert ring.journal_key() == KeyRing(source.load("device-key") or b"").journal_key()


def test_a_key_that_cannot_be_kept_is_an_error() -> None:
    with pytest.raises(KeySourceError, match="read-only"):
        open_keyring(BrokenSource(), may_create=True)
