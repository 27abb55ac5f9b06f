"""A second process that enrols a face: ``python -m tests.usecases.enrolling_process GALLERY ID``.

It says "checked" when its checks are done, and goes on once it is given a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.base.audit import AuditEntry, AuditLog, Fact
from agent.base.errors import KaopassError
from agent.gallery.gallery import Gallery
from agent.packs.manifest import load_manifest
from agent.recognition.rules import pack_calibration
from agent.settings.sections import DecisionSettings
from agent.usecases.residents import Enrollee, SameFace, enroll
from tests.recognition.people import NOW_MS, PACK, RING, templates

SAME_FACE = SameFace(DecisionSettings(), pack_calibration(load_manifest().pack(PACK)))
BUSY_SECONDS = 0.1  # somebody else is in the midst of a change: an error at once


class Held(AuditLog):
    """Lets a test do something between the checks of an act and the act."""

    def append(
        self, action: str, *, actor: str = "", subject: str = "", **facts: Fact
    ) -> AuditEntry:
        print("checked", flush=True)  # noqa: T201 - the test reads it
        sys.stdin.readline()
        return super().append(action, actor=actor, subject=subject, **facts)


def enrolment(path: Path, person: str, log: type[AuditLog] = AuditLog) -> str:
    """How it ends: "enrolled", or the error."""
    audit = log(path.with_name("audit.jsonl"), RING.audit_key())
    try:
        with Gallery(path, RING, PACK, busy_seconds=BUSY_SECONDS) as gallery:
            face = Enrollee(person, templates(1))
            enroll(gallery, face, SAME_FACE, audit=audit, actor="", now_ms=NOW_MS)
    except KaopassError as error:
        return f"{type(error).__name__}: {error}"
    return "enrolled"


if __name__ == "__main__":
    print(enrolment(Path(sys.argv[1]), sys.argv[2], Held))  # noqa: T201 - the test reads it
