"""The agent of one door: opens every part the settings name, wires them, stops in reverse."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from agent import __version__
from agent.device.clock import SystemClock
from agent.device.health import HealthBoard
from agent.device.memory import return_freed
from agent.device.notify import Notifier, Watchdog
from agent.device.statussocket import StatusSocket
from agent.device.workers import Worker
from agent.errors import CameraError, JournalError
from agent.feedback.front import Feedback
from agent.hw.gpio import GpioLamps
from agent.hw.mqtt import MqttLink
from agent.hw.onnx import OpenSession, open_session
from agent.identity.gallery import Gallery
from agent.identity.keys import KeyRing
from agent.identity.templates import TemplateSet
from agent.joining import broker_tls, renewal
from agent.journal import Journal
from agent.journey.boarding import BoardingRules
from agent.journey.pseudonym import Pseudonyms
from agent.parts import open_camera, open_networks, recogniser, self_tested
from agent.pipeline import Pipeline
from agent.ports import Camera, Display, Lamps
from agent.recognise import Step
from agent.rules import both_sides, pack_change
from agent.settings import FeedbackSettings, Settings
from agent.sync.backoff import Backoff
from agent.sync.commands import down_topics
from agent.sync.state import SyncState
from agent.sync.supervisor import Supervisor
from agent.sync.uplink import UplinkLimits
from agent.values import Message, Notice, Place
from agent.vision.source import NewestFrame

log = logging.getLogger(__name__)

GALLERY_CHECK_SECONDS = 2.0  # how late an enrolment by another process is noticed
UPKEEP_SECONDS = 60.0
FILE_KINDS = ("file", "folder", "scene")
TICK_SECONDS = 0.2
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
        place: Callable[[], Place] | None = None,
        watch: Callable[[Step], None] = no_watch,
        opener: OpenSession = open_session,
    ) -> None:
        """*camera*, *place* and *opener* (of networks) stand in for those of the settings; *watch*
        sees every frame."""
        self._opener = opener
        self._settings = settings
        self._ring = ring
        self._displays = displays
        self._notifier = notifier
        self._watchdog = watchdog
        self._camera = camera
        self._place = place or _fixed_place(settings)
        self._watch = watch
        self._opened = ExitStack()
        self._clock = SystemClock()
        self._nicknames: dict[str, str] = {}
        self._next_gallery_check = 0.0
        self._next_upkeep = 0.0
        self.health = HealthBoard()
        self.lamps: Lamps | None = None
        self.sync: Supervisor | None = None

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
        networks = open_networks(settings, self._opener)
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
        if self._gallery.salvaged is not None:
            self.health.alarm("gallery", "was damaged and has been salvaged; enrol who is missing")
        self._check_journal()
        self.feedback = Feedback(self._lamp_opener(), self._displays)
        self._opened.callback(self.feedback.close)
        self.health.watch_alarms(self.feedback.alarms)
        self.source = NewestFrame(
            camera,
            pace=settings.camera.pace if settings.camera.kind in FILE_KINDS else "live",
            reopen_min_seconds=settings.camera.reopen_min_seconds,
            reopen_max_seconds=settings.camera.reopen_max_seconds,
        )
        self._opened.callback(self.source.stop)
        self.health.watch_detail("camera", self._camera_status)
        self.health.watch_alarms(self._camera_alarms)
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
        workers = [worker]
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
                stop.wait(TICK_SECONDS)
        finally:
            self.health.state("stopping")
            self._notifier.stopping()
            stop.set()
            worker.join(2.0)

    def drain(self, seconds: float) -> bool:
        """Wait at most *seconds* until the city has everything; True if it has."""
        until = time.monotonic() + seconds
        with self._journal() as journal:
            while journal.stats().pending:
                if time.monotonic() >= until:
                    return False
                time.sleep(0.05)
        return True

    def _work(self) -> None:
        """The pipeline's thread: its own journal, its own evidence."""
        settings = self._settings
        if not self._passes_self_test():
            self._stand_idle()
            return
        with self._journal() as journal:
            # No name here keeps the templates when the gallery is loaded anew.
            self._recogniser = recogniser(settings, self._networks, *self._load_gallery())
            return_freed()
            # Ready is who can recognise, so not before the gallery is in memory.
            self.feedback.show(Notice("ready"))
            self.health.state("ready")
            self._notifier.ready()
            rules = BoardingRules(
                Pseudonyms(self._ring.pseudonym_key),
                self._place,
                direction=settings.place.direction,
                repeat_ms=round(settings.place.repeat_seconds * 1000),
            )
            rules.remember(journal.recent(REMEMBERED_EVENTS), self._clock.now().boot)
            Pipeline(
                self.source,
                self._recogniser,
                rules,
                journal,
                self.feedback,
                self._clock,
                self.health,
                nickname=lambda person: self._nicknames.get(person, ""),
                timeout_ms=round(settings.decision.timeout_seconds * 1000),
                on_journal_failure=settings.journal.on_failure,
                goodbye=settings.place.direction == "out",
                between=lambda: self._between(journal),
                watch=self._watch,
            ).run(self._stop, until_end=self._until_end)

    def _passes_self_test(self) -> bool:
        result = self_tested(self._networks)
        if result.warning:
            self.health.alarm("self_test", f"self-test not possible: {result.warning}")
        if not result.fault:
            return True
        log.error("self-test failed: %s", result.fault)
        self.health.alarm(
            "self_test",
            f"self-test failed: {result.fault}. Nobody is recognised until it passes: run "
            "kaopass models verify, then start the agent again",
        )
        return False

    def _stand_idle(self) -> None:
        """Out of service, but alive: the status says why, and events already made are synced."""
        self.feedback.show(Notice("out_of_service"))
        self.health.state("out of service")
        self._notifier.ready()
        while not (self._until_end or self._stop.wait(TICK_SECONDS)):
            self._watchdog.feed()

    def _between(self, journal: Journal) -> None:
        """Between two frames: a sign of life, then what is due."""
        self._watchdog.feed()
        now = time.monotonic()
        if now >= self._next_gallery_check:
            self._next_gallery_check = now + GALLERY_CHECK_SECONDS
            if self._gallery.version != self._gallery_version:
                self._load_gallery()
                self._recogniser.use(*self._sides)
        if now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_SECONDS
            moment = self._clock.now()
            try:
                journal.correct(moment)
                journal.prune(moment)
            except JournalError as error:
                self.health.alarm("journal", str(error))

    def _load_gallery(self) -> tuple[TemplateSet, TemplateSet | None]:
        """The templates of the pack in use, and those that the former one still decides by."""
        self._gallery_version = self._gallery.version
        self._networks.use(self._gallery.protection)
        self._nicknames = self._gallery.nicknames()
        kind, models = self._settings.place.kind, self._settings.models
        templates = self._gallery.load(purpose=kind)
        former = self._gallery.load(models.former, purpose=kind) if models.former else None
        both = [each for each in (templates, former) if each is not None]
        damaged = max(each.damaged for each in both)  # a lost key is counted for either pack
        if damaged:
            self.health.alarm("gallery", f"{damaged} people must be enrolled again")
        people = sum(len(each.ids) for each in both)
        calibrations = self._networks.calibrations
        self._sides = both_sides(self._settings.decision, calibrations, templates, former)
        said: dict[str, object] = {"people": people}
        said["threshold"] = round(self._sides[1].threshold, 4)
        left = self._gallery.to_enrol_again()
        progress, alarm = pack_change(models.pack, models.former, left)
        self.health.detail("gallery", {**said, **progress})
        if alarm:
            self.health.alarm("packs", alarm)
        else:
            self.health.clear("packs")
        return templates, former

    def _journal(self) -> Journal:
        return Journal(
            self._settings.state_directory / "journal.db",
            self._ring.journal_key(),
            keep_days=self._settings.journal.keep_days,
        )

    def _check_journal(self) -> None:
        journal, report = Journal.open_checked(
            self._settings.state_directory / "journal.db",
            self._ring.journal_key(),
            now=self._clock.now(),
            keep_days=self._settings.journal.keep_days,
        )
        with journal:
            if report.damage:
                self.health.alarm(
                    "journal_damaged",
                    f"{report.damage}; {report.salvaged} events salvaged, the damaged file is "
                    f"kept as {report.set_aside}",
                )

    def _open_status(self) -> None:
        status = StatusSocket(self._settings.socket_path, self.health.snapshot)
        status.open()
        self._opened.callback(status.close)
        self.health.state("starting")
        self.health.detail("device", self._settings.device.name)
        self.health.detail("version", __version__)

    def _camera_status(self) -> dict[str, object]:
        counters = self.source.counters
        return {
            "kind": self._settings.camera.kind,
            "state": self.source.state,
            "frames": counters.frames,
            "dropped": counters.dropped,
            "reopens": counters.reopens,
        }

    def _camera_alarms(self) -> list[str]:
        trouble = self.source.trouble
        # The drivers' messages begin with "camera" themselves.
        return [f"{trouble} (it is tried again until it is back)"] if trouble else []

    def _lamp_opener(self) -> Callable[[], Lamps] | None:
        feedback = self._settings.feedback
        if feedback.lamps == "none":
            return None

        def open_lamps() -> Lamps:
            self.lamps = _gpio_lamps(feedback)
            return self.lamps

        return open_lamps

    def _open_sync(self) -> None:
        sync, device = self._settings.sync, self._settings.device.name
        if not sync.enabled:
            self.health.detail("sync", {"enabled": False})
            return
        state = SyncState(self._settings.state_directory / "sync.json")
        supervisor = Supervisor(
            device,
            __version__,
            journal=self._journal,
            link=lambda will: _mqtt_link(self._settings, will),
            state=state,
            backoff=Backoff(
                state, min_seconds=sync.retry_min_seconds, max_seconds=sync.retry_max_seconds
            ),
            limits=UplinkLimits(
                batch_events=sync.batch_events,
                batch_bytes=sync.batch_bytes,
                batch_seconds=sync.batch_seconds,
                inflight_batches=sync.inflight_batches,
                ack_timeout_seconds=sync.ack_timeout_seconds,
            ),
        )
        self.sync = supervisor
        self._opened.callback(supervisor.stop)
        self.health.watch_detail("sync", lambda: supervisor.status)
        self._renewal = renewal(self._settings, self._ring.audit_key())
        self.health.watch_alarms(self._renewal.alarms)


def _gpio_lamps(feedback: FeedbackSettings) -> GpioLamps:
    return GpioLamps(
        feedback.green_pin,
        feedback.amber_pin,
        feedback.red_pin,
        feedback.buzzer_pin,
        feedback.pin_factory,
        feedback.show_seconds,
    )


def _mqtt_link(settings: Settings, will: Message) -> MqttLink:
    sync, device = settings.sync, settings.device.name
    return MqttLink(
        sync.host,
        sync.port,
        client_id=device,
        protocol=sync.protocol,
        tls=broker_tls(settings),
        username=sync.username,
        password=sync.password.get_secret_value(),
        keepalive_seconds=sync.keepalive_seconds,
        subscriptions=down_topics(device),
        will=will,
    )


def _fixed_place(settings: Settings) -> Callable[[], Place]:
    here = Place(settings.place.kind, settings.place.name, settings.place.door)
    return lambda: here
