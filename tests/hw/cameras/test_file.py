"""Files as cameras: every frame once, on the file's own clock, and clear words when damaged."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.base.errors import CameraError
from agent.base.values import Frame
from agent.hw.cameras.file import FileCamera
from tests.hw.cameras.capture import FakeCapture
from tests.hw.cameras.clips import (
    flat,
    number_of,
    write_avi,
    write_gif,
    write_noise_avi,
    write_picture,
)


def frames_of(camera: FileCamera, at_most: int = 1000) -> list[Frame]:
    camera.open()
    frames: list[Frame] = []
    read_all(camera, frames, at_most)
    camera.close()
    return frames


def read_all(camera: FileCamera, into: list[Frame], at_most: int = 1000) -> None:
    while len(into) < at_most and (frame := camera.read()) is not None:
        into.append(frame)


def test_a_video_gives_every_frame_in_order_on_its_own_clock(tmp_path: Path) -> None:
    frames = frames_of(FileCamera(write_avi(tmp_path / "clip.avi")))
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.t_ms for frame in frames] == [n * 100 for n in range(10)]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert not any(frame.still for frame in frames)


def test_a_gif_keeps_the_duration_of_each_frame(tmp_path: Path) -> None:
    frames = frames_of(FileCamera(write_gif(tmp_path / "clip.gif", [100, 300, 50, 200, 100])))
    assert [frame.t_ms for frame in frames] == [0, 100, 400, 450, 650]
    assert [number_of(frame.image) for frame in frames] == list(range(5))


def test_opened_again_a_video_starts_from_the_beginning(tmp_path: Path) -> None:
    camera = FileCamera(write_avi(tmp_path / "clip.avi", frames=4))
    assert [f.t_ms for f in frames_of(camera)] == [f.t_ms for f in frames_of(camera)]


def test_in_a_loop_time_and_index_keep_growing(tmp_path: Path) -> None:
    camera = FileCamera(write_avi(tmp_path / "clip.avi", frames=4), loop=True)
    frames = frames_of(camera, at_most=11)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert [frame.t_ms for frame in frames] == [n * 100 for n in range(11)]
    assert [frame.index for frame in frames] == list(range(11))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp"])
def test_a_picture_is_one_still_frame(tmp_path: Path, suffix: str) -> None:
    frames = frames_of(FileCamera(write_picture(tmp_path / f"one{suffix}"), loop=True))
    assert len(frames) == 1
    assert frames[0].still
    assert number_of(frames[0].image) == 3


def test_colours_are_blue_green_red(tmp_path: Path) -> None:
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[..., 0] = 200
    (frame,) = frames_of(FileCamera(write_picture(tmp_path / "blue.png", blue)))
    assert frame.image[0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    ("degrees", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))]
)
def test_the_picture_is_turned_clockwise(
    tmp_path: Path, degrees: int, corner: tuple[int, int]
) -> None:
    """The white top left corner goes where a clockwise turn takes it."""
    image = np.zeros((10, 20, 3), np.uint8)
    image[0, 0] = 255
    path = write_picture(tmp_path / "marked.png", image)
    (frame,) = frames_of(FileCamera(path, rotate_degrees=degrees))
    assert frame.image.shape[:2] == ((10, 20) if degrees in (0, 180) else (20, 10))
    assert frame.image[corner].tolist() == [255, 255, 255]


def test_a_photograph_taken_sideways_is_shown_upright(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(flat(3, width=40, height=20))
    exif = Pillow.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    picture.save(tmp_path / "sideways.jpg", exif=exif)
    (frame,) = frames_of(FileCamera(tmp_path / "sideways.jpg"))
    assert frame.image.shape == (40, 20, 3)


def test_stamps_that_stand_still_are_replaced_by_the_frame_rate(tmp_path: Path) -> None:
    """Some containers have no time stamps; downstream divides by the time between frames."""
    path = write_avi(tmp_path / "clip.avi")
    stuck = FakeCapture(images=[flat(n) for n in range(4)], values={cv2.CAP_PROP_FPS: 25.0})
    frames = frames_of(FileCamera(path, connect=lambda *_: stuck))
    assert [frame.t_ms for frame in frames] == [0, 40, 80, 120]
    assert stuck.released


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("none.avi", None, "there is no such file"),
        ("empty.avi", b"", "the file is empty"),
        ("empty.png", b"", "the file is empty"),
        ("fake.avi", b"this is no video " * 100, "not a video, damaged, or in a codec"),
        ("fake.mp4", b"\0\0\0\x20ftypisom" + b"\0" * 500, "not a video, damaged, or in a codec"),
        ("fake.gif", b"GIF89a" + b"\0" * 40, "not a video, damaged, or in a codec"),
        ("fake.jpg", b"\xff\xd8\xff\xe0 no picture" * 20, "not a picture, or a damaged one"),
        ("notes.txt", b"hello", ".txt is neither a picture nor a video"),
        ("README", b"hello", "a name without ending is neither"),
    ],
)
def test_what_cannot_be_played_is_refused_when_opened(
    tmp_path: Path, name: str, body: bytes | None, said: str
) -> None:
    if body is not None:
        (tmp_path / name).write_bytes(body)
    camera = FileCamera(tmp_path / name)
    with pytest.raises(CameraError) as caught:
        camera.open()
    assert name in str(caught.value)
    assert said in str(caught.value)
    camera.close()


def test_a_folder_given_as_a_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r'set camera\.kind = "folder"'):
        FileCamera(tmp_path).open()


def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    with pytest.raises(CameraError, match="cannot be read: Not a directory"):
        FileCamera(tmp_path / "a" / "clip.avi").open()


def test_a_cut_off_video_gives_what_it_has_and_then_says_so(tmp_path: Path) -> None:
    path = write_noise_avi(tmp_path / "cut.avi", frames=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    camera = FileCamera(path)
    camera.open()
    before: list[Frame] = []
    with pytest.raises(CameraError, match=r"cut off: it ends after \d+ frames of about 100"):
        read_all(camera, before)
    assert 30 < len(before) < 60


def test_a_cut_off_gif_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A GIF does not say how many frames it has; only its last byte is missing."""
    path = write_gif(tmp_path / "cut.gif", [100] * 8)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    camera = FileCamera(path)
    camera.open()
    with pytest.raises(CameraError, match="damaged or cut off"):
        read_all(camera, [])


