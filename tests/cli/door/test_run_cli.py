"""``kaopass run`` with a file for a camera: what cannot be played is told before anything else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.__main__ import main


@pytest.fixture(autouse=True)
def _signals_put_back() -> Iterator[None]:
    """The command handles them in this very process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("kind", "source", "code", "said"),
    [
        ("file", "folder", 2, 'is a folder: set camera.kind = "folder"'),
        ("folder", "empty.jpg", 2, 'is a file: set camera.kind = "file"'),
        ("file", "gone.mp4", 2, "there is no such file"),
        ("folder", "gone", 2, "there is no such folder"),
        ("folder", "folder", 1, "there is no picture in it"),
        ("file", "empty.jpg", 1, "the file is empty"),
    ],
)
def test_nobody_is_told_to_look_at_a_camera_that_is_none(
    kind: str, source: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[camera]\nkind = "{kind}"\nsource = "{tmp_path / source}"\n[liveness]\nmode = "off"\n'
        f'[models]\nlicence = "research"\n[sync]\nenabled = false\n'
        f'[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", "--settings", str(settings), "--until-end"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (code, "")
    assert said in err
    assert not (tmp_path / "state" / "journal.db").exists()
