"""Who of a folder of people is enrolled, with which pictures, and who comes as a stranger.

The protocol of open-set identification as NIST IR 8271 and the IJB sets have it: the gallery's
people come back in other pictures than they were enrolled with, and strangers are people of whom
the gallery has never seen anything. Nothing is drawn by chance unless a seed is given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class PersonPictures:
    """Somebody of the folder: their folder's name and their pictures in the order of names."""

    name: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One visit: the pictures that are fused into one decision, and who really is in them."""

    person: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Whom to enrol with what, and who then comes: residents and strangers."""

    enrolled: tuple[PersonPictures, ...]
    probes: tuple[Probe, ...]
    strangers: tuple[Probe, ...]


def read_folder(folder: Path) -> list[PersonPictures]:
    """The people of *folder*: one folder a person, by name. Raises UsageError if there are none."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; give one that holds a folder for each person")
    people = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
        if pictures:
            people.append(PersonPictures(place.name, tuple(pictures)))
    if not people:
        raise UsageError(
            f"{folder}: no pictures in folders of their own; it must hold a folder for each "
            f"person, with {', '.join(SUFFIXES)} in it"
        )
    return people


def plan(
    people: list[PersonPictures],
    *,
    gallery_size: int | None,
    enroll_images: int,
    probe_frames: int,
    first_probe: int | None = None,
    seed: int | None = None,
) -> Evaluation:
    """Choose *gallery_size* people to enrol (None: all that can be) and say who comes.

    Whoever has two pictures or more can be enrolled; those with most pictures come first, then in
    the order of names, or by chance with *seed*. They are enrolled with their first
    *enroll_images*. Their pictures from number *first_probe* on (counted from 1; default: the one
    after the enrolment's) come as probes, in groups of *probe_frames* that share none; what is
    left over does not come. Who has no more pictures than that is enrolled but does not come: they
    make it harder for the others all the same. Strangers are the people with a single picture.

    Raises UsageError where the folder cannot give that.
    """
    start = enroll_images if first_probe is None else first_probe - 1
    if start < enroll_images:
        raise UsageError(
            f"--probes-from {first_probe}: the first {enroll_images} picture(s) are enrolled; a "
            f"probe must be another one, so give {enroll_images + 1} or more"
        )
    several = [person for person in people if len(person.pictures) > 1]
    if seed is None:
        several.sort(key=lambda person: -len(person.pictures))  # stable: names stay in order
    else:
        random.Random(seed).shuffle(several)  # noqa: S311 - a repeatable draw, not a secret
    if not several:
        raise UsageError(
            f"none of these {len(people)} people can be enrolled and come back: somebody needs two "
            "pictures or more in the folder; people with one are only strangers"
        )
    wanted = len(several) if gallery_size is None else gallery_size
    if not 0 < wanted <= len(several):
        raise UsageError(
            f"--gallery-size {wanted}: {len(several)} of the folder's people have two or more "
            "pictures, and only they can be enrolled; give that many or fewer"
        )
    chosen = several[:wanted]
    probes = tuple(
        Probe(person.name, person.pictures[i : i + probe_frames])
        for person in chosen
        for i in range(start, len(person.pictures) - probe_frames + 1, probe_frames)
    )
    if not probes:
        raise UsageError(
            f"nobody has {start + probe_frames} pictures: give fewer --enroll-images or "
            "--probe-frames"
        )
    return Evaluation(
        enrolled=tuple(PersonPictures(p.name, p.pictures[:enroll_images]) for p in chosen),
        probes=probes,
        strangers=tuple(Probe(p.name, p.pictures) for p in people if len(p.pictures) == 1),
    )
