"""What a device asks the city's gallery for, and what it makes of the answers.

A state machine without clock, network or disk: times come in, messages come in and go out through
``send``, and ``Copy`` is what the device holds. It believes nothing but the signed head: whatever
arrives, in whatever order, broken or forged, is in force only if the whole hashes to that head's
root. A newer head leads to deltas; where those do not lead to its root, to the digests of its
buckets and those buckets that differ: a first snapshot and a repair are the same thing.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.base.errors import MessageError
from agent.link.galleries.arrivals import HELD_BYTES
from agent.link.galleries.fetch import DEFAULT_TIMING, Copy, Fetch, Timing
from agent.protocol import topics
from agent.protocol.galleries.bodies import KEY_ID_BYTES, read_part
from agent.protocol.galleries.messages import (
    NONCE_BYTES,
    Head,
    Hello,
    Position,
    Want,
    read_head,
    read_keys,
    read_now,
)
from agent.protocol.galleries.records import bucket_digests, root_of
from agent.protocol.hpke import public_key_of, unwrap_keys
from agent.protocol.signed import Trust

NOTHING: Position = (0, 0)
NO_KEY = bytes(KEY_ID_BYTES)
_NONCES = 4  # hellos whose answer is still taken


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told: ``proved(sent_ms)`` that what is here was the newest when a hello was sent;
    ``leaving(keys)`` of residents about to be taken out; ``applied()`` of a version in force;
    ``told(unix_ms)`` of the city's time, signed just now."""

    proved: Callable[[int], None]
    leaving: Callable[[set[bytes]], None]
    applied: Callable[[], None]
    told: Callable[[int], None]


