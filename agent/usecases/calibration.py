"""The decision threshold by the residents who are enrolled here, and by the model pack's again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.base.audit import AuditLog, audited
from agent.base.errors import GalleryError
from agent.gallery.gallery import Gallery
from agent.packs.manifest import Pack
from agent.recognition.calibration import LEAST_TEMPLATES, from_measured, measure_residents, save
from agent.recognition.rules import pack_calibration, rule_for
from agent.settings.sections import DecisionSettings


@dataclass(frozen=True, slots=True)
class ResidentsThreshold:
    """What *pairs* of *people* showed, and the threshold for *templates* by it and by the pack.

    ``doubles`` are pairs of records that look like one person; they were left out.
    """

    people: int
    pairs: int
    doubles: int
    templates: int
    threshold: float
    pack_threshold: float


def calibrate(
    gallery: Gallery,
    file: Path,
    pack: Pack,
    decision: DecisionSettings,
    *,
    audit: AuditLog | None,
    actor: str,
) -> ResidentsThreshold:
    """Measure how much the enrolled residents resemble each other, and keep it in *file*.

    Raises GalleryError with too few residents, or when it cannot be kept.
    """
    with audited(audit, actor) as note:
        templates = gallery.load()
        measured = measure_residents(templates)
        here = rule_for(decision, from_measured(measured, 0.0), templates)
        before = rule_for(decision, pack_calibration(pack), templates)
        note("gallery.calibrated", people=measured.people, threshold=f"{here.threshold:.4f}")
        save(file, pack.name, measured)
    return ResidentsThreshold(
        measured.people,
        measured.pairs,
        measured.doubles,
        max(len(templates.ids), LEAST_TEMPLATES),
        here.threshold,
        before.threshold,
    )


def forget_calibration(file: Path, *, audit: AuditLog | None, actor: str) -> None:
    """Go by the model pack's own figures again. Raises GalleryError if *file* cannot be removed."""
    if not file.exists():
        return
    with audited(audit, actor) as note:
        note("gallery.calibration_removed")
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise GalleryError(
                f"calibration {file}: cannot be removed: {error.strerror}"
            ) from error
