"""The GStreamer camera: its pipeline, and what it says where there is no GStreamer."""

from __future__ import annotations

import cv2
import pytest

from agent.base.errors import CameraError
from agent.hw.cameras.gstreamer import SINK, GstreamerCamera, pipeline
from tests.hw.cameras.capture import FakeCapture, Opener
from tests.hw.cameras.clips import flat, number_of


def test_an_empty_source_is_the_first_csi_camera_at_the_size_asked_for() -> None:
    made = pipeline("", 640, 480, 15.0)
    assert made.startswith("nvarguscamerasrc sensor-id=0 ! ")
    assert "framerate=15/1" in made
    assert "width=640, height=480, format=BGRx" in made
    assert made.endswith(f"video/x-raw, format=BGR ! {SINK}")


def test_a_number_is_the_csi_camera_of_that_number() -> None:
    assert "sensor-id=1 " in pipeline("1", 640, 480, 15.0)


def test_a_broken_rate_is_a_fraction() -> None:
    assert "framerate=30000/1001" in pipeline("", 640, 480, 29.97002997)


def test_a_pipeline_of_ones_own_gets_a_sink_only_if_it_has_none() -> None:
    assert pipeline("videotestsrc ! videoconvert !", 1, 1, 1) == (
        f"videotestsrc ! videoconvert ! {SINK}"
    )
    assert pipeline("videotestsrc ! appsink", 1, 1, 1) == "videotestsrc ! appsink"


def test_an_opencv_without_gstreamer_says_so() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(CameraError, match=r"was built without\s+GStreamer"):
        GstreamerCamera().open()


def test_a_pipeline_that_does_not_start_can_be_tried_by_hand() -> None:
    camera = GstreamerCamera(has_gstreamer=True, connect=Opener(FakeCapture(opens=False)))
    with pytest.raises(CameraError, match=r"CSI 0: .* gst-launch-1\.0 nvarguscamerasrc") as caught:
        camera.open()
    assert str(caught.value).endswith("fakesink")


def test_frames_of_a_pipeline_arrive() -> None:
    opener = Opener(FakeCapture([flat(4)]))
    camera = GstreamerCamera("videotestsrc", has_gstreamer=True, connect=opener)
    camera.open()
    frame = camera.read()
    assert frame is not None
    assert number_of(frame.image) == 4
    assert opener.calls == [(f"videotestsrc ! {SINK}", cv2.CAP_GSTREAMER, ())]
