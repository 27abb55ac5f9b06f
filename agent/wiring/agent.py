"""The agent of one door: opens every part the settings name, wires them, stops in reverse."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from agent import __version__
from agent.base.audit import AuditLog
from agent.base.drivers import OpenSession
from agent.base.errors import CameraError
from agent.base.events import Place
from agent.base.ports import Camera, Display
from agent.base.values import DoorEdge, DoorSignal, Standing
from agent.device.clock import SystemClock
from agent.device.diagnostics import diagnostics
from agent.device.health import HealthBoard
from agent.device.memory import return_freed
from agent.device.notify import Notifier, Watchdog
from agent.device.statussocket import StatusSocket
from agent.device.workers import Worker
from agent.door.faces import NOBODY
from agent.door.inputs import Inputs
from agent.door.pipeline import Pipeline
from agent.door.recogniser import Step
from agent.door.recorder import Recorder
from agent.feedback.front import Feedback
from agent.gallery.gallery import Gallery
from agent.hw.models.networks.onnx import open_session
from agent.keys.ring import KeyRing
from agent.link.control.steering import Steering, Trial
from agent.link.control.trustedtime import TrustedTime
from agent.link.galleries.worker import Downlink
from agent.link.uplink.supervisor import Supervisor
from agent.settings.model import Settings
from agent.wiring.devices import (
    camera_alarms,
    camera_status,
    check_camera,
    lamp_opener,
    newest_frames,
    open_camera,
)
from agent.wiring.door import boarding_rules, conduct
from agent.wiring.galleries import open_faces
from agent.wiring.journal import JournalFile
from agent.wiring.link import open_sync, revoking, telling
from agent.wiring.overseer import LoopOverseer
from agent.wiring.parts import door_networks, recogniser
from agent.wiring.provisioning import renewal
from agent.wiring.selftest import passes_self_test

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
WORKERS_SECONDS = 1.0  # at the end, for what is being written
REMEMBERED_EVENTS = 1000  # looked through at start for people who have just boarded


def no_watch(step: Step) -> None:
    """Nobody looks over the door's shoulder."""
    del step