class GalleryIntake:
    """The device's side of one gallery. One thread; times are CLOCK_MONOTONIC milliseconds."""

    def __init__(
        self,
        device: str,
        gallery: str,
        copy: Copy,
        *,
        trust: Trust,
        private_key: bytes,
        send: Callable[[Hello | Want], None],
        ears: Ears,
        timing: Timing = DEFAULT_TIMING,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        """*private_key*: what gallery keys are sealed to, 32 bytes of X25519."""
        self._device = device
        self._gallery = gallery
        self._copy = copy
        self.trust = trust
        self._private_key = private_key
        self._public_key = public_key_of(private_key)
        self._send = send
        self._ears = ears
        self._timing = timing
        self._held_bytes = held_bytes
        self._fetch: Fetch | None = None
        self.refused: Counter[str] = Counter()
        self.head: Head | None = None
        self._up = False
        self._nonces: dict[bytes, int] = {}
        self._hello_due_ms = 0
        self._hello_tries = 0
        self._newest = NOTHING
        self.reread()

    @property
    def doing(self) -> str:
        """For ``kaopass status``: "nothing", or what is fetched: "delta", "index", "bucket"."""
        return self._fetch.doing if self._fetch else "nothing"

    @property
    def position(self) -> Position:
        """Of the version in force; (0, 0) before the first."""
        return self._version.position if self._version else NOTHING

    @property
    def behind(self) -> bool:
        """Whether the city is known to have a newer version than is in force here."""
        head = self.head.position if self.head else NOTHING
        return max(head, self._newest) > self.position

    def reread(self) -> None:
        """Look at the copy again: at the start, and when others changed it."""
        self._version = self._copy.version
        self._keys = self._copy.keys
        self._buckets = bucket_digests(self._copy.digests())
        self._root = root_of(self._buckets)

    def connected(self, now_ms: int) -> None:
        """A new connection: nothing that was asked for on the last one will come."""
        self._up = True
        self._hello_tries = 0
        self._hello(now_ms)
        self._begin(now_ms)

    def disconnected(self) -> None:
        self._up = False
        self._nonces.clear()
        self._fetch = None

    def receive(self, topic: str, payload: bytes, now_ms: int, wall_ms: int) -> None:
        """A message on a topic of the gallery. What is refused is counted, and changes nothing.

        Raises GalleryError when the copy cannot be written; ``failed`` is to be called then.
        """
        takers = {
            topics.HEAD.of(self._device): self._take_head,
            topics.NOW.of(self._device): self._take_now,
            topics.KEY.of(self._device): self._take_keys,
            topics.BODY.of(self._device): self._take_part,
        }
        try:
            takers[topic](payload, now_ms, wall_ms)
        except MessageError as error:
            # The reason has no value of the message in it; the kind is enough for a counter.
            self.refused[str(error).split(":", maxsplit=1)[0][:40]] += 1

    def turn(self, now_ms: int) -> None:
        """Say hello when it is due, and ask again for what did not come."""
        if not self._up:
            return
        if now_ms >= self._hello_due_ms:
            self._hello(now_ms)
        if self._fetch is not None:
            self._fetch.turn(now_ms)

    def failed(self, now_ms: int) -> None:
        """The copy could not be written: begin again, after a while that grows."""
        self._fetch = None
        self._hello_due_ms = now_ms + self._backoff()
        self._hello_tries += 1
        self.reread()

    def refresh(self, now_ms: int) -> None:
        """Others changed the gallery: if somebody is missing now, say so and have it repaired."""
        before = self._root
        self.reread()
        if self._root != before and self._up and self._fetch is None:
            self._hello(now_ms)
            self._begin(now_ms)

    # Hello: what is here, and the city's word that it is the newest.

    def _hello(self, now_ms: int) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._nonces[nonce] = now_ms
        while len(self._nonces) > _NONCES:
            del self._nonces[next(iter(self._nonces))]
        self._hello_due_ms = now_ms + self._backoff()
        self._hello_tries += 1
        self._send(
            Hello(
                self._device,
                self._gallery,
                self.position,
                self._root if self._version else "",
                self._keys.key if self._keys else NO_KEY,
                nonce,
                self._public_key,
            )
        )

    def _backoff(self) -> int:
        return min(self._timing.ask_ms << min(self._hello_tries, 10), self._timing.check_ms)

    def _take_now(self, payload: bytes, now_ms: int, wall_ms: int) -> None:
        now = read_now(payload, self.trust, self._device, wall_ms=wall_ms)
        sent_ms = self._nonces.get(now.nonce)
        if now.gallery != self._gallery or sent_ms is None:
            raise MessageError("kp1-now: answers no hello of this connection")
        # Those before it say less, and are lost or overtaken.
        while next(iter(self._nonces)) != now.nonce:
            del self._nonces[next(iter(self._nonces))]
        del self._nonces[now.nonce]
        self._ears.told(now.server_time_ms)
        if now.position < self.position:
            raise MessageError("kp1-now (older): the city has an older version than this device")
        self._newest = max(self._newest, now.position)
        if now.position == self.position and now.root == self._root:
            self._hello_tries = 0
            self._hello_due_ms = now_ms + self._timing.check_ms
            self._ears.proved(sent_ms)
            if self._copy.lapse(now.server_time_ms):
                self._ears.applied()
                self.refresh(now_ms)
        elif self._fetch is None:
            # Behind, or damaged; the next hello is not far. A newer head comes by itself.
            self._begin(now_ms)

    def _take_keys(self, payload: bytes, now_ms: int, wall_ms: int) -> None:
        wrapped = read_keys(payload, self.trust, self._device, wall_ms=wall_ms)
        if wrapped.gallery != self._gallery:
            raise MessageError("kp1-key: of another gallery")
        if self._keys is not None and wrapped.key == self._keys.key:
            return
        # Else somebody who kept an old message could put the old keys back.
        if self._keys is not None and (self.head is None or self.head.key != wrapped.key):
            raise MessageError("kp1-key: these keys are not the newest version's")
        keys = unwrap_keys(wrapped.wrapped, self._gallery, self._device, self._private_key)
        if keys.key != wrapped.key:
            raise MessageError("kp1-key: it holds other keys than it says")
        if not {self._gallery, "linked"} <= set(keys.pseudonyms):
            raise MessageError("kp1-key: it lacks a key of pseudonyms")
        self._copy.keep_keys(keys)
        self._keys = keys
        self._ears.applied()
        self._begin(now_ms)

    def _take_head(self, payload: bytes, now_ms: int, wall_ms: int) -> None:
        head = read_head(payload, self.trust, wall_ms=wall_ms)
        if head.gallery != self._gallery:
            raise MessageError("kp1-head: of another gallery")
        known = self.head
        least = max(self.position, known.position if known else NOTHING)
        if head.position < least:
            raise MessageError("kp1-head (older): older than what is known")
        if known is not None and head.position == known.position:
            if head.root != known.root or head.issued_ms < known.issued_ms:
                raise MessageError("kp1-head (older): the version is known otherwise")
            if head == known:
                return
        self.head = head
        version = self._version
        if version is not None and head.position == version.position:
            if head.root != version.root:
                self.head = known
                raise MessageError("kp1-head: the version in force is known otherwise")
            if head.expires_ms > version.expires_ms:
                self._version = replace(version, expires_ms=head.expires_ms)
                self._copy.extend(self._version)
                self._ears.applied()
        self._begin(now_ms)

    def _begin(self, now_ms: int) -> None:
        """Whatever was under way, go for the newest head from what is here now."""
        self._fetch = None
        head, keys = self.head, self._keys
        if head is None or not self._up:
            return
        if head.position == self.position and self._root == head.root:
            return
        if keys is None or keys.key != head.key:
            # The answer to a hello brings them; one on its way is enough, unless it got lost.
            again_ms = max(self._nonces.values(), default=-self._timing.ask_ms)
            again_ms += self._timing.ask_ms
            if now_ms >= again_ms:
                self._hello(now_ms)
            else:
                self._hello_due_ms = min(self._hello_due_ms, again_ms)
            return
        self._fetch = Fetch(
            Want(self._device, self._gallery, head.epoch, head.version, "delta"),
            head,
            keys,
            self._copy,
            send=self._send,
            leaving=self._ears.leaving,
            timing=self._timing,
            held_bytes=self._held_bytes,
        )
        self._fetch.begin(self._version, self._buckets, now_ms)

    def _take_part(self, payload: bytes, now_ms: int, _wall_ms: int) -> None:
        part = read_part(payload)
        if self._fetch is None:
            raise MessageError("gallery part: nobody asked for it")
        if self._fetch.take(part, now_ms):
            self._done(now_ms)

    def _done(self, now_ms: int) -> None:
        """A version is in force: say so at once, which is the city's receipt."""
        self.reread()
        self._ears.applied()
        self._begin(now_ms)
        self._hello_tries = 0
        self._hello(now_ms)
