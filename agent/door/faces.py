"""The gallery as a running door uses it: read in a thread of its own, put to use between frames.

Reading a town takes seconds; the door goes on with what it has meanwhile. Whoever is revoked is
not matched from that moment on, because ``Admission`` is asked for every match.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.base.errors import GalleryError
from agent.door.recogniser import Recogniser
from agent.gallery.census import Census
from agent.gallery.city.admission import Admission
from agent.gallery.gallery import Gallery
from agent.recognition.matcher import Matcher, PatchedMatcher
from agent.recognition.person import Roster
from agent.recognition.protection import Protection
from agent.recognition.rules import Sides
from agent.recognition.templates import TemplateSet

log = logging.getLogger(__name__)

BEGIN_SECONDS = 0.2
LOOK_SECONDS = 2.0  # how late a change by another process is noticed
# So much growth moves the threshold by less than its own uncertainty; small galleries all have one.
MOST_GROWN, SMALL_GALLERY = 1.05, 100
NOBODY = TemplateSet.build([])


class Board(Protocol):
    """Where alarms and details go."""

    def alarm(self, key: str, text: str) -> None: ...

    def clear(self, key: str) -> None: ...

    def detail(self, name: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The gallery at one moment, ready to search."""

    version: int
    protection: Protection
    sides: Sides
    ids: Collection[str]
    roster: Roster
    pseudonym_keys: dict[str, bytes]
    without: frozenset[bytes]


