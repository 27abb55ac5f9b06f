"""One way to one signed head: the deltas to it, or its index and the buckets that differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.base.errors import MessageError
from agent.gallery.city.arriving import Staged
from agent.gallery.city.meta import CityVersion
from agent.link.galleries.arrivals import Arrivals
from agent.protocol.galleries.bodies import Label, Part, decode_changes, decode_index, unseal
from agent.protocol.galleries.messages import (
    MAX_BUCKETS_ASKED,
    MAX_DELTAS_ASKED,
    GalleryKeys,
    Head,
    Want,
)
from agent.protocol.galleries.records import (
    BUCKETS,
    bucket_digests,
    decode_record,
    key_of,
    record_digest,
    root_of,
)

WINDOW = 8  # buckets on their way at once, before it is known how large they are
WINDOW_BYTES = 4 * 2**20  # of buckets on their way, once it is known
_MOST_TRIES = 3  # for deltas; then buckets
_LONGEST_WAIT_MS = 60_000


class Copy(Protocol):
    """What the device holds of the city's gallery; ``agent.gallery.city.copy`` on a device."""

    @property
    def version(self) -> CityVersion | None: ...

    @property
    def keys(self) -> GalleryKeys | None: ...

    def keep_keys(self, keys: GalleryKeys) -> None: ...

    def digests(self, *, renewed: bool = True) -> dict[bytes, bytes]: ...

    def lapse(self, city_ms: int) -> bool: ...

    def extend(self, version: CityVersion) -> None: ...

    def staged(self) -> dict[int, bytes]: ...

    def stage(
        self, number: int, digest: bytes, residents: Sequence[Staged], keys: GalleryKeys
    ) -> None: ...

    def swap(self, version: CityVersion, buckets: Mapping[int, bytes]) -> set[bytes]: ...

    def change(
        self,
        version: CityVersion,
        present: Sequence[Staged],
        gone: set[bytes],
        keys: GalleryKeys,
    ) -> set[bytes]: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """How often to say hello, and how long to wait for an answer before asking again."""

    check_ms: int = 600_000
    ask_ms: int = 10_000


DEFAULT_TIMING = Timing()


