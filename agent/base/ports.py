"""The doors in the line: what a stage needs from hardware, disk or network, as protocols.

Every adapter lives in ``agent.hw`` (or owns its file, like the journal); every port has a fake in
``agent.sim`` that behaves like the real part, but for ``Publish`` and ``Duty``, which are no parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from agent.base.events import Event, Moment, StoredEvent
from agent.base.values import Ack, DoorSignal, Face, Frame, Image, LinkEvent, Pending, Vector


class Camera(Protocol):
    """A source of frames."""

    def open(self) -> None:
        """Open the device or file. Raises CameraError with what to do about it."""

    def read(self) -> Frame | None:
        """The next frame, or None at the end of a file. Raises CameraError when the device is lost.

        Blocks until a frame is there; a live source never blocks longer than a few seconds.
        """

    def close(self) -> None:
        """Release the device; safe to call twice."""


class FaceDetector(Protocol):
    def detect(self, image: Image) -> list[Face]:
        """All faces in *image*, best score first, in its pixel coordinates."""


class FaceEmbedder(Protocol):
    @property
    def pack(self) -> str:
        """Name of the model pack; templates of different packs are never compared."""

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Rows of length 1, float32 (len(faces), d), one for each face."""

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        """The same for enrolment, where time is no matter and good views are asked for.

        Rows need not have length 1: one from a view that says little of the person is longer (at
        most 1.2), one from a clear view shorter, so that a probe's product with it is a score
        which the same threshold suits for all.
        """


class LivenessModel(Protocol):
    """A network that tells a face from a picture of one."""

    @property
    def pack(self) -> str:
        """Name of the model pack; a threshold found for one pack is never used with another."""

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        """How likely each face is alive, float32 (len(faces),): 0 undecided, above it rather so."""


class LivenessSensor(Protocol):
    """A second eye that a photograph cannot deceive: an infrared or depth camera."""

    def look(self, frame: Frame, faces: Sequence[Face]) -> Sequence[bool | None]:
        """For each face of *frame*: True with the warmth or relief of a face, False without.

        None where it cannot tell: too far away, or nothing measured at that moment.
        """


class KeySource(Protocol):
    """Where secret keys come from. Keys are 32 bytes."""

    def load(self, name: str) -> bytes | None:
        """The key called *name*, None if there is none. Raises KeySourceError if unusable."""

    def create(self, name: str) -> bytes:
        """Make and keep a new random key. Raises KeySourceError if it exists or cannot be kept."""


@runtime_checkable
class ChangeableKeySource(KeySource, Protocol):
    """A key source that can exchange one key for another."""

    def promote(self, name: str, to: str) -> None:
        """Make the key called *name* the one called *to*; the old one is gone.

        In one step that a power cut leaves either done or not. Raises KeySourceError.
        """


class Clock(Protocol):
    def now(self) -> Moment:
        """The present moment on every clock this device has."""

    def mono_ms(self) -> int:
        """CLOCK_MONOTONIC in milliseconds."""


class EventLog(Protocol):
    """The journal as the pipeline sees it."""

    def append(self, event: Event) -> StoredEvent:
        """Store *event*; it is on the disk when this returns. Raises JournalError."""

    def recent(self, limit: int) -> list[StoredEvent]:
        """The newest events, newest first, so that a restart still knows who just boarded."""


