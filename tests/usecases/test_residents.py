"""Who is known here: one face has one id, and nobody goes without an entry in the audit log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.base.audit import AuditLog, entries
from agent.base.errors import PersonError
from agent.gallery.gallery import Gallery
from agent.usecases.residents import Enrollee, enroll, revoke
from tests.recognition.people import NOW_MS, PACK, RING, person_id, templates
from tests.recognition.people import enroll as enroll_people
from tests.usecases.enrolling_process import SAME_FACE, enrolment


@pytest.mark.slow
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


class OvertakenGallery(Gallery):
    """Somebody else enrols the same face when all is checked and nothing is changed yet."""

    @contextmanager
    def one_change(self) -> Iterator[int]:
        assert enrolment(self.store.path, "resident-2") == "enrolled"
        with super().one_change() as version:
            yield version


def test_who_was_overtaken_after_the_check_is_checked_again(tmp_path: Path) -> None:
    face = Enrollee("resident-1", templates(1))
    with (
        OvertakenGallery(tmp_path / "gallery.db", RING, PACK) as gallery,
        pytest.raises(PersonError, match="enrolled already as resident-2"),
    ):
        enroll(gallery, face, SAME_FACE, audit=None, actor="", now_ms=NOW_MS)


def test_somebody_whose_profile_no_longer_opens_is_revoked_with_an_entry_too(
    tmp_path: Path,
) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl", RING.audit_key())
    with Gallery(tmp_path / "gallery.db", RING, PACK) as gallery:
        enroll_people(gallery, 1)
        with gallery.store.writing():
            gallery.store.db.execute("UPDATE person SET profile = x'00'")
        assert gallery.person(person_id(1)) is None
        revoke(gallery, person_id(1), audit=audit, actor="tanaka")
        assert not gallery.may_hold(person_id(1))
    (entry,) = entries(tmp_path / "audit.jsonl")
    assert (entry.action, entry.subject) == ("gallery.revoked", audit.reference(person_id(1)))


def test_who_is_only_looked_for_in_a_file_set_aside_has_an_entry_that_says_so(
    tmp_path: Path,
) -> None:
    """The file is searched and may be changed, so that is noted; then nobody is found."""
    audit = AuditLog(tmp_path / "audit.jsonl", RING.audit_key())
    with Gallery(tmp_path / "gallery.db", RING, PACK) as gallery:
        with pytest.raises(PersonError):
            revoke(gallery, person_id(1), audit=audit, actor="")
        assert list(entries(tmp_path / "audit.jsonl")) == []
        (tmp_path / "gallery.db.damaged-1").write_bytes(bytes(100))
        with pytest.raises(PersonError):
            revoke(gallery, person_id(1), audit=audit, actor="")
    found = [entry.action for entry in entries(tmp_path / "audit.jsonl")]
    assert found == ["gallery.revoked", "act.failed"]