class Faces:
    """Owner of what the pipeline searches. ``read`` once, then ``watch`` in a thread of its own."""

    def __init__(
        self,
        gallery: Gallery,
        protect: Callable[[Protection], None],
        admission: Admission,
        health: Board,
        *,
        purpose: str,
        sides_for: Callable[[TemplateSet, TemplateSet | None], Sides],
        change_of_packs: Callable[[dict[str, int]], tuple[dict[str, int], str]],
        own_key: Callable[[str], bytes],
        former: str = "",
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """*purpose* is the kind of this place; *own_key* gives the pseudonym key of a purpose
        where the city gave none. *protect* has every embedder rotate by the gallery's map.

        *sides_for* makes search and rule of the templates, and of those of the pack *former* that
        some people are still decided by; *change_of_packs* says how far that has come, and the
        alarm, from how many lack templates by the packs they have.
        """
        self._gallery = gallery
        self._protect = protect
        self._admission = admission
        self._health = health
        self._purpose = purpose
        self._sides_for = sides_for
        self._change_of_packs = change_of_packs
        self._own_key = own_key
        self._former = former
        self._look_seconds = look_seconds
        self._wake = threading.Event()
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._ready: Reading | None = None
        self._wiping = threading.Lock()
        self._unwiped = False  # whether old pages may hold somebody revoked here
        self._census: Census
        self._base: Reading
        self._current: Reading | None = None
        self._served: Recogniser | None = None
        self._using = False  # whether the recogniser ``_served`` has somebody to find

    def read(self) -> None:
        """Read the gallery before the first frame; ``between`` then puts it to use.

        Raises GalleryError.
        """
        self._current = self._read_all()
        self._take(self._current)
        self._begun.set()

    @property
    def begun(self) -> bool:
        """Whether the gallery has been read once."""
        return self._begun.is_set()

    @property
    def people(self) -> int:
        """How many can be matched, of whoever the last reading found."""
        return len(self._current.ids) if self._current else 0

    def nickname(self, person: str) -> str:
        """What the door may call *person*; "" for nothing."""
        return self._current.roster.nicknames.get(person, "") if self._current else ""

    def linked(self, person: str) -> bool:
        """Whether bus and hall may know *person* by one pseudonym."""
        return self._current is not None and person in self._current.roster.linked

    def pseudonym_key(self, purpose: str) -> bytes:
        """The key of pseudonyms for *purpose*, or of "linked": the city's, else the device's."""
        keys = self._current.pseudonym_keys if self._current else {}
        return keys[purpose] if keys else self._own_key(purpose)

    def admits(self, person: str) -> bool:
        """Whether *person* may be matched at this moment."""
        return self._admission.admits(person)

    @property
    def on(self) -> bool:
        """False: nobody is matched, and everybody is offered the usual way."""
        return self._admission.faces

    def changed(self) -> None:
        """The gallery changed: look at it at once. Any thread."""
        self._wake.set()

    def revoke_now(self, key: bytes) -> bool:
        """Never match the resident called *key* (``records.key_of``) from now on.

        When this returns, the disk holds nothing of them, and they do not come back before the
        city says that they are gone. False if nobody of that name was here. Takes a second in a
        large gallery. Any thread. Raises GalleryError if it could not be written, or if others
        read old pages all the time: these are overwritten later then.
        """
        self._admission.revoke([key])
        found = self._gallery.revoke_key(key)
        self._admission.written([key])
        with self._wiping:  # one that is under way may have missed them
            self._unwiped = True
        self._wake.set()
        self._wipe()
        return found

    def between(self, recogniser: Recogniser) -> None:
        """Between two frames, in the pipeline's thread: take what is ready. Costs nothing else.

        A recogniser that was not served before gets what is in use. After ``read``.
        """
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None:
            self._current = ready
            self._take(ready)
        on = self._admission.faces
        if ready is not None or on != self._using or recogniser is not self._served:
            assert self._current is not None  # noqa: S101 - ``read`` has been called
            # Off means that nothing is compared, not only that nothing is said.
            sides = self._current.sides
            recogniser.use(*(sides if on else (Matcher(NOBODY), sides[1], None)))
            self._served, self._using = recogniser, on

    def watch(self, stop: threading.Event) -> None:
        """Read the gallery again whenever it changed, until *stop* is set. Waits for ``read``."""
        while not self._begun.wait(BEGIN_SECONDS):
            if stop.is_set():
                return
        read_at = self._base.version
        while not stop.is_set():
            self._wake.wait(self._look_seconds)
            self._wake.clear()
            if stop.is_set():
                return
            try:
                self._wipe()
                if self._gallery.version != read_at:
                    reading = self._read()
                    read_at = reading.version
                    with self._lock:
                        self._ready = reading
                self._health.clear("gallery_read")
            except GalleryError as error:
                self._health.alarm("gallery_read", str(error))
                stop.wait(self._look_seconds)

    def _take(self, reading: Reading) -> None:
        self._protect(reading.protection)
        self._admission.reread(reading.without, reading.roster.expires_ms)

    def _read(self) -> Reading:
        """What is different since everybody was read, if that is little; else everybody."""
        base, matcher = self._base, self._base.sides[0]
        without = self._admission.reading()
        version = self._gallery.version
        protection = self._gallery.protection
        changes = None
        same_map = protection.check == base.protection.check
        if same_map and not self._former and isinstance(matcher, Matcher):
            changes = self._gallery.changes_since(self._census, purpose=self._purpose)
        if changes is None or not isinstance(matcher, Matcher):
            return self._read_all()
        self._tell_damage(changes.damaged)
        ids = {person for person in base.ids if person not in changes.gone}
        ids.update(changes.templates.ids)
        if len(ids) > max(SMALL_GALLERY, MOST_GROWN * len(base.ids)):
            return self._read_all()  # the threshold must follow
        rule = base.sides[1]
        self._tell_size(len(ids), rule.threshold)
        return replace(
            base,
            version=version,
            protection=protection,
            sides=(PatchedMatcher(matcher, changes.gone, changes.templates), rule, None),
            ids=ids,
            roster=base.roster.but(changes.gone, changes.roster),
            pseudonym_keys=self._pseudonym_keys(),
            without=without,
        )

    def _read_all(self) -> Reading:
        begun = time.monotonic()
        without = self._admission.reading()
        version = self._gallery.version
        # At one moment: whoever came between the two would be searched, and missed by the census
        # when they leave.
        with self._gallery.one_state():
            protection = self._gallery.protection
            self._census, roster = self._gallery.census()
            templates = self._gallery.load(purpose=self._purpose)
            former = None
            if self._former:
                former = self._gallery.load(self._former, purpose=self._purpose)
        both = [each for each in (templates, former) if each is not None]
        self._tell_damage(max(each.damaged for each in both))  # a lost key counts for either pack
        sides = self._sides_for(templates, former)
        ids = tuple(person for each in both for person in each.ids)
        self._tell_size(len(ids), sides[1].threshold)
        log.info("%d people read in %.1f s", len(ids), time.monotonic() - begun)
        self._base = Reading(
            version,
            protection,
            sides,
            ids,
            roster,
            self._pseudonym_keys(),
            without,
        )
        return self._base

    def _pseudonym_keys(self) -> dict[str, bytes]:
        keys = self._gallery.city_keys()
        return dict(keys.pseudonyms) if keys else {}

    def _tell_size(self, people: int, threshold: float) -> None:
        said: dict[str, Any] = {"people": people, "threshold": round(threshold, 4)}
        progress, alarm = self._change_of_packs(self._gallery.to_enrol_again())
        self._health.detail("gallery", {**said, **progress})
        if alarm:
            self._health.alarm("packs", alarm)
        else:
            self._health.clear("packs")

    def _tell_damage(self, damaged: int) -> None:
        if not damaged:
            self._health.clear("gallery")
        elif self._gallery.drop_damaged():
            self._health.alarm("gallery", f"{damaged} people are damaged; the city sends them anew")
        else:
            self._health.alarm("gallery", f"{damaged} people must be enrolled again")

    def _wipe(self) -> None:
        """Overwrite what old pages hold of people revoked here. Raises GalleryError."""
        with self._wiping:
            if self._unwiped:
                self._gallery.overwrite()
                self._unwiped = False
