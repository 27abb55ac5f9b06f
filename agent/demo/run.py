"""The whole line on this machine: enrol, watch a door, journal, sync, commit at the city, show.

Everything is the real thing - the agent, a broker, the city side - but for the passengers, who are
cut out of photographs, and the lamps, which are gpiozero's mock pins.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agent.base.errors import LinkError
from agent.base.events import PassageEvent, Place, StoredEvent
from agent.base.ports import Display
from agent.base.values import DoorSignal, Vector
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city
from agent.demo.broker import DemoBroker
from agent.demo.page import Page
from agent.demo.state import DemoState
from agent.demo.watch import Feeder, Witness
from agent.device.notify import Notifier, Watchdog
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.keys.pseudonym import Pseudonyms
from agent.keys.ring import KeyRing, open_keyring
from agent.link.uplink.supervisor import SyncStatus
from agent.recognition.protection import Protection
from agent.settings.model import Settings, load
from agent.sim.cameras.scene import SceneCamera
from agent.sim.photographs import passengers, picture
from agent.sim.scenery import Passenger
from agent.sim.walks import overlap
from agent.wiring.agent import Agent
from agent.wiring.devices import camera_overrides, enrolment_frames
from agent.wiring.parts import Networks, door_networks, enroller

DEFAULT_PERSON = "yaoming"
DEVICE = "demo-bus-1"
_SAME_PERSON = 0.4  # cosine of two good photographs; strangers' do not reach 0.3
_READY_SECONDS = 10.0
_DRAIN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for. ``source`` None is the scene made of photographs.

    ``enrolments`` are (id, file); none means the person of the demo's photograph.
    """

    headless: bool = False
    port: int = 0
    liveness: Literal["on", "off"] = "off"
    source: str | None = None
    enrolments: tuple[tuple[str, str], ...] = ()
    broker: Literal["auto", "mosquitto", "embedded"] = "auto"


@dataclass(frozen=True, slots=True)
class Summary:
    """How it went. The strangers are None with one's own footage, where nobody knows the truth."""

    enrolled: list[str]
    recognised: dict[str, int]
    strangers_seen: int | None
    strangers_named: int | None
    events_committed: int
    events_at_city: int
    seconds: float


class Boardings:
    """A display that counts the events behind the notices, by person."""

    def __init__(self, person_of: dict[str, str]) -> None:
        self._person_of = person_of  # pseudonym -> id, known to the demo alone
        self.by_person: Counter[str] = Counter()

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        """Count *stored* if there is one."""
        del signal
        if stored is not None and isinstance(stored.event, PassageEvent):
            self.by_person[self._person_of[stored.event.person]] += 1

    def close(self) -> None:
        """Nothing to release."""


def run(
    options: Options,
    stop: threading.Event,
    tell: Callable[[str], None] = lambda _text: None,
) -> Summary:
    """Run the demo until *stop* is set, or headless until the scene or file is over.

    *tell* gets lines for a person. Raises KaopassError with what is missing.
    """
    started = time.monotonic()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="kaopass-demo-")))
        settings = _settings(options, folder)
        networks = door_networks(settings)
        ring = open_keyring(FileKeySource(settings.keys_directory), may_create=True)
        protection, templates = _enrol(options, settings, networks, ring)
        networks = networks.protected(protection)
        tell(f"enrolled: {', '.join(templates)}")
        if options.liveness == "off" and options.source is None:
            tell("liveness: off, as the passengers are photographs; at a door it is on")
        scene, known = _scene(options, settings, networks, templates)
        del networks  # the agent opens its own
        broker = opened.enter_context(DemoBroker(options.broker))
        settings = _settings(options, folder, broker)
        store = Store(str(folder / "city.db"))
        opened.callback(store.close)
        city = build_city(BrokerAddress(broker.host, broker.port, protocol=broker.protocol), store)
        opened.callback(city.stop)
        city.start()
        if not city.wait_ready(_READY_SECONDS):
            raise LinkError(f"the city side cannot reach the demo's broker: {city.trouble}")
        state = None if options.headless else _state(options, settings, broker, scene)
        witness = Witness(scene, known, state)
        pseudonyms = Pseudonyms(ring.pseudonym_key)
        boardings = Boardings({pseudonyms.of(who, settings.place.kind): who for who in templates})
        agent = _agent(settings, ring, witness, scene, [boardings, *([state] if state else [])])
        with agent:
            if state is not None:
                page = opened.enter_context(Page(state, port=options.port))
                feeder = Feeder(
                    state, store, agent.health, lambda: _status(agent), enrolled=len(templates)
                )
                opened.callback(feeder.stop)
                feeder.start()
                tell(f"watch it at {page.url} (with ?blur=1 faces are hidden); Ctrl-C ends it")
            agent.run(stop, until_end=options.headless)
            arrived = agent.drain(_DRAIN_SECONDS)
        committed = agent.health.snapshot().counters.get("events", 0)
        if not arrived:
            raise LinkError(
                f"{committed} events were committed, but within {_DRAIN_SECONDS:g} s only "
                f"{store.event_count()} came to the city over {broker.name}"
            )
        return Summary(
            enrolled=list(templates),
            recognised=dict(boardings.by_person),
            strangers_seen=witness.strangers_seen,
            strangers_named=witness.strangers_named,
            events_committed=committed,
            events_at_city=store.event_count(),
            seconds=round(time.monotonic() - started, 1),
        )


