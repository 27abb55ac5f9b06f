"""The Pi camera, against a stand-in with picamera2's interface and its ways to fail."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.base.errors import CameraError, CameraStuckError
from agent.device.workers import Worker
from agent.hw.cameras.picamera2 import PiCamera, library
from agent.vision.source import NewestFrame
from tests.waiting import LATE_SECONDS

IMX708 = {"Model": "imx708", "Location": 2, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a", "Num": 0}
IMX219 = {"Model": "imx219", "Location": 2, "Id": "/base/soc/i2c0mux/i2c@0/imx219@10", "Num": 1}
WEBCAM = {"Model": "HD Cam", "Id": "/base/scb/pcie@7d500000/usb@0,0-1.2:1.0-046d:0825", "Num": 2}


class FakeRequest:
    """A completed request; the camera has few, and starves when they are not given back."""

    def __init__(self, camera: FakePicamera2, number: int) -> None:
        self._camera = camera
        self._number = number

    def make_array(self, name: str) -> Any:
        assert name == "main"
        width, height = self._camera.config["main"]["size"]
        image = np.zeros((height, width, 3), np.uint8)
        # "RGB888" lies in memory as blue, green, red.
        image[:, :] = (200, self._number, 0)
        return image

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": 5_000_000_000 + self._number * 66_000_000}

    def release(self) -> None:
        self._camera.buffers += 1


class FakeJob:
    def __init__(self) -> None:
        self.future: Future[FakeRequest] = Future()

    def get_result(self, timeout: float | None = None) -> FakeRequest:
        return self.future.result(timeout=timeout)


class FakePicamera2:
    """Behaves like ``picamera2.Picamera2``: one owner, configured only when stopped."""

    cameras: tuple[dict[str, Any], ...] = (IMX708,)
    held = False
    frames = 1000
    hangs = False
    opened: FakePicamera2

    def __init__(self, camera_num: int = 0) -> None:
        try:
            if type(self).held:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
        except RuntimeError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904 - as there
        type(self).held = True
        type(self).opened = self
        self.number = camera_num
        self.buffers = 4
        self.taken = 0
        self.started = False
        self.config: dict[str, Any] = {}
        self.freed = threading.Event()

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return list(cls.cameras)

    def create_video_configuration(
        self, main: dict[str, Any], controls: dict[str, Any]
    ) -> dict[str, Any]:
        return {"main": main, "controls": controls}

    def configure(self, config: dict[str, Any]) -> None:
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        if config["main"]["size"][0] > 4608:
            raise RuntimeError("Invalid size")
        self.config = config

    def start(self) -> None:
        self.started = True

    def capture_request(self, wait: bool | None = None) -> FakeJob:
        assert wait is False
        job = FakeJob()
        if self.started and self.buffers and self.taken < self.frames:
            self.buffers -= 1
            job.future.set_result(FakeRequest(self, self.taken))
            self.taken += 1
        return job

    def stop(self) -> None:
        if self.hangs:
            self.freed.wait(LATE_SECONDS)
        self.started = False

    def close(self) -> None:
        type(self).held = False


def module(**ways: Any) -> Any:
    """A picamera2 module of its own, with a camera that behaves as *ways* say."""
    return SimpleNamespace(Picamera2=type("Picamera2", (FakePicamera2,), ways))


def camera_of(library: Any, source: str = "", **given: Any) -> PiCamera:
    return PiCamera(source, timeout_seconds=0.05, make=lambda: library, **given)


def freed(fake: Any) -> None:
    """The driver returns from stopping after all."""
    fake.Picamera2.opened.freed.set()
    for thread in threading.enumerate():
        if thread.name == "camera-stop":
            thread.join(LATE_SECONDS)


def test_frames_are_blue_green_red_and_stamped_by_the_sensor() -> None:
    fake = module()
    camera = camera_of(fake, width_pixels=320, height_pixels=240, frames_per_second=15.0)
    camera.open()
    frames = [camera.read() for _ in range(3)]
    assert [frame.t_ms for frame in frames if frame] == [0, 66, 132]
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    first = frames[0]
    assert first is not None
    assert first.image.shape == (240, 320, 3)
    assert first.image[0, 0].tolist() == [200, 0, 0]
    config = fake.Picamera2.opened.config
    assert config["main"] == {"size": (320, 240), "format": "RGB888"}
    assert config["controls"] == {"FrameRate": 15.0}


def test_every_request_is_given_back() -> None:
    """Four buffers serve any number of frames only if each is released."""
    camera = camera_of(module())
    camera.open()
    assert sum(camera.read() is not None for _ in range(50)) == 50


def test_frames_are_turned() -> None:
    camera = camera_of(module(), rotate_degrees=90)
    camera.open()
    frame = camera.read()
    assert frame is not None
    assert frame.image.shape == (640, 480, 3)


def test_a_camera_that_falls_silent_is_lost_and_can_be_opened_again() -> None:
    fake = module(frames=2)
    camera = camera_of(fake)
    camera.open()
    camera.read()
    before = camera.read()
    with pytest.raises(CameraError, match=r"imx708: no frame for 0\.05 s; check its cable"):
        camera.read()
    camera.close()
    camera.open()
    after = camera.read()
    assert before is not None
    assert after is not None
    assert after.index == before.index + 1
    assert after.t_ms > before.t_ms


def test_a_camera_held_by_another_program_shows_the_first_cause() -> None:
    fake = module(held=True)
    with pytest.raises(CameraError, match=r"Device or resource busy.*another program"):
        camera_of(fake).open()


def test_closing_twice_lets_go_once() -> None:
    fake = module()
    camera = camera_of(fake)
    camera.open()
    camera.close()
    camera.close()
    assert not fake.Picamera2.held
    with pytest.raises(CameraError, match="not open"):
        camera.read()


def test_a_driver_that_hangs_in_stopping_does_not_hang_the_camera_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = module(hangs=True)
    camera = camera_of(fake)
    camera.open()
    with caplog.at_level(logging.ERROR):
        camera.close()
    freed(fake)
    assert "the agent needs a restart" in caplog.text


def test_a_driver_that_hangs_in_stopping_is_not_another_programs_doing() -> None:
    fake = module(hangs=True)
    camera = camera_of(fake)
    camera.open()
    camera.close()
    with pytest.raises(CameraStuckError, match=r"imx708: hangs in its driver.*another process"):
        camera.open()
    # As after new settings: the process is the same.
    with pytest.raises(CameraStuckError, match="hangs in its driver"):
        camera_of(fake).open()
    freed(fake)


def test_a_driver_that_only_took_long_to_stop_can_be_opened_again() -> None:
    fake = module(hangs=True)
    camera = camera_of(fake)
    camera.open()
    camera.close()
    freed(fake)
    camera.open()
    assert camera.read() is not None


def test_a_camera_that_hangs_in_its_driver_ends_the_agents_source_for_good() -> None:
    """The pipeline's worker does not survive it either, so that the process is started afresh."""
    fake = module(hangs=True, frames=2)
    source = NewestFrame(camera_of(fake), pace="live", reopen_min_seconds=0.01)
    source.start()
    worker = Worker("pipeline", lambda: read_all(source), final=(CameraError,))
    worker.start()
    assert worker.join(LATE_SECONDS)
    with pytest.raises(CameraStuckError) as raised:
        worker.check()
    assert raised.value.exit_code == 1
    assert source.state == "ended"
    freed(fake)
    source.stop()


