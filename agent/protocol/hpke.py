"""Secrets sealed to one receiver: HPKE (RFC 9180), X25519, HKDF-SHA256 and AES-256-GCM.

Base mode: whoever has the public key can seal, so what is sealed travels inside something signed,
or inside an event of the device it comes from. ``info`` says what it is and for whom.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from agent.base.errors import MessageError
from agent.base.values import PURPOSES
from agent.protocol.forms import Form
from agent.protocol.galleries.bodies import CONTENT_KEY_BYTES, KEY_ID_BYTES
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.specs import Base64, Hexadecimal, Integer, Optional

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PSEUDONYMS = (*PURPOSES, "linked")
_KEY = Base64(CONTENT_KEY_BYTES, CONTENT_KEY_BYTES)


def _gallery_keys(pseudonyms: dict[str, bytes | None], **told: Any) -> GalleryKeys:
    given = {name: key for name, key in pseudonyms.items() if key is not None}
    return GalleryKeys(pseudonyms=given, **told)


GALLERY_KEYS = Form(
    _gallery_keys,
    "gallery keys",
    {
        "key": Hexadecimal(KEY_ID_BYTES),
        "content": _KEY,
        "template": _KEY,
        "template_version": Integer(1),
        "pseudonyms": Form(
            dict, "pseudonyms", {name: Optional(_KEY) for name in _PSEUDONYMS}, closed=True
        ),
        "enrolment": _KEY,
    },
    most_bytes=8_192,
)


def seal_to(public_key: bytes, secret: bytes, info: bytes) -> bytes:
    """*secret* for the holder of the X25519 *public_key* (32 bytes). Raises MessageError."""
    try:
        return _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError as error:
        raise MessageError(f"nothing can be sealed to this public key: {error}") from error


def open_sealed(private_key: bytes, sealed: bytes, info: bytes) -> bytes:
    """What was sealed to the holder of *private_key* (32 bytes). Raises MessageError."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private_key), info)
    except (InvalidTag, ValueError) as error:
        raise MessageError("sealed for somebody else, or altered") from error


def public_key_of(private_key: bytes) -> bytes:
    """The X25519 public key, 32 bytes, of *private_key*, any 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def wrap_keys(keys: GalleryKeys, gallery: str, device: str, public_key: bytes) -> bytes:
    """*keys* sealed to *device*, which can tell that they are for it and for *gallery*."""
    return seal_to(public_key, encode_keys(keys), _info(gallery, device))


def unwrap_keys(wrapped: bytes, gallery: str, device: str, private_key: bytes) -> GalleryKeys:
    """Raises MessageError unless *wrapped* is for this device and *gallery*, and whole."""
    return decode_keys(open_sealed(private_key, wrapped, _info(gallery, device)))


def encode_keys(keys: GalleryKeys) -> bytes:
    """*keys* as JSON: a secret, never to be sent or kept unsealed."""
    return GALLERY_KEYS.encode(keys)


def decode_keys(told: bytes) -> GalleryKeys:
    """Raises MessageError unless *told* is what ``encode_keys`` makes."""
    return GALLERY_KEYS.decode(told)


def _info(gallery: str, device: str) -> bytes:
    return b"kaopass/1 gallery keys\0" + gallery.encode() + b"\0" + device.encode()
