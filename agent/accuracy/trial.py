"""One run of the protocol on views in memory: enrol, let everybody come, count the answers.

Templates, fusion and search are the door's own (agent.recognition); this only plays its visitors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.accuracy.protocol import Evaluation, Probe
from agent.accuracy.rates import NEVER, Outcomes, Rate
from agent.accuracy.reading import PictureView
from agent.base.errors import UsageError
from agent.base.values import Candidate, Vector
from agent.recognition.fusion import fuse, template
from agent.recognition.matcher import Matcher
from agent.recognition.templates import TemplateSet

NOT_COMPARED = Candidate(None, NEVER, NEVER)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What came of a trial.

    ``fte`` counts people of whom no picture could be enrolled, ``fta`` visits of enrolled people
    of which no picture could be used: the door asks them to look again, so they are in no other
    rate. ``stranger_fta`` counts the same of strangers: whom the door does not even compare is
    not taken for anybody, so these stay in the outcomes, as kept out. ``short`` people were
    enrolled with fewer pictures than the others, ``reasons`` says why pictures were refused.
    ``strange_people`` names the strangers in the order of the outcomes.
    """

    templates: TemplateSet
    outcomes: Outcomes
    fte: Rate
    fta: Rate
    stranger_fta: Rate
    short: int
    reasons: Counter[str]
    strange_people: tuple[str, ...]


def play(trial: Evaluation, views: Mapping[Path, PictureView]) -> Run:
    """Enrol the people of *trial*, and ask who each visitor is.

    Raises UsageError when nobody could be enrolled, or no resident or no stranger came.
    """
    enrolled: list[tuple[str, Vector]] = []
    for person in trial.enrolled:
        good = [v for v in (views[p] for p in person.pictures) if v.reference is not None]
        if good:
            rows = np.stack([v.reference for v in good if v.reference is not None])
            enrolled.append((person.name, template(rows, [v.quality.score for v in good])))
    if not enrolled:
        raise UsageError("nobody could be enrolled: no picture shows a usable face")
    templates = TemplateSet.build(enrolled)
    known = set(templates.ids)
    mates = [probe for probe in trial.probes if probe.person in known]
    came, mated = _answers(templates, mates, views)
    strangers, strange = _answers(templates, trial.strangers, views)
    if not mated or not strange:
        raise UsageError(
            f"{len(mated)} probes of enrolled people and {len(strange)} strangers can be compared; "
            "both are needed. Strangers are people with a single picture"
        )
    refused = len(trial.strangers) - len(strange)
    came_in_vain = sorted({probe.person for probe in trial.strangers} - set(strangers))
    images = max(len(person.pictures) for person in trial.enrolled)
    return Run(
        templates=templates,
        outcomes=Outcomes.of(
            list(zip(came, mated, strict=True)), [*strange, *[NOT_COMPARED] * refused]
        ),
        fte=Rate(len(trial.enrolled) - len(enrolled), len(trial.enrolled)),
        fta=Rate.clustered(
            [not _seen(probe, views) for probe in mates], [probe.person for probe in mates]
        ),
        stranger_fta=Rate(refused, len(trial.strangers)),
        short=sum(len(person.pictures) < images for person in trial.enrolled),
        reasons=Counter(v.quality.reason for v in views.values() if not v.quality.usable),
        strange_people=(*strangers, *came_in_vain),
    )


def _seen(probe: Probe, views: Mapping[Path, PictureView]) -> list[PictureView]:
    """What of a visit can be compared."""
    return [view for view in (views[path] for path in probe.pictures) if view.probe is not None]


def _answers(
    templates: TemplateSet, probes: Sequence[Probe], views: Mapping[Path, PictureView]
) -> tuple[list[str], list[Candidate]]:
    """Who came and could be compared, and the gallery's answer to each."""
    people, rows = [], []
    for probe in probes:
        good = _seen(probe, views)
        if good:
            people.append(probe.person)
            embeddings = [v.probe for v in good if v.probe is not None]
            rows.append(fuse(embeddings, [v.quality.score for v in good]))
    if not rows:
        return [], []
    return people, Matcher(templates).search(np.stack(rows))
