"""A second process at the gallery, started by the tests: ``enroll``, ``follow`` or ``crowded``."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from agent.base.errors import GalleryError
from agent.gallery.gallery import Gallery
from tests.recognition.people import PACK, RING, enroll, person_id


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the tests read it


def enroll_for_ever(gallery: Gallery, first: int) -> None:
    """Enrol person after person, revoke every fourth; say each once it is on disk."""
    for number in range(first, first + 10_000):
        enroll(gallery, number)
        say("enrolled", number)
        if number % 4 == 3:
            gallery.revoke(person_id(number))
            say("revoked", number)


def follow(gallery: Gallery) -> None:
    """As an agent does: say who is there whenever the version changes, until nobody is."""
    version, people = -1, 1
    while people:
        if gallery.version != version:
            version, people = gallery.version, len(gallery.load().ids)
            say(people)
        time.sleep(0.01)


def crowded(gallery: Gallery) -> None:
    """Enrol until files may not grow any further, and say what the error is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        enroll_for_ever(gallery, 0)
    except GalleryError as error:
        say("error", error)


if __name__ == "__main__":
    with Gallery(Path(sys.argv[2]), RING, PACK) as opened:
        if sys.argv[1] == "enroll":
            enroll_for_ever(opened, int(sys.argv[3]))
        elif sys.argv[1] == "follow":
            follow(opened)
        else:
            crowded(opened)
