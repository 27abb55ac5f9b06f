"""Answers devices about galleries: what is the newest, its keys, and the bodies they lack.

The city's thread only hands over (``service.Handler``); checking, sealing and reading happen in a
thread of its own. A device gets what it asked for one body after the other, in turns with the other
devices and only as fast as the broker takes it; what waits for one device is bounded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, update
from sqlalchemy.exc import SQLAlchemyError

from agent.base.errors import KaopassError, MessageError
from agent.base.values import PURPOSES, Message
from agent.cityos.db.database import committing, insert_for, writing
from agent.cityos.db.schema import RELEASE
from agent.cityos.galleries import receipts
from agent.cityos.galleries.library import Library
from agent.cityos.galleries.publishing import EMPTY_ROOT
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.claims import Registry
from agent.protocol.galleries.messages import (
    GalleryKeys,
    Hello,
    Now,
    Want,
    WrappedKeys,
    read_ask,
    sign_keys,
    sign_now,
)
from agent.protocol.hpke import wrap_keys
from agent.protocol.signed import Signer, Trust
from agent.protocol.topics import ASKS, BODY, HEAD, KEY, NOW, parse_topic

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 0.5
_MOST_ASKS = 10_000  # that wait; a device asks again
_MOST_BODIES = 64  # that one device waits for; it asks again for what does not come
_MOST_PARTS = 32  # ready to be sent, 196 KB each at most
_PARTS_A_TURN, _ANSWERS_A_TURN = 16, 200


@dataclass(frozen=True, slots=True)
class ServingStatus:
    """Counted since the start; ``refused`` asks were not signed, not allowed or not understood."""

    hellos: int = 0
    wants: int = 0
    refused: int = 0
    bodies: int = 0
    bodies_made: int = 0


class GalleryHandler:
    """Serves galleries to devices (``service.Handler``); ``start`` it, and ``stop`` it."""

    topics = (ASKS,)

    def __init__(
        self,
        engine: Engine,
        library: Library,
        keys: TownKeys,
        registry: Registry,
        trust: Trust,
        signer: Signer,
        *,
        chores: Sequence[Callable[[int], None]] = (),
        announce_seconds: float = ANNOUNCE_SECONDS,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """*signer* is the town's command key. Every *announce_seconds* it looks for new versions
        and calls *chores*, in the same thread and with the time; they decide themselves whether
        there is anything to do.
        """
        self._engine = writing(engine)
        self._insert = insert_for(engine)
        self._library = library
        self._keys = keys
        self._registry = registry
        self._trust = trust
        self._signer = signer
        self._chores = tuple(chores)
        self._announce_seconds = announce_seconds
        self._wall_ms = wall_ms
        self._asks: deque[Message] = deque()
        self._answers: deque[Message] = deque()
        self._parts: deque[Message] = deque()
        self._jobs: dict[str, deque[tuple[Row[Any], str, int]]] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_announcement = 0.0
        self._trouble = ""
        self._hellos = self._wants = self._refused = self._bodies = 0

    @property
    def status(self) -> ServingStatus:
        return ServingStatus(
            self._hellos, self._wants, self._refused, self._bodies, self._library.made
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="galleries", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> bool:
        """False if it does not end in time."""
        self._stop.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # Called by the city's thread.

    def take(self, messages: Sequence[Message], now_ms: int) -> list[Message]:
        """Hand *messages* over; the answers come from ``due``."""
        del now_ms
        room = _MOST_ASKS - len(self._asks)
        self._refused += max(0, len(messages) - room)
        self._asks.extend(messages[: max(0, room)])
        self._wake.set()
        return []

    def due(self, now_ms: int) -> list[Message]:
        """Answers and announcements first, then a few parts of bodies."""
        del now_ms
        found = _some(self._answers, _ANSWERS_A_TURN) or _some(self._parts, _PARTS_A_TURN)
        if found:
            self._wake.set()
        return found

    # The thread of its own.

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._announce_seconds)
            self._wake.clear()
            try:
                self.turn()
                self._trouble = ""
            except (KaopassError, SQLAlchemyError) as error:
                self._warn_once(str(error))
            # A defect must not leave every device without its gallery: it is logged whole.
            except Exception as error:
                log.exception("serving galleries failed unexpectedly and goes on")
                self._warn_once(type(error).__name__)

    def turn(self) -> None:
        """Everything there is to do now. Raises CityError."""
        self._answer()
        if time.monotonic() >= self._next_announcement:
            self._next_announcement = time.monotonic() + self._announce_seconds
            self._announce()
            for chore in self._chores:
                chore(self._wall_ms())
                self._answer()
        while self._jobs and len(self._parts) < _MOST_PARTS and not self._stop.is_set():
            self._send_one()
            if self._asks:
                self._answer()

    def _answer(self) -> None:
        now_ms = self._wall_ms()
        hellos: list[Hello] = []
        while self._asks:
            message = self._asks.popleft()
            try:
                device, _ = parse_topic(message.topic)
                ask, number = read_ask(message.payload, self._trust, device, wall_ms=now_ms)
                if not self._registry.may_have(device, number, ask.gallery):
                    raise MessageError(
                        f"{device} may not have gallery {ask.gallery}: its certificate is revoked,"
                        " or it serves another purpose (kaopass city device list)"
                    )
            except MessageError as error:
                self._refused += 1
                if self._refused & (self._refused - 1) == 0:
                    log.warning("ask %d refused, on %.80r: %s", self._refused, message.topic, error)
                continue
            if isinstance(ask, Hello):
                hellos.append(ask)
            else:
                self._want(ask)
        if hellos:
            self._note(hellos, now_ms)
            for hello in hellos:
                self._greet(hello, now_ms)

    def _greet(self, hello: Hello, now_ms: int) -> None:
        self._hellos += 1
        release = self._library.latest(hello.gallery)
        position = (release.epoch, release.version) if release is not None else (0, 0)
        root = release.root if release is not None else EMPTY_ROOT
        now = Now(hello.device, hello.gallery, position, root, hello.nonce, now_ms)
        self._answers.append(NOW.message(hello.device, sign_now(now, self._signer)))
        if release is None:
            return
        if hello.key.hex() != release.content_key:
            keys = self._gallery_keys(hello.gallery, bytes.fromhex(release.content_key))
            if keys is not None:
                wrapped = wrap_keys(keys, hello.gallery, hello.device, hello.public_key)
                told = WrappedKeys(hello.device, hello.gallery, keys.key, wrapped)
                self._answers.append(KEY.message(hello.device, sign_keys(told, self._signer)))
        if (hello.have, hello.root) != (position, root):
            self._answers.append(_head_for(hello.device, release))

    def _want(self, want: Want) -> None:
        self._wants += 1
        release = self._library.latest(want.gallery)
        if release is None:
            return
        late = (want.epoch, want.version) != (release.epoch, release.version)
        if late or (want.kind == "delta" and want.since < release.floor):
            self._jobs.pop(want.device, None)
            self._answers.append(_head_for(want.device, release))
            return
        numbers: Sequence[int] = want.numbers
        if want.kind == "delta":
            numbers = range(want.since + 1, want.version + 1)
        elif want.kind == "index":
            numbers = (0,)
        job = self._jobs.setdefault(want.device, deque())
        if job and job[0][0].version != release.version:
            job.clear()  # of a version that was in force when it was asked for
        waiting = {(kind, number) for _, kind, number in job}
        fresh = [number for number in numbers if (want.kind, number) not in waiting]
        job.extend((release, want.kind, number) for number in fresh[: _MOST_BODIES - len(job)])

    def _send_one(self) -> None:
        """One body for the device whose turn it is."""
        device, job = next(iter(self._jobs.items()))
        del self._jobs[device]
        if not job:
            return
        release, kind, number = job.popleft()
        messages = self._library.messages(release, kind, number)
        if not messages:  # another version is in force: the device will hear of it
            return
        self._bodies += 1
        self._parts.extend(BODY.message(device, message) for message in messages)
        if job:
            self._jobs[device] = job  # behind the others

    def _announce(self) -> None:
        """Tell every device of a version that nobody was told of; one worker does."""
        for gallery in PURPOSES:
            release = self._library.latest(gallery)
            if release is None or release.announced_ms is not None:
                continue
            mine = (
                *(RELEASE.c.gallery == gallery, RELEASE.c.epoch == release.epoch),
                *(RELEASE.c.version == release.version, RELEASE.c.announced_ms.is_(None)),
            )
            with self._engine.begin() as db:
                claimed = db.execute(
                    update(RELEASE).where(*mine).values(announced_ms=self._wall_ms())
                )
            if claimed.rowcount == 1:
                devices = self._registry.serving(gallery, self._wall_ms())
                self._answers.extend(_head_for(device, release) for device in devices)
                log.info(
                    "gallery %s %d.%d: %d residents, told to %d devices",
                    *(gallery, release.epoch, release.version, release.people, len(devices)),
                )

    def _note(self, hellos: Sequence[Hello], now_ms: int) -> None:
        with committing(self._engine, "receipts cannot be noted") as db:
            for hello in sorted(hellos, key=lambda each: each.device):
                receipts.note(db, self._insert, hello, now_ms)

    def _gallery_keys(self, gallery: str, key_id: bytes) -> GalleryKeys | None:
        content = self._keys.content_of(gallery, key_id)
        if content is None:
            return None
        version = self._keys.map_of(gallery, key_id)
        return GalleryKeys(
            key=key_id,
            content=content,
            template=self._keys.template_key(gallery, version),
            template_version=version,
            # What one purpose is called by in the other is none of this device's business.
            pseudonyms={name: self._keys.pseudonym_key(name) for name in (gallery, "linked")},
            enrolment=self._keys.enrolment_public(),
        )

    def _warn_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("galleries: %s", trouble)
        self._trouble = trouble


def _head_for(device: str, release: Row[Any]) -> Message:
    return HEAD.message(device, release.head.encode("ascii"))


def _some(waiting: deque[Message], most: int) -> list[Message]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]
