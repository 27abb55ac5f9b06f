"""Looks over the agent's shoulder: draws its decisions for the page, and checks them by the truth.

The scene knows who was in which frame, so strangers are counted as people, not as tracks, and a
stranger who is given a name is noticed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.base.events import Place
from agent.base.values import Decision, Outcome, TrackedFace
from agent.cityos.events.store import Store
from agent.demo.annotate import Mark
from agent.demo.state import DemoState, Figures, Row
from agent.device.health import HealthBoard
from agent.door.recogniser import Step
from agent.link.uplink.supervisor import SyncStatus
from agent.sim.cameras.scene import SceneCamera
from agent.sim.walks import ScenePlan

STOP_NAMES = ("公民館前", "中央公園", "団地入口", "駅前")
_FEED_SECONDS = 0.25
_ROWS = 100


class Witness:
    """Sees every step of the pipeline, in its thread.

    *scene* is None with other footage. *known* says who of the scene's passengers is enrolled
    under which id; everybody else is a stranger.
    """

    def __init__(
        self,
        scene: SceneCamera | None,
        known: Mapping[str, str],
        state: DemoState | None = None,
    ) -> None:
        self._scene = scene
        self._known = known
        self._state = state
        self._latest: dict[int, Decision] = {}
        self._seen: set[str] = set()
        self._named: set[str] = set()
        self._plan: ScenePlan | None = None
        self._here: Place | None = None
        self._put: Callable[[Place], None]
        self.frame = 0

    def watch(self, step: Step) -> None:
        """Take note of *step*."""
        self.frame = step.tracks.frame.index
        if self._scene is not None:
            self._tell_stop(self._scene)
        for decision in step.decisions:
            self._latest[decision.track] = decision
            self._judge(decision)
        for track in step.tracks.ended:
            self._latest.pop(track, None)
        if self._state is not None:
            truth = self._scene.faces(self.frame) if self._scene else []
            marks = [self._mark(seen) for seen in step.tracks.seen]
            self._state.show_frame(step.tracks.frame.image, marks, [box for _, box in truth])

    @property
    def strangers_seen(self) -> int | None:
        """How many strangers were decided on; None where the truth is not known."""
        return len(self._seen) if self._scene else None

    @property
    def strangers_named(self) -> int | None:
        """How many passengers were given a name that is not theirs; None as above."""
        return len(self._named) if self._scene else None

    def drive(self, bus: Place, put: Callable[[Place], None]) -> None:
        """Once the scene is seen, *put* is told at which of its stops *bus* is."""
        self._here, self._put = bus, put

    def _tell_stop(self, scene: SceneCamera) -> None:
        # The scene may be closed by the time its last frames are looked at.
        self._plan = self._plan or scene.plan
        stop = STOP_NAMES[self._plan.stop_at(self.frame) % len(STOP_NAMES)]
        if self._here is not None and stop != self._here.stop:
            self._here = replace(self._here, stop=stop)
            self._put(self._here)

    def _judge(self, decision: Decision) -> None:
        who = self._scene.who(decision.frame, decision.box) if self._scene else None
        if who is None:
            return
        true = self._known.get(who)
        if true is None and decision.outcome is not Outcome.REJECTED:
            self._seen.add(who)
        if decision.person is not None and decision.person != true:
            self._named.add(who)

    def _mark(self, seen: TrackedFace) -> Mark:
        decision = self._latest.get(seen.track)
        if decision is None:
            return Mark(seen.face.box, "...", "waiting")
        label = decision.outcome.value
        if decision.outcome is Outcome.MATCH:
            label = f"match {decision.score:.2f}"
        return Mark(seen.face.box, label, decision.outcome.value)


class Feeder:
    """Keeps the page's figures and the city's table up to date, from a thread of its own."""

    def __init__(
        self,
        state: DemoState,
        store: Store,
        health: HealthBoard,
        sync: Callable[[], SyncStatus | None],
        *,
        enrolled: int,
    ) -> None:
        self._state = state
        self._store = store
        self._health = health
        self._sync = sync
        self._enrolled = enrolled
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe if it never started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopping.wait(_FEED_SECONDS):
            self.feed()

    def feed(self) -> None:
        """Bring the page up to date once."""
        counters = self._health.snapshot().counters
        sync = self._sync()
        rows = [
            Row(
                device=row["device"],
                seq=row["seq"],
                kind=row["kind"],
                place=" · ".join(part for part in (row["place"], row["stop"]) if part),
                wall_ms=row["wall_ms"],
                person=row["person"],
            )
            for row in reversed(self._store.events(limit=_ROWS))
        ]
        events = counters.get("events", 0)
        self._state.set_table(rows)
        self._state.set_figures(
            Figures(
                frames=counters.get("frames", 0),
                boardings=events,
                strangers=counters.get("strangers", 0),
                committed=events,
                at_city=self._store.event_count(),
                enrolled=self._enrolled,
                sync="connected" if sync is not None and sync.connected else "offline",
            )
        )
