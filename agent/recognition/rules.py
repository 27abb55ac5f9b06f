"""From a pack's measured scores, the settings and the gallery to the rule that decides."""

from __future__ import annotations

from agent.packs.manifest import Pack
from agent.recognition.calibration import Calibration
from agent.recognition.calibration import load as load_calibration
from agent.recognition.decision import Rule, Search
from agent.recognition.matcher import Matcher
from agent.recognition.tail import Tail
from agent.recognition.templates import TemplateSet
from agent.settings.model import Settings
from agent.settings.sections import DecisionSettings

ENROLLED_VIEWS = 3  # of a resident, at least: requirement B3 and enrolment.min_images
# Two views in one track are far more alike than two people: 2 in 100 pairs of strangers reach this,
# two deviations above their mean.
OTHER_FACE_FMR = 0.02
# A track is decided on anew with every view that is added, and one hit is enough. The decisions
# resemble each other, but together they are more than one chance: strangers who stay for nine
# seconds are taken for somebody 1.7, 2.2 and 2.7 times as often as by the first decision alone
# where two of their views have a cosine of 0.92, 0.85 and 0.75 (tests/recognition/test_looks.py).
LOOKS = 2

Side = tuple[Search, Rule]
Sides = tuple[Search, Rule, Side | None]  # this pack's, and those of the former one if it has any


def calibration_for(settings: Settings, pack: Pack) -> Calibration:
    """What ``kaopass gallery calibrate`` found on this device's residents, else the pack's figures.

    Raises GalleryError when the device's own is damaged.
    """
    return load_calibration(settings.calibration_file, pack.name) or pack_calibration(pack)


def pack_calibration(pack: Pack) -> Calibration:
    """The scores of different people that come with *pack*."""
    given = pack.impostor_tail
    if given is None:
        return Calibration(pack.impostor_fmr)
    tail = Tail(given.start, given.rate, given.scale, given.shape)
    return Calibration(pack.impostor_fmr, tail, given.errors, given.averaging)


def rule_for(
    decision: DecisionSettings,
    calibration: Calibration,
    templates: TemplateSet,
    *,
    images: int = ENROLLED_VIEWS,
    views: int = 1,
    others: int = 0,
    looks: int = LOOKS,
) -> Rule:
    """The decision rule for a gallery of this size.

    *others* is the number of people in the gallery of another pack, decided on side by side: each
    of all of them is one more chance for a stranger, whichever pack compares.
    *images* is how many views of different moments a template is the mean of, *views* how many a
    decision is made of. The frames of one track are near copies of each other and spread scores
    like one. *looks*: see ``LOOKS``; 1 where each person is decided on once.
    """
    return Rule(
        threshold=calibration.threshold(
            len(templates.owners) + others,
            decision.fpir,
            images=images,
            views=views,
            looks=looks,
        ),
        min_margin=decision.min_margin,
        min_frames=decision.min_frames,
        max_frames=decision.max_frames,
        same_face=calibration.cosine(OTHER_FACE_FMR),
    )


def both_sides(
    decision: DecisionSettings,
    calibrations: tuple[Calibration, Calibration | None],
    templates: TemplateSet,
    former: TemplateSet | None,
) -> Sides:
    """What ``Recogniser.use`` takes: search and rule, and those of the former pack if it has any.

    *calibrations* are this pack's and the former one's.
    """
    own, formers = calibrations
    others = 0 if former is None else len(former.ids)
    side = None
    if former is not None and others and formers is not None:
        rule = rule_for(decision, formers, former, others=len(templates.ids))
        side = Matcher(former), rule
    return Matcher(templates), rule_for(decision, own, templates, others=others), side


def pack_change(pack: str, former: str, left: dict[str, int]) -> tuple[dict[str, int], str]:
    """How far a change of packs has come, for the status, and the alarm of who is left out.

    *left* counts the people who have no templates of *pack*, by the packs they do have. Both are
    empty where no pack is changed.
    """
    waiting = sum(left.values())
    detail = {f"to_enrol_under_{pack}": waiting} if waiting or former else {}
    lost = {name: count for name, count in left.items() if name != former}
    if lost:
        told = ", ".join(f"{count} with {name}" for name, count in lost.items())
        example = next(iter(lost))
        return detail, (
            f"not recognised, because models.pack is {pack!r} and they are enrolled with another"
            f' pack only: {told}. Enrol them again; until then set models.former = "{example}"'
        )
    return detail, ""
