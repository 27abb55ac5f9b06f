"""Residents who arrive from the city, made ready for this device: its template map, its seals."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.base.values import Vector
from agent.gallery.file.rows import extras
from agent.gallery.file.sealing import GallerySealer
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import Record
from agent.recognition.protection import Matrix, Protection, change

_SLOT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Staged:
    """A resident whose record arrived: the record, and the SHA-256 of its bytes."""

    record: Record
    digest: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A resident as the gallery file keeps them; ``templates`` are sealed, each with its pack."""

    ref: bytes
    slot: bytes
    wrapped_key: bytes
    profile: bytes
    templates: tuple[tuple[str, bytes], ...]


class Preparer:
    """Seals residents of the city's *gallery* under this device's own keys."""

    def __init__(self, gallery: str) -> None:
        self._gallery = gallery
        self._maps: dict[tuple[str, str, int], Matrix] = {}

    def prepare(
        self, residents: Sequence[Staged], keys: GalleryKeys, own: Protection, sealer: GallerySealer
    ) -> list[Prepared]:
        """Each of *residents*, in order; their templates come by the map of *keys*, and leave by
        *own*. Each gets a key and a slot of their own."""
        theirs = Protection(keys.template, self._gallery, keys.template_version)
        turned = self._turned(residents, theirs, own)
        prepared = []
        for item, templates in zip(residents, turned, strict=True):
            ref = sealer.ref(item.record.id)
            slot = secrets.token_bytes(_SLOT_BYTES)
            seal, wrapped = sealer.new_person(ref)
            rows = tuple(
                (pack, seal.seal_template(pack, own.name, row.tobytes()))
                for pack, found in templates.items()
                for row in found
            )
            told = json.dumps(_profile(item, slot, len(rows)), ensure_ascii=False)
            prepared.append(Prepared(ref, slot, wrapped, seal.seal_profile(told.encode()), rows))
        return prepared

    def _turned(
        self, residents: Sequence[Staged], theirs: Protection, own: Protection
    ) -> list[dict[str, Vector]]:
        """Everybody's templates under this device's own map, by pack; all in one product a size."""
        turned: list[dict[str, Vector]] = [{} for _ in residents]
        places: dict[int, list[tuple[int, str]]] = {}
        for number, item in enumerate(residents):
            for pack, templates in item.record.templates.items():
                places.setdefault(templates.shape[1], []).append((number, pack))
        for values, found in places.items():
            blocks = [residents[number].record.templates[pack] for number, pack in found]
            rows = np.concatenate(blocks).astype(np.float64)
            product = (rows @ self._matrix(theirs, own, values)).astype("<f4")
            ends = np.cumsum([len(block) for block in blocks])[:-1]
            for (number, pack), part in zip(found, np.split(product, ends), strict=True):
                turned[number][pack] = part
        return turned

    def _matrix(self, theirs: Protection, own: Protection, values: int) -> Matrix:
        name = (theirs.check, own.check, values)
        if name not in self._maps:
            self._maps = {name: change(theirs, own, values)}
        return self._maps[name]


def _profile(item: Staged, slot: bytes, rows: int) -> dict[str, Any]:
    record = item.record
    return {
        "id": record.id,
        "nickname": record.nickname,
        "purposes": record.purposes,
        "created_ms": 0,
        "digest": item.digest.hex(),
        "slot": slot.hex(),
        "rows": rows,
        **extras(linked=record.linked, expires_ms=record.expires_ms),
    }
