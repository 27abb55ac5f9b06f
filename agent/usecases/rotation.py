"""The device key in use: opened with what it carries on, and changed without losing anyone.

A change has one point of no return, and both keys are on the disk until everything is under the
new one. Each step can be repeated, so that a cut anywhere is made good by beginning again, which
the next command or start of the agent does by itself:

1. a new key is made beside the old one;
2. the keys that must last are sealed under both (``keys.carried``);
3. every person's key is wrapped by the new one, in one transaction of the gallery;
4. every row of the journal is sealed under it, in one transaction of the journal;
5. the new key takes the old one's place: the old one is gone;
6. ``keys.carried`` is left under the new one alone.

Nothing that would write under the old key may run meanwhile: whoever uses keys holds a shared lock
on ``keys.lock``, a change holds it exclusively.
"""

from __future__ import annotations

import fcntl
import logging
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.base.audit import AuditLog, audited
from agent.base.errors import GalleryError, KeySourceError
from agent.base.ports import ChangeableKeySource, KeySource
from agent.base.wholefile import give_to_owner
from agent.device.clock import SystemClock
from agent.gallery.gallery import Gallery
from agent.journal import Journal
from agent.journal.resealing import reseal
from agent.keys.carried import FILE_NAME, read_carried, write_carried
from agent.keys.ring import DEVICE_KEY, NEXT_KEY, KeyRing, open_keyring

log = logging.getLogger(__name__)

LOCK_NAME = "keys.lock"
AUDIT_NAME = "audit.jsonl"
Step = Literal["made", "carried", "gallery", "journal", "replaced", "tidied"]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a change of the device key touched, and the fingerprint of the new one."""

    people: int
    events: int
    fingerprint: str


def open_ring(source: KeySource, state: Path, *, may_create: bool) -> KeyRing:
    """The keys of the device whose data is in *state*; a change that was cut short is finished.

    The ring holds its lock as long as it lives. Raises KeySourceError as ``open_keyring`` does,
    and when a change can only be finished by root.
    """
    if isinstance(source, ChangeableKeySource) and source.load(NEXT_KEY) is not None:
        log.warning("a change of the device key was cut short; it is finished now")
        _change(source, state)  # whoever began it is in the audit log
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = _locked(state, fcntl.LOCK_SH)
    try:
        ring = open_keyring(source, may_create=may_create)
        key = source.load(DEVICE_KEY)
        carried = None if key is None else read_carried(state / FILE_NAME, key)
        if key is not None and carried is not None:
            if carried.slots > 1 and carried.slot == 0:
                raise KeySourceError(
                    "a change of the device key was cut short, and this user cannot finish it; as"
                    " root run: kaopass keys rotate"
                )
            if carried.slots > 1:
                write_carried(state / FILE_NAME, carried.keys, [key])
            ring = KeyRing(key, carried.keys)
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(ring, os.close, handle)
    return ring


def rotate(
    source: ChangeableKeySource,
    state: Path,
    after: Callable[[Step], None] = lambda _step: None,
    *,
    actor: str = "",
) -> Rotated:
    """Change the device key in *source* and everything in *state* that is under it.

    Finishes a change that was cut short instead of beginning another. *after* hears of each step
    that is done. Raises KeySourceError when there is no key yet or another process uses it,
    GalleryError or JournalError when one of them is not under this key or the disk fails: what is
    done then stays done, and the next call goes on from there.
    """
    with ExitStack() as act:

        def note(ring: KeyRing) -> None:
            audit = AuditLog(state / AUDIT_NAME, ring.audit_key())
            act.enter_context(audited(audit, actor))("keys.rotated")

        return _change(source, state, after, note)


def _change(
    source: ChangeableKeySource,
    state: Path,
    after: Callable[[Step], None] = lambda _step: None,
    before: Callable[[KeyRing], None] = lambda _ring: None,
) -> Rotated:
    """The same; *before* hears of the old keys when nothing is changed yet."""
    with _alone(state):
        old = source.load(DEVICE_KEY)
        if old is None:
            raise KeySourceError(f"there is no device key in {source} yet, so none to change")
        carried = read_carried(state / FILE_NAME, old)
        new = source.load(NEXT_KEY)
        if new is None and carried is not None and carried.slots > 1 and carried.slot == 1:
            # Cut between the last two steps: the old key is gone already.
            write_carried(state / FILE_NAME, carried.keys, [old])
            carried = read_carried(state / FILE_NAME, old)
        ring = KeyRing(old, carried.keys if carried else None)
        if new is None:
            _check(ring, state)
        before(ring)
        new = new or source.create(NEXT_KEY)
        after("made")
        if carried is None or carried.slots == 1:
            write_carried(state / FILE_NAME, ring.lasting(_maps(ring, state)), [old, new])
            carried = read_carried(state / FILE_NAME, old)
        assert carried is not None  # noqa: S101 - it was written just now
        after("carried")
        successor = KeyRing(new, carried.keys)
        people = _rewrap(state / "gallery.db", ring, successor)
        after("gallery")
        events = _reseal(state / "journal.db", ring, successor)
        after("journal")
        source.promote(NEXT_KEY, DEVICE_KEY)
        after("replaced")
        write_carried(state / FILE_NAME, carried.keys, [new])
        after("tidied")
    return Rotated(people, events, successor.fingerprint())


def _check(ring: KeyRing, state: Path) -> None:
    """Gallery and journal must open before anything is begun; a damaged one is salvaged."""
    if (state / "gallery.db").exists():
        Gallery(state / "gallery.db", ring, "").close()
    if (state / "journal.db").exists():
        now = SystemClock().now()
        journal, _ = Journal.open_checked(state / "journal.db", ring.journal_key(), now=now)
        journal.close()


def _maps(ring: KeyRing, state: Path) -> list[tuple[str, int]]:
    """The template map in use, which goes on being used."""
    path = state / "gallery.db"
    if not path.exists():
        return []
    with Gallery(path, ring, "") as gallery:
        return [(gallery.protection.domain, gallery.protection.version)]


def _rewrap(path: Path, ring: KeyRing, successor: KeyRing) -> int:
    if not path.exists():
        return 0
    try:
        Gallery(path, successor, "").close()
    except GalleryError:
        with Gallery(path, ring, "") as gallery:
            return gallery.rewrap(successor)
    return 0


def _reseal(path: Path, ring: KeyRing, successor: KeyRing) -> int:
    if not path.exists():
        return 0
    return reseal(path, ring.journal_key(), successor.journal_key())


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    handle = _locked(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        os.close(handle)


def _locked(state: Path, kind: int) -> int:
    path = state / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            give_to_owner(handle, state)  # the agent must be able to lock it as well
            fcntl.flock(handle, kind)
        except BaseException:
            os.close(handle)
            raise
    except BlockingIOError as error:
        raise KeySourceError(
            "another kaopass process uses the keys, and would go on writing under the old one; stop"
            " it first: systemctl stop kaopass-agent"
        ) from error
    except OSError as error:
        raise KeySourceError(
            f"{path} cannot be locked: {error.strerror}; run this as the agent's user"
        ) from error
    return handle
