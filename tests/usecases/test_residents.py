"""Who is known here: one face has one id, whoever enrols it at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.base.audit import entries
from agent.gallery.gallery import Gallery
from tests.recognition.people import PACK, RING
from tests.usecases.enrolling_process import enrolment


def test_a_face_enrolled_by_two_processes_at_once_gets_one_id(tmp_path: Path) -> None:
    """One at a terminal, one at the kiosk: the second comes between the first's check and deed."""
    path = tmp_path / "gallery.db"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.usecases.enrolling_process", path, "resident-1"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "checked\n"
        between = enrolment(path, "resident-2")
        assert first.communicate("go on\n")[0] == "enrolled\n"
    afterwards = enrolment(path, "resident-2")
    with Gallery(path, RING, PACK) as gallery:
        assert [person.id for person in gallery.people()] == ["resident-1"]
    assert between.startswith("GalleryError: ")
    assert "enrolled already as resident-1" in afterwards
    assert [e.action for e in entries(tmp_path / "audit.jsonl")] == ["gallery.enrolled"]
