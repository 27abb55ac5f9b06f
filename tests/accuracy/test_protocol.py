"""Who is enrolled, who comes and who is a stranger: never the same picture twice."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.accuracy.protocol import PersonPictures, plan, read_folder
from agent.base.errors import UsageError


def person(name: str, pictures: int) -> PersonPictures:
    return PersonPictures(name, tuple(Path(name) / f"{n}.jpg" for n in range(1, pictures + 1)))


PEOPLE = [person("ann", 4), person("ben", 7), person("cem", 4), person("dan", 2), person("eve", 1)]


def test_people_with_most_pictures_are_enrolled_first_then_by_name() -> None:
    trial = plan(PEOPLE, gallery_size=3, enroll_images=1, probe_frames=1)
    assert [p.name for p in trial.enrolled] == ["ben", "ann", "cem"]
    assert [p.person for p in trial.strangers] == ["eve"]


def test_enrolled_pictures_never_come_as_probes() -> None:
    trial = plan(PEOPLE, gallery_size=None, enroll_images=3, probe_frames=1)
    enrolled = set(chain.from_iterable(p.pictures for p in trial.enrolled))
    came = list(chain.from_iterable(p.pictures for p in trial.probes))
    assert not enrolled & set(came)
    assert sorted(map(str, came)) == [
        "ann/4.jpg", "ben/4.jpg", "ben/5.jpg", "ben/6.jpg", "ben/7.jpg", "cem/4.jpg",
    ]  # fmt: skip


def test_groups_of_probes_share_no_picture_and_what_is_left_over_stays_away() -> None:
    trial = plan(PEOPLE, gallery_size=4, enroll_images=1, probe_frames=3)
    groups = [[path.name for path in p.pictures] for p in trial.probes if p.person == "ben"]
    assert groups == [["2.jpg", "3.jpg", "4.jpg"], ["5.jpg", "6.jpg", "7.jpg"]]


def test_who_has_too_few_pictures_to_come_back_is_enrolled_all_the_same() -> None:
    trial = plan(PEOPLE, gallery_size=4, enroll_images=3, probe_frames=1)
    assert [len(p.pictures) for p in trial.enrolled] == [3, 3, 3, 2]
    assert "dan" not in {p.person for p in trial.probes}


def test_probes_can_begin_later_so_that_runs_compare() -> None:
    one = plan(PEOPLE, gallery_size=3, enroll_images=1, probe_frames=1, first_probe=4)
    three = plan(PEOPLE, gallery_size=3, enroll_images=3, probe_frames=1)
    assert one.probes == three.probes
    with pytest.raises(UsageError, match="a probe must be another one"):
        plan(PEOPLE, gallery_size=3, enroll_images=3, probe_frames=1, first_probe=3)


@given(st.integers(0, 1000))
def test_a_seed_draws_the_same_people_again(seed: int) -> None:
    draws = [
        plan(PEOPLE, gallery_size=3, enroll_images=1, probe_frames=1, seed=seed) for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert len({p.name for p in draws[0].enrolled}) == 3


@pytest.mark.parametrize(
    ("size", "images", "frames", "said"),
    [(5, 1, 1, "4 of the folder's people have two or more"), (4, 9, 1, "nobody has 10 pictures")],
)
def test_what_the_folder_cannot_give_is_said(
    size: int, images: int, frames: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        plan(PEOPLE, gallery_size=size, enroll_images=images, probe_frames=frames)


def test_a_folder_of_strangers_only_is_told_what_it_lacks() -> None:
    alone = [person for person in PEOPLE if len(person.pictures) == 1]
    with pytest.raises(UsageError, match=r"somebody needs two pictures or more"):
        plan(alone, gallery_size=None, enroll_images=3, probe_frames=1)


def test_a_folder_is_read_one_folder_a_person_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("ben/2.JPG", "ben/1.png", "ann/1.jpg", "ann/notes.txt", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read_folder(tmp_path)
    assert [(p.name, [path.name for path in p.pictures]) for p in found] == [
        ("ann", ["1.jpg"]),
        ("ben", ["1.png", "2.JPG"]),
    ]


def test_a_folder_of_pictures_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    with pytest.raises(UsageError, match="a folder for each person"):
        read_folder(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read_folder(tmp_path / "1.jpg")
