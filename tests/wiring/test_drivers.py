"""Drivers are found by their file, chosen by the settings, and read only then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

from agent.base.errors import SettingsError, UsageError
from agent.base.ports import Camera
from agent.settings import drivers
from agent.settings.drivers import CAMERAS, KEY_SOURCES, LAMPS, MODELS, SENSORS
from agent.settings.model import load
from agent.sim.sensors.fake_infrared import FakeInfrared
from agent.wiring.devices import camera_overrides, open_camera, open_key_source, open_sensor

THERMAL = '''"""A thermal camera: one file in agent/hw/cameras is all it takes."""

import numpy as np

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.values import Frame


class ThermalCamera:
    def __init__(self, source: str, width_pixels: int, height_pixels: int) -> None:
        self._image = np.full((height_pixels, width_pixels, 3), 37, np.uint8)
        self._left = int(source or 2)

    def open(self) -> None:
        self._index = 0

    def read(self) -> Frame | None:
        if self._index == self._left:
            return None
        self._index += 1
        return Frame(self._image, self._index - 1, 0, 0)

    def close(self) -> None:
        pass


def make(asked: CameraRequest) -> ThermalCamera:
    return ThermalCamera(asked.source, asked.width_pixels, asked.height_pixels)


DRIVER = CameraDriver(make)
'''
SETTINGS = '[camera]\nkind = "thermal"\nsource = "3"\nwidth_pixels = 160\nheight_pixels = 120\n'
ALL = {name: kind for name, kind in vars(drivers).items() if name.isupper()}


@pytest.fixture
def dropped(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files lie in agent/hw/cameras for as long as the test runs."""
    folder = tmp_path / "cameras"
    folder.mkdir()
    package = import_module("agent.hw.cameras")
    package.__path__.append(str(folder))
    try:
        yield folder
    finally:
        package.__path__.remove(str(folder))
        for file in folder.glob("*.py"):
            sys.modules.pop(f"agent.hw.cameras.{file.stem}", None)


def frames(camera: Camera) -> list[tuple[int, ...]]:
    camera.open()
    seen = []
    while (frame := camera.read()) is not None:
        seen.append(frame.image.shape)
    camera.close()
    return seen


def test_a_camera_is_added_by_one_file_and_chosen_by_the_settings(
    dropped: Path, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(SettingsError, match="is none of file, folder"):
        load(file)
    (dropped / "thermal.py").write_text(THERMAL, encoding="utf-8")
    invalidate_caches()
    assert frames(open_camera(load(file).camera)) == [(120, 160, 3)] * 3
    given = load(None, {"camera": camera_overrides("thermal")})
    assert len(frames(open_camera(given.camera))) == 2


def test_another_distribution_adds_a_camera_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kp_thermal.py").write_text(THERMAL, encoding="utf-8")
    info = tmp_path / "kp_thermal-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kp-thermal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kaopass.cameras]\nthermal = kp_thermal\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "thermal" in CAMERAS.names()
    assert len(frames(open_camera(load(None, {"camera": {"kind": "thermal"}}).camera))) == 2
    sys.modules.pop("kp_thermal")


def test_every_unknown_name_is_listed_at_once_with_what_was_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            None,
            {
                "camera": {"kind": "v4l"},
                "feedback": {"lamps": "gpoi"},
                "keys": {"source": "tpm"},
                "liveness": {"sensor": "depth"},
            },
        )
    camera, sensor, keys, lamps = caught.value.problems
    assert camera.startswith("camera.kind = 'v4l': is none of file, folder, ")
    assert camera.endswith("; did you mean 'v4l2'?")
    assert sensor.endswith("'depth': is none of fake_infrared, none")
    assert keys.startswith("keys.source = 'tpm': is none of credential, file, memory, otp")
    assert lamps.endswith("is none of gpio, none; did you mean 'gpio'?")


def test_a_file_that_declares_no_driver_is_named(dropped: Path) -> None:
    (dropped / "empty.py").write_text('"""Nothing."""\n', encoding="utf-8")
    invalidate_caches()
    with pytest.raises(UsageError, match=r"agent\.hw\.cameras\.empty has no DRIVER"):
        CAMERAS.driver("empty")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, found in ALL.items() for name in found.names() if name != "none"],
)
def test_every_driver_can_be_read_on_any_machine(kind: str, name: str) -> None:
    """Its hardware's library is asked for only when the hardware is opened."""
    assert ALL[kind].driver(name) is not None


def test_what_there_is_to_choose_among() -> None:
    assert set(CAMERAS.names()) == {
        *("file", "folder", "gstreamer", "picamera2", "rtsp", "scene", "v4l2")
    }
    assert LAMPS.names() == ["gpio", "none"]
    assert KEY_SOURCES.names() == ["credential", "file", "memory", "otp"]
    assert SENSORS.names() == ["fake_infrared", "none"]
    assert MODELS.names() == ["faceplugin", "insightface"]


def test_settings_are_checked_without_reading_a_driver() -> None:
    code = (
        "import sys; from agent.settings.model import load; load(None);"
        "heavy = {'cv2', 'gpiozero', 'onnxruntime', 'numpy', 'agent.hw.cameras.v4l2'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_eye_is_there_when_the_settings_name_one() -> None:
    assert open_sensor(load(None)) is None
    sensor = open_sensor(load(None, {"liveness": {"sensor": "fake_infrared"}}))
    assert isinstance(sensor, FakeInfrared)


@pytest.mark.slow
def test_keys_in_memory_are_one_ring_for_the_whole_process() -> None:
    settings = load(None, {"keys": {"source": "memory"}})
    made = open_key_source(settings).create("test-of-drivers")
    assert open_key_source(settings).load("test-of-drivers") == made
