"""Every secret of a device, derived from its one device key: a separate key for each purpose.

Derivation is HKDF-SHA256 (RFC 5869) with an ``info`` string a purpose, so that no key says
anything about another. Whoever loses the device key loses gallery and journal with it.

A new device key (``kaopass keys rotate``) means new keys for what seals, but some keys must stay:
pseudonyms would change at the city, and every template would have to be mapped anew. Those are
carried over, sealed under the new device key (``agent.keys.carried``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.base.errors import KeySourceError
from agent.base.ports import KeySource
from agent.base.values import PURPOSES

DEVICE_KEY = "device-key"
NEXT_KEY = "device-key-next"  # beside the other while the device key is being changed
KEY_BYTES = 32
# The info strings that outlive the device key, besides those of template maps in use.
LASTING = (
    *("gallery index", "gallery lease", "receipt", "audit"),
    *(f"pseudonym {purpose}" for purpose in PURPOSES),
)


class KeyRing:
    """The keys of one device, 32 bytes each. Its ``repr`` shows none of them."""

    __slots__ = ("__weakref__", "_carried", "_device_key")

    def __init__(self, device_key: bytes, carried: Mapping[str, bytes] | None = None) -> None:
        """*carried* are keys of earlier device keys, by their info string.

        Raises KeySourceError unless *device_key* is 32 bytes.
        """
        if len(device_key) != KEY_BYTES:
            raise KeySourceError(
                f"the device key is {len(device_key)} bytes long; it must be {KEY_BYTES}"
            )
        self._device_key = bytes(device_key)
        self._carried = dict(carried or {})

    def __repr__(self) -> str:
        return "KeyRing(<secret>)"

    def gallery_wrap_key(self) -> bytes:
        """Wraps the key of each person in the gallery (AES-256-GCM)."""
        return self._derive("gallery wrap")

    def gallery_index_key(self) -> bytes:
        """Turns a resident's id into the reference their rows are found by (HMAC-SHA256)."""
        return self._derive("gallery index")

    def journal_key(self) -> bytes:
        """Seals the personal part of journal rows."""
        return self._derive("journal")

    def pseudonym_key(self, purpose: str) -> bytes:
        """Turns a resident's id into their pseudonym for *purpose*, one of PURPOSES."""
        if purpose not in PURPOSES:
            # A rotation would not know of it, and everybody would get another pseudonym.
            raise ValueError(f"purpose {purpose!r} is not among agent.recognition.person.PURPOSES")
        return self._derive(f"pseudonym {purpose}")

    def template_key(self, domain: str, version: int = 1) -> bytes:
        """Makes the map of templates (``agent.recognition.protection``) of *domain*, e.g. "bus"."""
        return self._derive(f"template {domain} {version}")

    def receive_key(self) -> bytes:
        """The private X25519 key that the city seals gallery keys to.

        It need not outlive the device key: every hello tells the city the public one.
        """
        return self._derive("gallery receive")

    def lease_key(self) -> bytes:
        """Vouches for how long the gallery has been used without hearing of it (HMAC-SHA256)."""
        return self._derive("gallery lease")

    def receipt_key(self) -> bytes:
        """Signs receipts of erasure (HMAC-SHA256)."""
        return self._derive("receipt")

    def audit_key(self) -> bytes:
        """Makes the references to people in the audit log (HMAC-SHA256)."""
        return self._derive("audit")

    def carried_key(self) -> bytes:
        """Seals the keys carried over from earlier device keys."""
        return self._derive("carried")

    def fingerprint(self) -> str:
        """Tells one device key from another, and says nothing about it: 16 hex digits."""
        return self._derive("fingerprint")[:8].hex()

    def lasting(self, maps: Iterable[tuple[str, int]]) -> dict[str, bytes]:
        """What the next device key carries on: *maps* are (domain, version) of maps in use."""
        infos = (*LASTING, *(f"template {domain} {version}" for domain, version in maps))
        return {info: self._derive(info) for info in infos}

    def _derive(self, purpose: str) -> bytes:
        carried = self._carried.get(purpose)
        if carried is not None:
            return carried
        # No salt: the device key is uniformly random already (RFC 5869, section 3.1).
        info = f"kaopass/1 {purpose}".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._device_key)


def open_keyring(source: KeySource, *, may_create: bool) -> KeyRing:
    """The keys of this device, from the device key that *source* keeps.

    Without a device key a new one is made if *may_create*: allow it only while nothing has been
    written under an older one. Raises KeySourceError if there is none and none may be made, or
    if *source* cannot be used.
    """
    key = source.load(DEVICE_KEY)
    if key is None and may_create:
        try:
            key = source.create(DEVICE_KEY)
        except KeySourceError:
            key = source.load(DEVICE_KEY)  # another process may have made it just now
            if key is None:
                raise
    if key is None:
        raise KeySourceError(
            f"there is no key called {DEVICE_KEY!r} in {source}, but this device already has data"
            " written under one; put the key back from its backup, or move gallery.db and"
            " journal.db out of the state directory and enrol everybody again"
        )
    return KeyRing(key)
