"""Live cameras through OpenCV: chosen by a stable name, and clear words when there is none."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
from pathlib import Path

import cv2
import pytest

from agent.base.errors import CameraError
from agent.hw.cameras.rtsp import RtspCamera, masked_address
from agent.hw.cameras.v4l2 import V4l2Camera, usb_cameras
from tests.hw.cameras.capture import FakeCapture, Opener
from tests.hw.cameras.clips import flat, number_of
from tests.waiting import returns

USB = "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2:1.0-video-index0"
SECRET = "rtsp://door:s3cret@127.0.0.1:{port}/user=door_password=s3cret"


@pytest.fixture
def by_path(tmp_path: Path) -> Path:
    """A /dev/v4l/by-path with one USB camera, its second node, and the board's own codec."""
    folder = tmp_path / "by-path"
    folder.mkdir()
    for number, name in enumerate(
        (USB, USB.replace("index0", "index1"), "platform-bcm2835-codec-video-index0")
    ):
        device = tmp_path / f"video{number}"
        device.touch()
        (folder / name).symlink_to(device)
    return folder


# USB cameras


def test_the_only_usb_camera_is_taken_when_none_is_named(by_path: Path) -> None:
    opener = Opener(FakeCapture([flat(1)]))
    camera = V4l2Camera(by_path=by_path, connect=opener)
    camera.open()
    frame = camera.read()
    assert opener.calls == [(str(by_path / USB), cv2.CAP_V4L2, ())]
    assert frame is not None
    assert number_of(frame.image) == 1
    assert not frame.still


def test_a_camera_listed_under_two_names_counts_once(by_path: Path) -> None:
    (by_path / USB.replace("-usb-", "-usbv2-")).symlink_to((by_path / USB).resolve())
    assert usb_cameras(by_path) == [by_path / USB]


def test_of_two_cameras_one_must_be_named(by_path: Path) -> None:
    other = USB.replace("1.2", "1.3")
    (by_path.parent / "video9").touch()
    (by_path / other).symlink_to(by_path.parent / "video9")
    with pytest.raises(CameraError, match="2 cameras: say which") as caught:
        V4l2Camera(by_path=by_path).open()
    assert USB in str(caught.value)
    assert other in str(caught.value)
    opener = Opener(FakeCapture())
    V4l2Camera(other, by_path=by_path, connect=opener).open()
    assert opener.calls[0][0] == str(by_path / other)


def test_no_camera_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="there is no USB camera under"):
        V4l2Camera(by_path=tmp_path / "by-path").open()


def test_a_name_that_is_not_there_brings_the_list(by_path: Path) -> None:
    with pytest.raises(CameraError, match="there is no such camera") as caught:
        V4l2Camera("usb-9-video-index0", by_path=by_path).open()
    assert USB in str(caught.value)


