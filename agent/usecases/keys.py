"""Where this device's key comes from, told without the key."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import GalleryError
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing


@dataclass(frozen=True, slots=True)
class KeysShown:
    """``permissions`` of the key's file, empty where systemd keeps it; ``template_key`` is the name
    of the one in use, or why it cannot be told."""

    fingerprint: str
    permissions: str
    template_key: str


def show(ring: KeyRing, key_file: Path | None, gallery: Callable[[], Gallery] | None) -> KeysShown:
    """What can be told of *ring*, which was read from *key_file* (None: systemd's affair).

    *gallery* opens the one under it, None where there is none yet.
    """
    permissions = ""
    if key_file is not None:
        status = key_file.stat()
        permissions = f"{stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}"
    name = "none yet"
    if gallery is not None:
        try:
            with gallery() as opened:
                name = opened.protection.name
        except GalleryError as error:
            name = str(error)
    return KeysShown(ring.fingerprint(), permissions, name)