class Fetch:
    """The pursuit of ``head``. What it is given is checked against it, and refused otherwise."""

    def __init__(
        self,
        want: Want,
        head: Head,
        keys: GalleryKeys,
        copy: Copy,
        *,
        send: Callable[[Want], None],
        leaving: Callable[[set[bytes]], None],
        timing: Timing,
        held_bytes: int,
    ) -> None:
        """*want* names device, gallery and version; *leaving* is told who is about to go."""
        self._want = want
        self._head = head
        self._keys = keys
        self._copy = copy
        self._send = send
        self._leaving = leaving
        self._timing = timing
        self._most = held_bytes
        self._arrivals = Arrivals(held_bytes)
        self.doing = "index"
        self._asked_ms = 0
        self._tries = 0
        self._since = 0
        self._deltas: dict[int, bytes] = {}
        self._own: list[bytes] = []
        self._newer = False
        self._differing: dict[int, bytes] = {}
        self._todo: list[int] = []
        self._window = WINDOW

    def begin(self, version: CityVersion | None, buckets: Sequence[bytes], now_ms: int) -> None:
        """From *version* in force, of which *buckets* are here."""
        head = self._head
        self._own = list(buckets)
        self._newer = version is None or head.position > version.position
        if (
            version is not None
            and version.epoch == head.epoch
            and head.floor <= version.version < head.version
            and head.version - version.version <= MAX_DELTAS_ASKED
            and root_of(buckets) == version.root  # deltas lead on from what is whole only
        ):
            self.doing, self._since = "delta", version.version
        self._ask(now_ms)

    def turn(self, now_ms: int) -> None:
        """Ask again for what did not come."""
        wait = min(self._timing.ask_ms << min(self._tries, 10), _LONGEST_WAIT_MS)
        if now_ms - self._asked_ms < wait:
            return
        self._tries += 1
        if self.doing == "delta" and self._tries >= _MOST_TRIES:
            self._by_buckets(now_ms)
        else:
            self._ask(now_ms, again=True)

    def take(self, part: Part, now_ms: int) -> bool:
        """A part of a body; True when the head is in force. Raises MessageError, GalleryError."""
        sealed = self._arrivals.take(part)
        self._asked_ms = now_ms
        if sealed is None:
            return False
        takers = {"delta": self._delta, "index": self._index, "bucket": self._bucket}
        try:
            body = unseal(part.label, sealed, self._keys.content)
            return takers[part.label.kind](part.label, body, now_ms)
        except MessageError:
            if self.doing == "delta":
                self._by_buckets(now_ms)
            else:
                self._arrivals.want(part.label)  # asked for again when its time is over
            raise

    def _by_buckets(self, now_ms: int) -> None:
        self._deltas.clear()
        self._arrivals.clear()
        self.doing, self._tries = "index", 0
        self._ask(now_ms)

    def _ask(self, now_ms: int, *, again: bool = False) -> None:
        want = replace(self._want, kind=self.doing)
        self._asked_ms = now_ms
        if self.doing == "delta":
            missing = [
                version
                for version in range(self._since + 1, self._head.version + 1)
                if version not in self._deltas
            ]
            for version in missing:
                self._arrivals.want(self._label(version))
            self._send(replace(want, since=missing[0] - 1))
        elif self.doing == "index":
            self._arrivals.want(self._label(self._head.version))
            self._send(want)
        else:
            numbers = [label.number for label in self._arrivals.missing()] if again else []
            while self._todo and len(self._arrivals) < self._window:
                numbers.append(self._todo.pop())
                self._arrivals.want(self._label(self._head.version, numbers[-1]))
            for at in range(0, len(numbers), MAX_BUCKETS_ASKED):
                self._send(replace(want, numbers=tuple(numbers[at : at + MAX_BUCKETS_ASKED])))

    def _label(self, version: int, number: int = 0) -> Label:
        head = self._head
        return Label(head.gallery, head.epoch, version, self.doing, number, self._keys.key)

    def _delta(self, label: Label, body: bytes, _now_ms: int) -> bool:
        self._tries = 0
        self._deltas[label.version] = body
        if sum(map(len, self._deltas.values())) > self._most:
            raise MessageError("gallery delta: more than a device takes at once")
        if len(self._arrivals):
            return False
        changes: dict[bytes, bytes | None] = {}
        for number in range(self._since + 1, self._head.version + 1):
            for change in decode_changes(self._deltas[number]):
                if change.record is None:
                    changes[change.key] = None
                else:
                    changes[key_of(decode_record(change.record).id)] = change.record
        digests = self._copy.digests()
        for key, record in changes.items():
            if record is None:
                digests.pop(key, None)
            else:
                digests[key] = record_digest(record)
        if root_of(bucket_digests(digests)) != self._head.root:
            raise MessageError("gallery delta: does not lead to the signed root")
        gone = {key for key, record in changes.items() if record is None}
        present = [
            Staged(decode_record(record), record_digest(record))
            for record in changes.values()
            if record is not None
        ]
        # In memory first: from here on nobody of them is matched, however long the disk takes.
        self._leaving(gone)
        self._copy.change(self._in_force(), present, gone, self._keys)
        return True

    def _index(self, _label: Label, body: bytes, now_ms: int) -> bool:
        index = decode_index(body)
        if root_of(index) != self._head.root:
            raise MessageError("gallery index: is not of the signed root")
        differing = {n for n in range(BUCKETS) if index[n] != self._own[n]}
        if self._newer:
            # Words on who was enrolled here anew are in the deltas that did not come.
            own = bucket_digests(self._copy.digests(renewed=False))
            differing |= {n for n in range(BUCKETS) if index[n] != own[n]}
        staged = self._copy.staged()
        self._differing = {n: index[n] for n in sorted(differing)}
        self._todo = [n for n in reversed(self._differing) if staged.get(n) != index[n]]
        self.doing = "bucket"
        return self._next(now_ms)

    def _bucket(self, label: Label, body: bytes, now_ms: int) -> bool:
        found: dict[bytes, Staged] = {}
        for change in decode_changes(body):
            if change.record is None:
                raise MessageError("gallery bucket: nobody is gone in one")
            record = decode_record(change.record)
            found[key_of(record.id)] = Staged(record, record_digest(change.record))
        digests = {key: item.digest for key, item in found.items()}
        digest = bucket_digests(digests)[label.number]
        if any(key[0] != label.number for key in found) or digest != self._differing[label.number]:
            raise MessageError("gallery bucket: is not of the signed root")
        self._copy.stage(label.number, digest, list(found.values()), self._keys)
        self._window = max(2, min(MAX_BUCKETS_ASKED, WINDOW_BYTES // max(len(body), 1)))
        return self._next(now_ms)

    def _next(self, now_ms: int) -> bool:
        """After a bucket: more of them, or the end."""
        self._tries = 0
        if self._todo or len(self._arrivals):
            if len(self._arrivals) <= self._window // 2:
                self._ask(now_ms)
            return False
        self._leaving(self._copy.swap(self._in_force(), self._differing))
        return True

    def _in_force(self) -> CityVersion:
        head = self._head
        return CityVersion(
            head.gallery, head.epoch, head.version, head.root, head.count, head.expires_ms
        )