class Agent:
    """One door. ``open()``, then ``run()`` until the stop event, then ``close()``."""

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        *,
        displays: Sequence[Display],
        notifier: Notifier,
        watchdog: Watchdog,
        camera: Camera | None = None,
        watch: Callable[[Step], None] = no_watch,
        opener: OpenSession = open_session,
        steering: Steering | None = None,
    ) -> None:
        """*camera* and *opener* (of networks) stand in for those of the settings; *watch* sees
        every frame. *steering* takes settings from the city; without it they stay."""
        self._steering = steering
        self._trial = Trial(steering) if steering is not None else None
        self._stop = threading.Event()
        self._works = False
        self.ended_for = ""  # or "reload", "restart", once ``run`` has returned for that
        self.left_over = False  # the pipeline did not end in time: this process is not to go on
        self._opener = opener
        self._settings = settings
        self._ring = ring
        self._journal = JournalFile.of(settings, ring)
        self._displays = displays
        self._notifier = notifier
        self._watchdog = watchdog
        self._camera = camera
        self._watch = watch
        self._opened = ExitStack()
        self._clock = SystemClock()
        self.inputs = Inputs()
        self.health = HealthBoard()
        self.sync: Supervisor | None = None
        self.downlink: Downlink | None = None

    def __enter__(self) -> Agent:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open every part, the ones most likely to be misconfigured first. Raises KaopassError."""
        settings = self._settings
        if self._camera is None:
            check_camera(settings.camera)
        networks = door_networks(settings, self._opener)
        camera = self._camera or open_camera(settings.camera, networks.detector)
        settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open_status()
        self._gallery = Gallery(
            settings.state_directory / "gallery.db",
            self._ring,
            networks.embedder.pack,
            domain=settings.place.kind,
        )
        self._opened.callback(self._gallery.close)
        # From here on no plain embedding leaves the embedders.
        self._networks = networks.protected(self._gallery.protection)
        self._open_faces()
        self._rules = boarding_rules(settings, self.faces)
        self.inputs.handle(Place, self._rules.moved)
        self.inputs.handle(DoorEdge, self._note_edge)
        if self._gallery.salvaged is not None:
            self.health.alarm("gallery", "was damaged and has been salvaged; enrol who is missing")
        self._journal.check(self._clock.now(), self.health)
        self.feedback = Feedback(lamp_opener(settings.feedback), self._displays)
        self._opened.callback(self.feedback.close)
        self.health.watch_alarms(self.feedback.alarms)
        self.source = newest_frames(settings.camera, camera)
        self._opened.callback(self.source.stop)
        self.health.watch_detail("camera", self._camera_status)
        self.health.watch_alarms(lambda: camera_alarms(self.source))
        self._open_sync()

    def close(self) -> None:
        """Stop and close in reverse; safe to call twice."""
        self._opened.close()

    def run(self, stop: threading.Event, *, until_end: bool = False) -> None:
        """Work until *stop* is set or, with *until_end*, until a file source is over.

        Raises the error of a worker that died three times in a minute.
        """
        self._stop, self._until_end = stop, until_end
        self.source.start()
        worker = Worker("pipeline", self._work, final=(CameraError,))
        workers = [worker, Worker("faces", lambda: self.faces.watch(stop))]
        if self.downlink is not None:
            downlink = self.downlink
            workers.append(Worker("gallery", lambda: downlink.run(stop)))
        if self.sync is not None:
            self.sync.start()
            workers.append(Worker("renewal", lambda: self._renewal.run(stop)))
        for each in workers:
            each.start()
        try:
            while not stop.is_set() and not worker.finished:
                for each in workers:
                    each.check()
                self.feedback.tend()
                self._judge_trial()
                stop.wait(TICK_SECONDS)
        finally:
            self.health.state("stopping")
            if self.ended_for == "reload":
                self._notifier.reloading()
            else:
                self._notifier.stopping()
            stop.set()
            self.faces.changed()  # its worker wakes, and ends
            self.left_over = not worker.join(2.0)
            for each in workers[1:]:
                each.join(WORKERS_SECONDS)  # what one does not finish is repeated

    def drain(self, seconds: float) -> bool:
        """Wait at most *seconds* until the city has everything; True if it has."""
        return self._journal.drained(seconds)

    def _work(self) -> None:
        """The pipeline's thread: its own journal, its own evidence."""
        settings = self._settings
        if not passes_self_test(self._networks, self.health):
            self._stand_idle()
            return
        with self._journal.open() as journal:
            if not self.faces.begun:  # else this thread died and starts again
                self.faces.read()
            searching = recogniser(settings, self._networks, NOBODY)
            self.faces.between(searching)
            return_freed()
            # Ready is who can recognise, so not before the gallery is in memory.
            self.feedback.show(DoorSignal("ready"))
            self.health.state("ready")
            self._notifier.ready()
            self._works = True
            self._rules.remember(journal.recent(REMEMBERED_EVENTS), self._clock.now().boot)
            Pipeline(
                self.source,
                self.inputs,
                searching,
                Recorder(self._rules, journal, self._clock),
                self.faces,
                self.feedback,
                LoopOverseer(self.health, self._watchdog, journal, self._clock, self._watch),
                conduct(settings),
            ).run(self._stop, until_end=self._until_end)

    def _stand_idle(self) -> None:
        """Out of service, but alive: the status says why, and events already made are synced."""
        self.feedback.show(DoorSignal("out_of_service"))
        self.health.state("out of service")
        self._notifier.ready()
        while not (self._until_end or self._stop.wait(TICK_SECONDS)):
            self._watchdog.feed()

    def _note_edge(self, edge: DoorEdge) -> None:
        self.health.count("door_openings" if edge.is_open else "door_closings")

    def _open_faces(self) -> None:
        self.faces, self.downlink = open_faces(
            self._settings, self._ring, self._gallery, self._networks, self._clock.now, self.health
        )
        if self.downlink is not None:
            self.health.watch_detail("city_gallery", self.downlink.status)
            self.health.watch_alarms(self.downlink.alarms)

    def _open_status(self) -> None:
        status = StatusSocket(self._settings.socket_path, self.health.snapshot)
        status.open()
        self._opened.callback(status.close)
        self.health.state("starting")
        self.health.detail("device", self._settings.device.name)
        self.health.detail("version", __version__)
        self.health.detail("liveness", self._settings.liveness.mode)

    def _camera_status(self) -> dict[str, object]:
        return camera_status(self._settings.camera.kind, self.source)

    def _open_sync(self) -> None:
        if not self._settings.sync.enabled:
            self.health.detail("sync", {"enabled": False})
            return
        known = TrustedTime(self._clock.now)
        if self.downlink is not None:
            self.downlink.on_time(known.learn)
        supervisor = open_sync(
            self._settings,
            journal=self._journal.open,
            time=known,
            audit=AuditLog(self._settings.audit_file, self._ring.audit_key()),
            handlers={
                "status": telling(lambda: asdict(self.health.snapshot())),
                "diagnostics": telling(self._diagnostics),
                "revoke-now": revoking(self.faces.revoke_now),
            },
            steering=self._steering,
            end=self.end,
            supervised=self._notifier.connected,
            duties=[] if self.downlink is None else [self.downlink.duty],
            standing=lambda: self.downlink.standing if self.downlink else Standing(),
        )
        self.sync = supervisor
        self._opened.callback(supervisor.stop)
        self.health.watch_detail("sync", lambda: supervisor.status)
        self._renewal = renewal(self._settings, self._ring.audit_key())
        self.health.watch_alarms(self._renewal.alarms)
        if self._steering is not None:
            self.health.watch_alarms(self._steering.alarms)

    def end(self, how: str) -> None:
        """Have ``run`` return soon, so that the agent can begin anew: "reload", or "restart" of the
        whole process. Any thread."""
        log.info("the agent ends for a %s", how)
        self.ended_for = how
        self._stop.set()

    def _diagnostics(self) -> dict[str, Any]:
        with self._journal.open() as journal:
            stats = asdict(journal.stats())
        found = diagnostics(__version__, self._settings.state_directory)
        return {**found, "camera": self._camera_status(), "journal": stats}

    def _judge_trial(self) -> None:
        state = self.source.trouble or f"camera {self.source.state}"
        if self._trial is not None and not self._trial.goes_on(
            works=self._works and self.source.counters.frames > 0, state=state
        ):
            self.end("reload")