def test_nothing_is_printed_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV and FFmpeg would chatter from native code about every broken file."""
    path = write_noise_avi(tmp_path / "clip.avi", frames=40)
    body = bytearray(path.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 3000] = b"\x55" * 3000
    path.write_bytes(body)
    (tmp_path / "fake.avi").write_bytes(b"no video" * 100)
    with pytest.raises(CameraError):
        FileCamera(tmp_path / "fake.avi").open()
    camera = FileCamera(path)
    camera.open()
    with suppress(CameraError):
        read_all(camera, [])
    assert capfd.readouterr() == ("", "")


def test_a_camera_that_is_not_open_says_so(tmp_path: Path) -> None:
    camera = FileCamera(write_avi(tmp_path / "clip.avi"))
    with pytest.raises(CameraError, match="not open"):
        camera.read()
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.read()


def test_the_real_clips_play_whole() -> None:
    """Ours are made by the same library that reads them; these were not."""
    folder = Path(__file__).parents[4] / "shared" / "faces" / "video"
    clips = sorted(folder.glob("*.gif"))
    if not clips:
        pytest.skip(f"no clips in {folder.name}/ beside the checkout")
    for clip in clips:
        frames = frames_of(FileCamera(clip))
        assert len(frames) > 10
        assert all(a.t_ms < b.t_ms for a, b in pairwise(frames))
