"""The scripted city at a real broker, and a device's threads as the agent runs them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.base.retry import Backoff
from agent.base.values import LinkUp, Message
from agent.device.clock import SystemClock, boottime_ms
from agent.gallery.city.lease import Lease, LeaseFile, LeaseTiming
from agent.gallery.file.store import GalleryStore
from agent.hw.net.mqtt import MqttLink
from agent.journal import Journal
from agent.link.galleries.fetch import Timing
from agent.link.galleries.worker import Downlink, SigningIdentity
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.protocol import topics
from agent.protocol.signed import Signer
from agent.protocol.topics import down_topics
from tests.link.galleries.scripted.city import ScriptedCity
from tests.link.galleries.scripted.device import RING
from tests.protocol.town import Town
from tests.waiting import LATE_SECONDS


class LiveCity:
    """Answers at the broker on *port*, in a thread; ``announce`` publishes the newest head."""

    def __init__(self, city: ScriptedCity, port: int, devices: list[str]) -> None:
        self.city = city
        self._devices = devices
        self._port = port
        self._out: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self._stop = threading.Event()
        self._up = threading.Event()
        self.published_bytes = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def announce(self) -> float:
        """Publish the newest head to every device, retained; the moment of it."""
        for device in self._devices:
            self._out.put((topics.HEAD.of(device), self.city.newest.message, True))
        return time.monotonic()

    def _run(self) -> None:
        link = MqttLink(
            "127.0.0.1",
            self._port,
            client_id="city-1",
            subscriptions=["kp1/+/u/gal"],
            max_queued_messages=100_000,
        )
        link.open()
        while not self._stop.is_set():
            for event in link.turn(0.01):
                if isinstance(event, LinkUp):
                    self._up.set()
                elif isinstance(event, Message):
                    device = event.topic.split("/")[1]
                    for topic, payload in self.city.answer(device, event.payload):
                        self._out.put((topic, payload, False))
            while not self._out.empty():
                topic, payload, retain = self._out.get()
                self.published_bytes += len(payload)
                link.publish(topic, payload, retain=retain)
        link.close()

    def __enter__(self) -> LiveCity:
        self._thread.start()
        assert self._up.wait(LATE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LATE_SECONDS)


class LiveDevice:
    """The sync thread and the gallery's thread of one device, without a camera."""

    def __init__(
        self,
        folder: Path,
        name: str,
        port: int,
        town: Town,
        *,
        signer: Signer | None = None,
        lease_ms: int = 3_600_000,
        confirm_ms: int = 60_000,
        check_ms: int = 600_000,
        ask_ms: int = 2_000,
        boottime: Callable[[], int] = boottime_ms,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self.path = folder / "gallery.db"
        clock = SystemClock()
        signer = signer or town.device(name)
        self.lease = Lease(
            LeaseTiming(lease_ms, confirm_ms),
            LeaseFile(folder / "gallery.lease", RING.lease_key()),
            clock.now().boot,
            boottime,
        )
        self.downlink = Downlink(
            name,
            "bus",
            store=lambda: GalleryStore(self.path, RING, domain="bus"),
            identity=lambda: SigningIdentity(signer, town.trust),
            private_key=RING.receive_key(),
            lease=self.lease,
            now=clock.now,
            timing=Timing(check_ms=check_ms, ask_ms=ask_ms),
        )
        state = SyncState(folder / "sync.json")
        duty = self.downlink.duty
        self.supervisor = Supervisor(
            name,
            "test",
            journal=lambda: Journal(folder / "journal.db", RING.journal_key()),
            link=lambda will: MqttLink(
                "127.0.0.1",
                port,
                client_id=name,
                subscriptions=[*down_topics(name), *duty.topics],
                will=will,
            ),
            state=state,
            backoff=Backoff(state, min_seconds=0.1, max_seconds=0.3),
            duties=[duty],
            standing=lambda: self.downlink.standing,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: self.downlink.run(self._stop), daemon=True)

    @property
    def version(self) -> int:
        return self.downlink.standing.gallery_version

    def __enter__(self) -> LiveDevice:
        self._thread.start()
        self.supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LATE_SECONDS)
        self.supervisor.stop()


@contextmanager
def talking(
    folder: Path, city: ScriptedCity, port: int, town: Town
) -> Iterator[tuple[LiveCity, LiveDevice]]:
    """A city and one device of it, each in its threads."""
    with (
        LiveCity(city, port, ["bus-7"]) as live,
        LiveDevice(folder, "bus-7", port, town) as device,
    ):
        yield live, device
