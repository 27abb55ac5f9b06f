"""The demo's photographs come out of installed packages, and everybody in them is cast."""

from __future__ import annotations

import pytest

from agent.base.errors import ImageError
from agent.sim.photographs import MIN_FACE_PIXELS, passengers, picture, read_picture
from tests.hw.models.networks import networks


@pytest.mark.parametrize("name", ["players.jpg", "yaoming.jpg", "gdp.jpg", "t1.jpg"])
def test_every_picture_is_found_and_can_be_read(name: str) -> None:
    assert picture(name).is_file()
    assert read_picture(name).ndim == 3


def test_an_unknown_picture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ImageError, match=r"nobody\.jpg.*players\.jpg"):
        picture("nobody.jpg")


def test_six_strangers_and_sixteen_of_the_team_are_cast_each_under_a_key_of_their_own() -> None:
    cast = passengers(networks().detector)
    assert len({person.key for person in cast}) == len(cast) == 22
    assert sum(person.key.startswith("t1-") for person in cast) == 6
    assert all(person.face[2] - person.face[0] >= MIN_FACE_PIXELS for person in cast)
    assert all(person.face not in person.others for person in cast)
