"""The camera thread: always the newest frame, and a lost camera opened again.

A live camera runs ahead and its unread frames are dropped; a file is played by its own clock, or
handed over frame by frame as fast as they are taken.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Literal

from agent.base.errors import CameraError, CameraStuckError
from agent.base.ports import Camera
from agent.base.values import Frame

log = logging.getLogger(__name__)

Pace = Literal["live", "clock", "fast"]
State = Literal["opening", "running", "lost", "ended"]
STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class FrameCounters:
    """Since the start: frames the camera gave, those nobody took, and returns after a loss."""

    frames: int
    dropped: int
    reopens: int


class NewestFrame:
    """Reads a camera in a thread of its own and hands over one frame at a time.

    *pace*: "live" keeps the newest frame and reopens a lost camera after *reopen_min_seconds*,
    doubling up to *reopen_max_seconds*; "clock" holds each frame of a file back until its
    ``t_ms`` has come and keeps the newest; "fast" drops nothing and waits for each frame to be
    taken.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        pace: Pace = "live",
        reopen_min_seconds: float = 0.5,
        reopen_max_seconds: float = 30.0,
    ) -> None:
        self._camera = camera
        self._pace = pace
        self._reopen_min_seconds = reopen_min_seconds
        self._reopen_max_seconds = reopen_max_seconds
        self._changed = threading.Condition()
        # All below is guarded by the condition.
        self._slot: Frame | None = None
        self._state: State = "opening"
        self._stopping = False
        self._failure: Exception | None = None
        self._frames = self._dropped = self._reopens = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @property
    def state(self) -> State:
        """What the camera is doing; "ended" is final."""
        with self._changed:
            return self._state

    @property
    def trouble(self) -> str:
        """Why a live camera is "lost"; empty while it is not."""
        with self._changed:
            return self._trouble if self._state == "lost" else ""

    @property
    def counters(self) -> FrameCounters:
        with self._changed:
            return FrameCounters(self._frames, self._dropped, self._reopens)

    def start(self) -> None:
        """Begin to read; call once."""
        self._thread.start()

    def get(self, timeout_seconds: float) -> Frame | None:
        """The newest frame not yet taken, or None if there is none in time or the source ended.

        Look at ``state`` to tell the two apart. Raises CameraError once the frames before are
        taken if a file could not be opened or is damaged. A live camera is reopened; it raises
        CameraStuckError, which is one, when only another process could do that.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._slot is not None or self._state == "ended", timeout_seconds
            )
            frame, self._slot = self._slot, None
            if frame is None and self._failure is not None:
                raise self._failure
            self._changed.notify_all()
            return frame

    def stop(self) -> bool:
        """End the thread and close the camera; False if it hangs in the driver after 2 s."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("camera: still busy %g s after it was told to stop", STOP_SECONDS)
            return False
        return True

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            if self._pace == "live":
                self._run_live()
            else:
                self._run_file()
        except Exception as error:  # noqa: BLE001 - raised again in get(): a dead thread is no quiet camera
            failure = error
        finally:
            try:
                self._camera.close()
            finally:
                with self._changed:
                    self._failure = failure
                    self._state = "ended"
                    self._changed.notify_all()

    def _run_file(self) -> None:
        self._camera.open()
        self._set_state("running")
        start: float | None = None
        while (frame := self._camera.read()) is not None:
            if start is None:
                start = time.monotonic() - frame.t_ms / 1000
            if self._pace == "clock":
                self._sleep(start + frame.t_ms / 1000 - time.monotonic())
                frame = replace(frame, mono_ms=int(time.monotonic() * 1000))
            if not self._hand_over(frame, wait=self._pace == "fast"):
                return

    def _run_live(self) -> None:
        back_off = self._reopen_min_seconds
        lost = False
        while not self._stopped():
            try:
                self._camera.open()
                while (frame := self._camera.read()) is not None:
                    if lost:
                        log.info("camera is back")
                        with self._changed:
                            self._reopens += 1
                    # Only a frame proves that the camera works; some open and then stay dark.
                    lost, back_off = False, self._reopen_min_seconds
                    if not self._hand_over(frame, wait=False):
                        return
                reason = "camera: the stream ended"
            except CameraStuckError:
                raise  # no later try in this process would succeed
            except CameraError as error:
                reason = str(error)
            self._camera.close()
            if not lost:
                log.warning("camera lost, trying again until it is back: %s", reason)
            lost = True
            with self._changed:
                self._trouble = reason
            self._set_state("lost")
            self._sleep(back_off)
            back_off = min(back_off * 2, self._reopen_max_seconds)

    def _hand_over(self, frame: Frame, *, wait: bool) -> bool:
        """Put *frame* into the slot; False when told to stop."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._slot is None or self._stopping)
            if self._stopping:
                return False
            self._frames += 1
            self._dropped += self._slot is not None
            self._slot = frame
            self._state = "running"
            self._changed.notify_all()
            return True

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, max(0.0, seconds))

    def _stopped(self) -> bool:
        with self._changed:
            return self._stopping

    def _set_state(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