def read_all(source: NewestFrame) -> None:
    while True:
        source.get(0.05)


def test_a_size_it_cannot_give_is_named_and_the_camera_freed() -> None:
    fake = module()
    with pytest.raises(CameraError, match=r"does not start at 9000x480.*Invalid size"):
        camera_of(fake, width_pixels=9000).open()
    assert not fake.Picamera2.held


@pytest.mark.parametrize("source", ["imx219", IMX219["Id"], "1"])
def test_a_camera_is_named_by_model_id_or_number(source: str) -> None:
    fake = module(cameras=(IMX708, IMX219))
    camera_of(fake, source).open()
    assert fake.Picamera2.opened.number == 1


def test_of_two_cameras_one_must_be_named() -> None:
    with pytest.raises(CameraError, match="2 Pi cameras: say which") as caught:
        camera_of(module(cameras=(IMX708, IMX219))).open()
    assert "imx708" in str(caught.value)
    assert str(IMX219["Id"]) in str(caught.value)


def test_usb_cameras_are_not_pi_cameras() -> None:
    fake = module(cameras=({**WEBCAM, "Num": 0}, {**IMX708, "Num": 1}))
    camera_of(fake).open()
    assert fake.Picamera2.opened.number == 1
    with pytest.raises(CameraError, match="no Pi camera found"):
        camera_of(module(cameras=(WEBCAM,))).open()


def test_an_unknown_name_brings_the_list() -> None:
    with pytest.raises(CameraError, match="no Pi camera is called so") as caught:
        camera_of(module(), "imx500").open()
    assert "imx708" in str(caught.value)


def test_where_picamera2_is_not_installed_the_way_to_it_is_shown() -> None:
    if find_spec("picamera2"):
        pytest.skip("picamera2 is installed here")
    with pytest.raises(CameraError, match="sudo apt install python3-picamera2"):
        library()
