"""Keys that outlive the device key, on disk: sealed under it, and under the next one meanwhile.

The file is absent until a first rotation. It has one slot, or two while a rotation is under way:
first the one for the old device key, then the one for the new. Both hold the same.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.base.errors import KeySourceError
from agent.base.wholefile import write_file
from agent.keys.ring import KEY_BYTES, KeyRing

FILE_NAME = "keys.carried"
FORMAT = "kaopass-carried/1"
NONCE_BYTES = 12
_DATA = b"kaopass carried keys 1"


@dataclass(frozen=True, slots=True, repr=False)
class Carried:
    """What a device key finds: the keys by info string, and whether a rotation is under way.

    ``slot`` counts from 0; it is 1 for the new device key of a rotation.
    """

    keys: dict[str, bytes]
    slot: int
    slots: int


def read_carried(path: Path, device_key: bytes) -> Carried | None:
    """What *path* carries for *device_key*; None when there is no such file.

    Raises KeySourceError if it does not open under this key, or cannot be read.
    """
    slots = _slots(path)
    if slots is None:
        return None
    seal = AESGCM(KeyRing(device_key).carried_key())
    for number, slot in enumerate(slots):
        try:
            found = json.loads(seal.decrypt(slot[:NONCE_BYTES], slot[NONCE_BYTES:], _DATA))
        except InvalidTag:
            continue
        keys = {info: bytes.fromhex(key) for info, key in found.items()}
        if any(len(key) != KEY_BYTES for key in keys.values()):
            raise KeySourceError(f"{path} holds keys of a wrong size; restore it from its backup")
        return Carried(keys, number, len(slots))
    raise KeySourceError(
        f"{path} does not open under this device key; restore the key that belongs to it, or both"
        " from the same backup"
    )


def write_carried(path: Path, keys: dict[str, bytes], device_keys: Sequence[bytes]) -> None:
    """Replace *path* by one slot for each of *device_keys*; on the disk, whole, on return.

    Raises KeySourceError when it cannot be written.
    """
    body = json.dumps({info: key.hex() for info, key in sorted(keys.items())}).encode()
    slots = []
    for device_key in device_keys:
        nonce = secrets.token_bytes(NONCE_BYTES)
        seal = AESGCM(KeyRing(device_key).carried_key())
        slots.append((nonce + seal.encrypt(nonce, body, _DATA)).hex())
    try:
        write_file(path, json.dumps({"format": FORMAT, "slots": slots}).encode())
    except OSError as error:
        raise KeySourceError(
            f"{path} cannot be written: {error.strerror}; make room, and run this as the agent's"
            " user"
        ) from error


def _slots(path: Path) -> list[bytes] | None:
    try:
        content: Any = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise KeySourceError(f"{path} was written by a newer kaopass; install that one")
        return [bytes.fromhex(slot) for slot in content["slots"]]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeySourceError(
            f"{path} cannot be read: {error.strerror}; run this as the agent's user"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KeySourceError(
            f"{path} is damaged ({error}); restore it from its backup: without it the gallery and"
            " all pseudonyms are others"
        ) from error
