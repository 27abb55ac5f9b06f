"""``kaopass identify``: who is in a clip, from when on, and who else might have been named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.base.errors import GalleryError, UsageError
from agent.cli.main import kaopass
from agent.sim.photographs import picture

YAO, SIX = picture("yaoming.jpg"), picture("t1.jpg")


def identify(source: Path, *words: str | Path) -> str:
    done = CliRunner().invoke(kaopass, ["identify", *map(str, (source, *words))])
    assert done.exit_code == 0, done.output
    return done.stdout


def clip(folder: Path, shown: int) -> Path:
    """*shown* frames of one photograph, as a folder of links."""
    folder.mkdir()
    for index in range(shown):
        (folder / f"{index:03d}.jpg").symlink_to(YAO)
    return folder


@pytest.mark.slow
def test_it_says_on_which_frame_somebody_is_named_first_and_how_long_that_took(
    tmp_path: Path,
) -> None:
    source = clip(tmp_path / "clip", 5)
    said = identify(source, "--sequence", "--enroll", f"y={YAO}", "--json").splitlines()
    summary = json.loads(said[-1])["summary"]
    # Three views decide; a folder's pictures come at 15 a second.
    assert summary["first"] == {"y": {"frame": 2, "ms": 133}}
    assert summary["people"] == {"y": 3}
    text = identify(source, "--sequence", "--enroll", f"y={YAO}")
    assert "y: first on frame 2, 133 ms after the face was first large enough" in text


def test_a_source_or_picture_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    gone = str(tmp_path / "no.jpg")
    for words in ([gone], [str(YAO), "--enroll", f"y={gone}"]):
        done = CliRunner().invoke(kaopass, ["identify", *words])
        assert isinstance(done.exception, UsageError)
        assert "no.jpg: there is no such file" in str(done.exception)
    assert CliRunner().invoke(kaopass, ["identify", str(YAO), "--gallery", gone]).exit_code == 2


def test_without_a_gallery_it_fails_and_says_what_to_give(tmp_path: Path) -> None:
    done = CliRunner().invoke(kaopass, ["identify", str(YAO), "--gallery", str(tmp_path)])
    assert isinstance(done.exception, GalleryError)
    assert "--enroll ID=FILE" in str(done.exception)


def test_one_frame_is_one_frame() -> None:
    assert identify(YAO, "--enroll", f"y={YAO}").splitlines()[-2].startswith("1 frame, 1 track;")


@pytest.mark.slow
def test_others_are_enrolled_besides_and_could_be_named(tmp_path: Path) -> None:
    """The same face under two names is nobody: the folder's "twin" was enrolled too."""
    for person, pictures in (("twin", 2), ("alone", 1)):
        (tmp_path / "town" / person).mkdir(parents=True)
        for number in range(pictures):
            (tmp_path / "town" / person / f"{number}.jpg").symlink_to(YAO)
    words = ("--enroll", f"y={YAO}", "--others", tmp_path / "town", "--json")
    decision = json.loads(identify(YAO, *words).splitlines()[0])
    assert (decision["person"], decision["reason"]) == (None, "too_close_to_another")
