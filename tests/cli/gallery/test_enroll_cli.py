"""``kaopass gallery enroll`` on a local gallery: one face has one id, unless told otherwise.

The pictures are those of installed packages, read where they are.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.base.audit import entries
from agent.cli.common import operator
from agent.gallery.gallery import Gallery
from agent.settings.model import load
from agent.sim.photographs import picture
from agent.wiring.desk import LocalDesk, open_ring
from tests.recognition.people import PACK
from tests.recognition.people import enroll as enroll_others

pytestmark = pytest.mark.slow

YAO = picture("yaoming.jpg")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(
        f'[models]\nlicence = "research"\n[state]\ndirectory = "{tmp_path / "state"}"\n',
        encoding="utf-8",
    )
    return file


def enroll(settings: Path, person: str, *arguments: object) -> int:
    words = ["gallery", "enroll", person, *map(str, arguments), "--settings", str(settings)]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--min-images", "1", "--json"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def everybody(settings: Path) -> dict[str, int]:
    """Rows by id."""
    chosen = load(settings)
    with Gallery(chosen.state_directory / "gallery.db", open_ring(chosen), PACK) as gallery:
        return {person.id: person.templates[PACK] for person in gallery.people()}


def test_a_face_under_a_second_id_is_refused_and_the_first_named(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(settings, "resident-1", YAO) == 0
    capsys.readouterr()
    assert enroll(settings, "resident-2", YAO) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kaopass: resident-2: this face is enrolled already as resident-1 (")
    assert "kaopass gallery enroll resident-1 FILE" in err
    assert "kaopass gallery revoke resident-1" in err
    assert "--allow-duplicate" in err
    assert everybody(settings) == {"resident-1": 1}


def test_an_enrolment_is_noted_with_who_did_it_and_a_refusal_is_not(settings: Path) -> None:
    chosen = load(settings)
    assert enroll(settings, "resident-1", YAO) == 0
    assert enroll(settings, "resident-2", YAO) == 1
    log = LocalDesk(chosen).audit
    (entry,) = entries(chosen.audit_file)
    assert (entry.action, dict(entry.facts)) == ("gallery.enrolled", {"templates": 1})
    assert entry.actor == log.reference(operator())
    assert entry.subject == log.reference("resident-1")
    assert "resident-1" not in chosen.audit_file.read_text()


def test_a_picture_that_shows_several_people_is_a_failure_and_one_that_is_not_there_wrong_usage(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(settings, "resident-1", picture("t1.jpg")) == 1
    assert "6 faces are in it" in capsys.readouterr().err
    assert enroll(settings, "resident-1", YAO, tmp_path / "no.jpg") == 2
    assert "no.jpg: there is no such file" in capsys.readouterr().err


def test_their_own_id_takes_new_pictures_however_it_is_spelt(settings: Path) -> None:
    assert enroll(settings, "が-1", YAO) == 0
    assert enroll(settings, "が-1", YAO) == 0
    assert enroll(settings, unicodedata.normalize("NFD", "が-1"), YAO) == 0
    assert list(everybody(settings).values()) == [1]


def test_a_face_unlike_all_that_are_enrolled_is_taken(settings: Path) -> None:
    chosen = load(settings)
    with Gallery(chosen.state_directory / "gallery.db", open_ring(chosen), PACK) as gallery:
        enroll_others(gallery, *range(50))
    assert enroll(settings, "resident-y", YAO) == 0
    assert len(everybody(settings)) == 51


def test_twins_are_enrolled_when_told_that_they_are_two(settings: Path) -> None:
    assert enroll(settings, "resident-1", YAO) == 0
    assert enroll(settings, "resident-2", YAO, "--allow-duplicate") == 0
    assert everybody(settings) == {"resident-1": 1, "resident-2": 1}


def test_where_both_are_enrolled_already_enrolling_one_again_names_the_other(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(settings, "resident-1", YAO) == 0
    assert enroll(settings, "resident-2", YAO, "--allow-duplicate") == 0
    capsys.readouterr()
    assert enroll(settings, "resident-1", YAO) == 1
    assert "enrolled already as resident-2 (" in capsys.readouterr().err