class Outbox(Protocol):
    """The journal as sync sees it: events by epoch, each unacknowledged until the city has it.

    There is one epoch for the life of a database. After a damaged one was salvaged, events of
    earlier epochs may wait beside the current one's; they keep their identity.
    """

    @property
    def epoch(self) -> str:
        """The epoch that new events belong to: 32 hex digits."""

    def epochs(self) -> list[str]:
        """Epochs with unacknowledged events, oldest first; the current one is always last."""

    def bounds(self, epoch: str) -> tuple[int, int]:
        """(first, last) of *epoch*: the oldest event still kept, the last number handed out.

        first is last + 1 when none is kept: (1, 0) for an epoch without events. Raises
        JournalError if there is no such epoch.
        """

    def pending(self, epoch: str, after: int, limit: int) -> list[StoredEvent]:
        """Unacknowledged events of *epoch* with seq > *after*, in order, at most *limit*."""

    def confirm(self, ack: Ack) -> int:
        """Apply what the city says it has; returns how many rows changed.

        Raises MessageError for an ack that cannot be true (an unknown epoch, numbers never handed
        out), JournalError if the disk fails; nothing has changed then.
        """

    def replay(self, epoch: str, first: int, last: int) -> int:
        """Make acknowledged events *first* to *last* pending again; returns how many.

        Raises MessageError if there is no such epoch.
        """

    def requeue(self, epoch: str, first: int, last: int) -> int:
        """The same for quarantined ones that can still be read."""

    def absent(self, epoch: str, first: int, last: int) -> list[tuple[int, int, str]]:
        """(first, last, code) of what of *first* to *last* will never be sent, in order.

        Raises MessageError if there is no such epoch.
        """

    def held(self) -> list[str]:
        """Every epoch there is, oldest first; the current one is last."""

    def offsets(self) -> list[tuple[str, int]]:
        """(boot, Unix less monotonic ms) of boots whose clock was found after events were stored.

        Only the newest few boots.
        """


class Lamps(Protocol):
    """Three lamps and a buzzer at the door."""

    def show(self, signal: DoorSignal) -> None:
        """Show *signal*; returns at once. Raises FeedbackError."""

    def close(self) -> None: ...


class Display(Protocol):
    """A screen or a terminal."""

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None: ...

    def close(self) -> None: ...


class Link(Protocol):
    """One MQTT connection. All calls come from one thread; ``turn`` does the network's work."""

    def open(self) -> None:
        """Begin to connect. Raises LinkError when that cannot even be tried."""

    def turn(self, seconds: float) -> Iterable[LinkEvent]:
        """Work on the connection for at most *seconds*; what happened meanwhile, in order."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1. Raises LinkError when not connected."""

    @property
    def unanswered(self) -> int:
        """Messages published that the broker has not taken over yet."""

    def close(self) -> None: ...


class Publish(Protocol):
    """Send one message with QoS 1 on the connection that is up."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Raises LinkError when the connection is gone."""


class Duty(Protocol):
    """Something the sync thread does beside sending events, on the same connection.

    All calls come from that thread and must be quick: events wait meanwhile. What takes long goes
    into a thread of its own, and ``turn`` collects its outcome. A duty that raises anything but a
    LinkError is logged and called again the next time; neither events nor other duties suffer.
    """

    @property
    def topics(self) -> Sequence[str]:
        """What it listens to; a filter may end in ``/#``. Asked for once, before the first call."""

    def connected(self, publish: Publish) -> None:
        """The broker accepted a connection; *publish* is good until ``disconnected``."""

    def disconnected(self) -> None:
        """The connection ended; only called after ``connected``."""

    def receive(self, topic: str, payload: bytes) -> None:
        """A message on one of ``topics``. Raises MessageError for nonsense, which is counted."""

    def turn(self, now_ms: int) -> None:
        """Do what is due; CLOCK_MONOTONIC. About ten times a second while connected."""


class CertificateService(Protocol):
    """An EST server (RFC 7030). Certificates and requests are DER."""

    def authorities(self) -> list[bytes]:
        """The certificates of its authorities (cacerts). Raises ProvisioningError."""

    def enroll(self, request: bytes, name: str, claim: str) -> bytes | Pending:
        """A certificate for *request* (simpleenroll). Raises ProvisioningError."""

    def reenroll(self, request: bytes) -> bytes | Pending:
        """The next certificate (simplereenroll), asked for with the one in use.

        Raises ProvisioningError.
        """