def _settings(options: Options, folder: Path, broker: DemoBroker | None = None) -> Settings:
    """The demo's settings: everything under *folder*, lamps on mock pins, research licence."""
    pace = "fast" if options.headless else "clock"
    camera: dict[str, Any] = camera_overrides(options.source or "scene")
    camera |= {"pace": pace, "loop": not options.headless}
    if options.headless:
        camera["frames_per_second"] = 10.0  # nobody watches: fewer frames show the same
    sync: dict[str, Any] = {"enabled": broker is not None, "tls": False, "batch_seconds": 0.2}
    if broker is not None:
        sync |= {"host": broker.host, "port": broker.port, "protocol": broker.protocol}
    return load(
        None,
        {
            "device": {"name": DEVICE},
            # The scene goes round in 39 s, each round another trip: whoever comes again boards.
            "place": {"kind": "bus", "name": "デモバス", "door": "front", "repeat_seconds": 15},
            "camera": camera,
            # Packs are installed once for this machine, not for each demo.
            "models": {"licence": "research", "directory": load(None).models_directory},
            "liveness": {"mode": options.liveness},
            # Passengers of the scene stand at the door for two seconds.
            "decision": {"timeout_seconds": 1.2},
            "sync": sync,
            "feedback": {"display": "none", "lamps": "gpio", "pin_factory": "mock"},
            "state": {"directory": folder / "device", "socket": folder / "status.sock"},
        },
    )


def _enrol(
    options: Options, settings: Settings, networks: Networks, ring: KeyRing
) -> tuple[Protection, dict[str, Vector]]:
    """Put everybody to be enrolled into the device's gallery; its map, and id to templates."""
    files: dict[str, list[str]] = {}
    for person, file in options.enrolments or ((DEFAULT_PERSON, str(picture("yaoming.jpg"))),):
        files.setdefault(person, []).append(file)
    settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.state_directory / "gallery.db"
    with Gallery(path, ring, networks.embedder.pack, domain=settings.place.kind) as gallery:
        enrol = enroller(settings, networks.protected(gallery.protection), min_images=1)
        templates = {
            person: enrol.enrol((file, enrolment_frames(file)) for file in paths).templates
            for person, paths in files.items()
        }
        for person, rows in templates.items():
            gallery.enroll(person, rows, now_ms=time.time_ns() // 1_000_000)
        return gallery.protection, templates


def _scene(
    options: Options, settings: Settings, networks: Networks, templates: Mapping[str, Vector]
) -> tuple[SceneCamera | None, dict[str, str]]:
    """The scene, and who of its passengers is enrolled under which id: they board twice."""
    if options.source is not None:
        return None, {}
    people = passengers(networks.detector)
    known = _recognised_by_photograph(people, networks, templates)
    camera = settings.camera
    scene = SceneCamera(
        people,
        width_pixels=camera.width_pixels,
        height_pixels=camera.height_pixels,
        frames_per_second=camera.frames_per_second,
        pace="fast" if options.headless else "clock",
        rounds=1 if options.headless else 0,
        returning=known,
    )
    return scene, known


def _recognised_by_photograph(
    people: Sequence[Passenger], networks: Networks, templates: Mapping[str, Vector]
) -> dict[str, str]:
    """Passenger key to id: the likest face of all photographs, if it is alike at all.

    The truth to judge the door by: one clean, still look instead of a blurred walk-up.
    """
    looks = {}
    for person in people:
        faces = networks.detector.detect(person.photograph)
        face = max(faces, key=lambda found: overlap(found.box, person.face))
        looks[person.key] = networks.embedder.embed(person.photograph, [face])[0]
    known = {}
    for who, rows in templates.items():
        alike = {key: float(np.max(rows @ look)) for key, look in looks.items()}
        likest = max(alike, key=lambda key: alike[key])
        if alike[likest] >= _SAME_PERSON:
            known[likest] = who
    return known


def _state(
    options: Options, settings: Settings, broker: DemoBroker, scene: SceneCamera | None
) -> DemoState:
    return DemoState(
        place=settings.place.kind,
        direction=settings.place.direction,
        broker=f"{broker.name}, MQTT {broker.protocol}",
        liveness=options.liveness == "on",
        photographs=scene is not None,
        show_seconds=settings.feedback.show_seconds,
    )


def _agent(
    settings: Settings,
    ring: KeyRing,
    witness: Witness,
    scene: SceneCamera | None,
    displays: Sequence[Display],
) -> Agent:
    notifier = Notifier(None)
    agent = Agent(
        settings,
        ring,
        displays=displays,
        notifier=notifier,
        watchdog=Watchdog(notifier, 0),
        camera=scene,
        watch=witness.watch,
    )
    place = settings.place
    witness.drive(Place(place.kind, place.name, place.door), agent.inputs.put)
    return agent


def _status(agent: Agent) -> SyncStatus | None:
    return agent.sync.status if agent.sync is not None else None
