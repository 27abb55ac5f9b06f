"""A scripted city for one gallery: publishes versions, and answers what a device asks.

Made with ``agent.protocol`` alone, so that a test can also make it lie.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from agent.base.values import Vector
from agent.protocol import topics
from agent.protocol.galleries import bodies
from agent.protocol.galleries.messages import (
    GalleryKeys,
    Head,
    Hello,
    Now,
    Want,
    WrappedKeys,
    read_ask,
    sign_head,
    sign_keys,
    sign_now,
)
from agent.protocol.galleries.records import (
    Record,
    bucket_digests,
    encode_record,
    key_of,
    record_digest,
    root_of,
)
from agent.protocol.hpke import public_key_of, wrap_keys
from agent.recognition.protection import Protection
from tests.protocol.town import Town

EMPTY = "0" * 64


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Version:
    head: Head
    message: bytes
    residents: dict[bytes, bytes]  # key -> record
    changes: list[bodies.Change]  # from the version before


class ScriptedCity:
    """One gallery of a town. ``answer`` gives what would be published, as (topic, payload)."""

    def __init__(
        self, town: Town, gallery: str = "bus", *, pack: str = "p", part_bytes: int = 0
    ) -> None:
        self.town = town
        self.gallery = gallery
        self.pack = pack
        self.part_bytes = part_bytes or bodies.PART_BYTES
        self.epoch = 1
        self._chance = random.Random(20261128)
        self.enrolment_key = self._chance.randbytes(32)
        self.keys = self._new_keys()
        self.map = Protection(self.keys.template, gallery, self.keys.template_version)
        self.residents: dict[bytes, bytes] = {}
        self.plain: dict[str, Vector] = {}
        self.versions: dict[int, Version] = {}
        self.floor = 0
        self.lease_ms = 30 * 86_400_000
        self.asked: list[Hello | Want] = []
        self.served_bytes = 0
        self.silent = False
        self.bodiless = False  # answers hellos alone

    def _new_keys(self) -> GalleryKeys:
        return GalleryKeys(
            key=self._chance.randbytes(8),
            content=self._chance.randbytes(32),
            template=self._chance.randbytes(32),
            template_version=1,
            pseudonyms={n: self._chance.randbytes(32) for n in (self.gallery, "linked")},
            enrolment=public_key_of(self.enrolment_key),
        )

    @property
    def newest(self) -> Version:
        return self.versions[max(self.versions)]

    def record(self, name: str, rows: Vector, **more: object) -> bytes:
        """The record of resident *name* with plain embeddings *rows*."""
        self.plain[name] = rows
        record = Record(name, (self.gallery,), templates={self.pack: self.map.apply(rows)})
        return encode_record(replace(record, **more))  # type: ignore[arg-type]

    def publish(self, present: dict[str, bytes] | None = None, gone: Iterable[str] = ()) -> Version:
        """The next version: *present* are new or changed records by id."""
        before = self.newest.head if self.versions else None
        changes = [bodies.Change(key_of(name), None) for name in gone]
        changes += [bodies.present(name, record) for name, record in (present or {}).items()]
        for change in changes:
            if change.record is None:
                self.residents.pop(change.key, None)
            else:
                self.residents[change.key] = change.record
        number = before.version + 1 if before and before.epoch == self.epoch else 1
        head = Head(
            self.gallery,
            self.epoch,
            number,
            before.root if before else EMPTY,
            root_of(self._buckets()),
            len(self.residents),
            self.floor,
            wall_ms() + self.lease_ms,
            self.keys.key,
            wall_ms(),
        )
        message = sign_head(head, self.town.gallery)
        self.versions[number] = Version(head, message, dict(self.residents), changes)
        return self.versions[number]

    def rekey(self) -> None:
        """Another content key: whoever is not given it is out. Publish afterwards."""
        self.keys = replace(
            self.keys, key=self._chance.randbytes(8), content=self._chance.randbytes(32)
        )

    def _buckets(self) -> list[bytes]:
        return bucket_digests({key: record_digest(r) for key, r in self.residents.items()})

    def answer(self, device: str, message: bytes) -> list[tuple[str, bytes]]:
        ask, _ = read_ask(message, self.town.trust, device, wall_ms=wall_ms())
        self.asked.append(ask)
        if self.silent or not self.versions:
            return []
        if isinstance(ask, Hello):
            found = self._hello(device, ask)
        else:
            found = [] if self.bodiless else self._want(device, ask)
        self.served_bytes += sum(len(payload) for _, payload in found)
        return found

    def _hello(self, device: str, hello: Hello) -> list[tuple[str, bytes]]:
        head = self.newest.head
        now = Now(device, self.gallery, head.position, head.root, hello.nonce, wall_ms())
        found = [(topics.NOW.of(device), sign_now(now, self.town.command))]
        if hello.root != head.root:
            found.append((topics.HEAD.of(device), self.newest.message))
        if hello.key != self.keys.key:
            found.append((topics.KEY.of(device), self.wrapped(device, hello.public_key)))
        return found

    def wrapped(self, device: str, public_key: bytes) -> bytes:
        sealed = wrap_keys(self.keys, self.gallery, device, public_key)
        keys = WrappedKeys(device, self.gallery, self.keys.key, sealed)
        return sign_keys(keys, self.town.command)

    def _want(self, device: str, want: Want) -> list[tuple[str, bytes]]:
        if want.kind == "delta":
            each = [self.body("delta", n) for n in range(want.since + 1, want.version + 1)]
        elif want.version != self.newest.head.version:
            return []
        elif want.kind == "index":
            each = [self.body("index", want.version)]
        else:
            each = [self.body("bucket", want.version, number) for number in want.numbers]
        return [(topics.BODY.of(device), part) for parts in each for part in parts]

    def body(
        self,
        kind: str,
        version: int,
        number: int = 0,
        spoil: Callable[[bytes], bytes] = bytes,
    ) -> list[bytes]:
        """The messages that carry one body, its content meddled with by *spoil*."""
        if kind == "delta":
            content = bodies.encode_changes(self.versions[version].changes)
        elif kind == "index":
            content = bodies.encode_index(self._buckets())
        else:
            some = sorted(k for k in self.residents if k[0] == number)
            content = bodies.encode_changes([bodies.Change(k, self.residents[k]) for k in some])
        label = bodies.Label(self.gallery, self.epoch, version, kind, number, self.keys.key)
        return bodies.cut(
            label, bodies.seal(label, spoil(content), self.keys.content), self.part_bytes
        )


def rows(number: int, count: int = 2, values: int = 16) -> Vector:
    """Plain embeddings of a made-up person."""
    found = np.random.default_rng(number).standard_normal((count, values))
    unit: Vector = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit
