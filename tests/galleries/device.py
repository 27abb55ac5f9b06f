"""A device as the wire sees one: asks, applies what comes, and believes nothing unsigned."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from agent.base.errors import MessageError
from agent.base.values import Message
from agent.protocol import topics
from agent.protocol.galleries.bodies import (
    KEY_ID_BYTES,
    Label,
    decode_changes,
    decode_index,
    read_part,
    unseal,
)
from agent.protocol.galleries.messages import (
    GalleryKeys,
    Head,
    Hello,
    Now,
    Want,
    read_head,
    read_keys,
    read_now,
    sign_hello,
    sign_want,
)
from agent.protocol.galleries.records import (
    bucket_digests,
    decode_record,
    key_of,
    record_digest,
    root_of,
)
from agent.protocol.hpke import public_key_of, unwrap_keys
from agent.protocol.signed import Signer, Trust

NOTHING = bytes(KEY_ID_BYTES)


@dataclass
class Device:
    """Keeps records by key. ``use_deltas`` False makes it go by buckets alone."""

    name: str
    gallery: str
    signer: Signer
    trust: Trust
    wall_ms: int
    use_deltas: bool = True
    records: dict[bytes, bytes] = field(default_factory=dict)
    have: tuple[int, int] = (0, 0)
    root: str = ""
    keys: GalleryKeys | None = None
    head: Head | None = None
    fresh: list[Now] = field(default_factory=list)
    body_bytes: int = 0
    out: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.name}/{self.wall_ms}")
        self._private = self._chance.randbytes(32)
        self._nonce = b""
        self._parts: dict[Label, dict[int, bytes]] = {}
        self._wanted: list[Label] = []
        self._got: dict[Label, bytes] = {}

    @property
    def ids(self) -> set[str]:
        return {decode_record(record).id for record in self.records.values()}

    def hello(self) -> None:
        self._nonce = self._chance.randbytes(16)
        hello = Hello(
            device=self.name,
            gallery=self.gallery,
            have=self.have,
            root=self.root,
            key=self.keys.key if self.keys else NOTHING,
            nonce=self._nonce,
            public_key=public_key_of(self._private),
        )
        self._say(sign_hello(hello, self.signer))

    def receive(self, message: Message) -> None:
        kind = message.topic.split("/", 2)[2]
        if kind == "d/gal/head":
            self._heard(read_head(message.payload, self.trust, wall_ms=self.wall_ms))
        elif kind == "d/gal/now":
            now = read_now(message.payload, self.trust, self.name, wall_ms=self.wall_ms)
            if now.nonce == self._nonce:
                self.fresh.append(now)
        elif kind == "d/gal/key":
            told = read_keys(message.payload, self.trust, self.name, wall_ms=self.wall_ms)
            self.keys = unwrap_keys(told.wrapped, self.gallery, self.name, self._private)
            self._begin()
        elif kind == "d/gal/body":
            self._body(message.payload)

    def _heard(self, head: Head) -> None:
        assert head.gallery == self.gallery
        if head.position > self.have and (self.head is None or head != self.head):
            self.head = head
            self._got, self._wanted = {}, []
            if self.keys is None or self.keys.key != head.key:
                self.hello()  # which brings the keys
            else:
                self._begin()

    def _begin(self) -> None:
        head = self.head
        if (
            head is None
            or self.keys is None
            or self.keys.key != head.key
            or head.position <= self.have
        ):
            return
        behind = head.version - self.have[1]
        if (
            self.use_deltas
            and self.have[0] == head.epoch
            and self.have[1] >= head.floor
            and behind <= 64
        ):
            self._want("delta", range(self.have[1] + 1, head.version + 1))
        else:
            self._want("index", [0])

    def _want(self, kind: str, numbers: object) -> None:
        head = self.head
        assert head is not None
        listed = list(numbers)  # type: ignore[call-overload]
        self._wanted = [
            Label(
                self.gallery,
                head.epoch,
                number if kind == "delta" else head.version,
                kind,
                number if kind == "bucket" else 0,
                head.key,
            )
            for number in listed
        ]
        self._got = {}
        want = Want(
            device=self.name,
            gallery=self.gallery,
            epoch=head.epoch,
            version=head.version,
            kind=kind,
            since=listed[0] - 1 if kind == "delta" else 0,
            numbers=tuple(listed) if kind == "bucket" else (),
        )
        self._say(sign_want(want, self.signer))

    def _body(self, payload: bytes) -> None:
        self.body_bytes += len(payload)
        part = read_part(payload)
        if part.label not in self._wanted or self.keys is None:
            return
        parts = self._parts.setdefault(part.label, {})
        parts[part.part] = part.content
        if len(parts) < part.parts:
            return
        sealed = b"".join(parts[number] for number in range(part.parts))
        del self._parts[part.label]
        self._got[part.label] = unseal(part.label, sealed, self.keys.content)
        if len(self._got) == len(self._wanted):
            self._whole()

    def _whole(self) -> None:
        kind = self._wanted[0].kind
        if kind == "index":
            theirs = decode_index(self._got[self._wanted[0]])
            assert self.head is not None
            assert root_of(theirs) == self.head.root
            mine = self._digests(self.records)
            self._differ = [number for number in range(256) if mine[number] != theirs[number]]
            self._next = dict(self.records)
            self._more()
            return
        if kind == "delta":
            self._next = dict(self.records)
        else:
            numbers = {label.number for label in self._wanted}
            self._next = {key: v for key, v in self._next.items() if key[0] not in numbers}
        for label in self._wanted:
            for change in decode_changes(self._got[label]):
                if change.record is None:
                    self._next.pop(change.key, None)
                else:
                    self._next[key_of(decode_record(change.record).id)] = change.record
        if kind == "bucket":
            self._more()
        else:
            self._apply()

    def _more(self) -> None:
        some, self._differ = self._differ[:32], self._differ[32:]
        if some:
            self._want("bucket", some)
        else:
            self._apply()

    def _apply(self) -> None:
        assert self.head is not None
        root = root_of(self._digests(self._next))
        if root != self.head.root:
            if self._wanted and self._wanted[0].kind == "delta":
                self._want("index", [0])
                return
            raise MessageError("the buckets do not make the signed root")
        self.records, self.have, self.root = self._next, self.head.position, root
        self.hello()

    @staticmethod
    def _digests(records: dict[bytes, bytes]) -> list[bytes]:
        return bucket_digests({key: record_digest(record) for key, record in records.items()})

    def _say(self, payload: bytes) -> None:
        self.out.append(Message(topics.ASKS.of(self.name), payload))
