"""A folder of pictures as a camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.base.errors import CameraError
from agent.base.values import Frame
from agent.hw.cameras.folder import FolderCamera
from tests.hw.cameras.clips import flat, number_of, write_picture


def frames_of(camera: FolderCamera, at_most: int = 100) -> list[Frame]:
    camera.open()
    frames: list[Frame] = []
    while len(frames) < at_most and (frame := camera.read()) is not None:
        frames.append(frame)
    camera.close()
    return frames


def fill(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_picture(folder / name, flat(number))


def test_pictures_come_in_natural_order_of_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "f2.png", "f10.png", "f1.png", "F9.jpg")
    assert [number_of(frame.image) for frame in frames_of(FolderCamera(tmp_path))] == [2, 0, 3, 1]


def test_a_sequence_has_the_time_of_its_rate(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png", "3.png", "4.png")
    frames = frames_of(FolderCamera(tmp_path, frames_per_second=30.0))
    assert [frame.t_ms for frame in frames] == [0, 33, 67, 100]
    assert not any(frame.still for frame in frames)


def test_photographs_stand_each_by_itself(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    assert [frame.still for frame in frames_of(FolderCamera(tmp_path, still=True))] == [True, True]


def test_in_a_loop_time_keeps_growing(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    frames = frames_of(FolderCamera(tmp_path, loop=True, frames_per_second=10), at_most=5)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 0, 1, 0]
    assert [frame.t_ms for frame in frames] == [0, 100, 200, 300, 400]


def test_pictures_are_turned(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (frame,) = frames_of(FolderCamera(tmp_path, rotate_degrees=90))
    assert frame.image.shape == (64, 48, 3)


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".hidden.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert len(frames_of(FolderCamera(tmp_path))) == 1


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(CameraError, match="there is no picture in it"):
        FolderCamera(tmp_path).open()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="there is no such folder"):
        FolderCamera(tmp_path / "none").open()
    fill(tmp_path, "a.png")
    with pytest.raises(CameraError, match=r'set camera\.kind = "file"'):
        FolderCamera(tmp_path / "a.png").open()


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:30])
    camera = FolderCamera(tmp_path)
    camera.open()
    assert camera.read() is not None
    with pytest.raises(CameraError, match=r"b\.png: not a picture, or a damaged one"):
        camera.read()


def test_a_camera_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="not open"):
        FolderCamera(tmp_path).read()