def test_a_number_that_changes_between_boots_is_warned_of(
    by_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = V4l2Camera("/dev/video77", by_path=by_path)
    with caplog.at_level(logging.WARNING), pytest.raises(CameraError, match="/dev/video77"):
        camera.open()
    assert "may name another camera after the next boot" in caplog.text


def test_a_camera_in_use_names_who_holds_it(by_path: Path) -> None:
    with (by_path / USB).open("rb") as device:
        holder = subprocess.Popen(["sleep", "30"], stdin=device)
    try:
        camera = V4l2Camera(by_path=by_path, connect=Opener(FakeCapture(opens=False)))
        with pytest.raises(CameraError, match=rf"in use by sleep \(process {holder.pid}\)"):
            camera.open()
    finally:
        holder.kill()
        holder.wait()


def test_what_is_no_camera_is_refused_by_opencv_itself(by_path: Path) -> None:
    """The real V4L2 backend, on a plain file."""
    with pytest.raises(CameraError, match="is it a camera"):
        V4l2Camera(by_path=by_path).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_camera_without_permission_names_the_group(by_path: Path) -> None:
    (by_path / USB).resolve().chmod(0)
    with pytest.raises(CameraError, match="group 'video'"):
        V4l2Camera(by_path=by_path).open()


def test_size_and_rate_are_asked_for(by_path: Path) -> None:
    capture = FakeCapture()
    V4l2Camera(
        width_pixels=640,
        height_pixels=480,
        frames_per_second=20.0,
        by_path=by_path,
        connect=Opener(capture),
    ).open()
    assert capture.asked[cv2.CAP_PROP_FRAME_WIDTH] == 640
    assert capture.asked[cv2.CAP_PROP_FRAME_HEIGHT] == 480
    assert capture.asked[cv2.CAP_PROP_FPS] == 20.0
    assert cv2.CAP_PROP_FOURCC not in capture.asked


def test_large_pictures_are_asked_for_compressed(by_path: Path) -> None:
    capture = FakeCapture()
    V4l2Camera(
        width_pixels=1280, height_pixels=720, by_path=by_path, connect=Opener(capture)
    ).open()
    assert capture.asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")


def test_a_size_the_camera_lacks_is_reported(
    by_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capture = FakeCapture(
        values={cv2.CAP_PROP_FRAME_WIDTH: 320, cv2.CAP_PROP_FRAME_HEIGHT: 240}, obeys=False
    )
    with caplog.at_level(logging.INFO):
        V4l2Camera(by_path=by_path, connect=Opener(capture)).open()
    assert "asked for 640x480, gives 320x240" in caplog.text


def test_a_lost_camera_is_an_error_and_time_goes_on_after_it_is_back(by_path: Path) -> None:
    opener = Opener(FakeCapture([flat(1), flat(2)]), FakeCapture([flat(3)]))
    camera = V4l2Camera(by_path=by_path, connect=opener)
    camera.open()
    first, second = camera.read(), camera.read()
    with pytest.raises(CameraError, match="no longer gives frames"):
        camera.read()
    camera.open()
    third = camera.read()
    assert first is not None
    assert second is not None
    assert third is not None
    assert [first.index, second.index, third.index] == [0, 1, 2]
    assert first.t_ms == 0
    assert first.t_ms < second.t_ms < third.t_ms


def test_opening_again_and_closing_let_go_of_the_device(by_path: Path) -> None:
    captures = [FakeCapture(), FakeCapture()]
    camera = V4l2Camera(by_path=by_path, connect=Opener(*captures))
    camera.open()
    camera.open()
    assert captures[0].released
    camera.close()
    camera.close()
    assert captures[1].released
    with pytest.raises(CameraError, match="not open"):
        camera.read()


def test_live_frames_are_turned(by_path: Path) -> None:
    camera = V4l2Camera(by_path=by_path, rotate_degrees=270, connect=Opener(FakeCapture([flat(1)])))
    camera.open()
    frame = camera.read()
    assert frame is not None
    assert frame.image.shape == (64, 48, 3)


# Network cameras


def test_a_camera_that_refuses_is_reported_without_its_password(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        port = taken.getsockname()[1]
        camera = RtspCamera(SECRET.format(port=port))
        with caplog.at_level(logging.DEBUG), pytest.raises(CameraError) as caught:
            camera.open()
    said = str(caught.value)
    assert f"rtsp://127.0.0.1:{port}/..." in said
    assert "user and password" in said
    assert "s3cret" not in said + caplog.text + "".join(capfd.readouterr())


def test_a_camera_that_never_answers_is_given_up_in_time() -> None:
    """A real connection that is accepted by the system and then stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        camera = RtspCamera(SECRET.format(port=port), timeout_seconds=0.5)
        began = time.monotonic()
        with pytest.raises(CameraError, match=r"no stream within 0\.5 s"):
            returns(camera.open)
    assert time.monotonic() - began > 0.3


def test_frames_of_a_network_camera_and_both_limits_are_passed_on() -> None:
    opener = Opener(FakeCapture([flat(2)]))
    camera = RtspCamera("rtsp://192.0.2.7/live", timeout_seconds=4.0, connect=opener)
    camera.open()
    frame = camera.read()
    assert frame is not None
    assert number_of(frame.image) == 2
    (call,) = opener.calls
    limits = dict(zip(call[2][::2], call[2][1::2], strict=True))
    assert limits == {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: 4000, cv2.CAP_PROP_READ_TIMEOUT_MSEC: 4000}
    with pytest.raises(CameraError, match=r"rtsp://192\.0\.2\.7/\.\.\.: no longer gives frames"):
        camera.read()


@pytest.mark.parametrize(
    "address",
    ["", "192.0.2.7", "http://u:s3cret@h/x", "rtsp:///x", "/dev/video0", "rtsp://u:s3cret@h:port/"],
)
def test_what_is_no_rtsp_address_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(CameraError, match="no RTSP address") as caught:
        RtspCamera(address).open()
    assert "s3cret" not in str(caught.value)


def test_only_host_and_port_of_an_address_are_shown() -> None:
    assert masked_address("rtsps://u:p@cam.example:322/a?b=c") == "rtsps://cam.example:322/..."
