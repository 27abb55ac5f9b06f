"""The boot self-test of the networks: what they make of a picture whose answer is known."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from agent.base.errors import ImageError
from agent.base.ports import FaceDetector, FaceEmbedder, LivenessModel
from agent.device.health import HealthBoard
from agent.device.selftest import Golden, SelfTest, liveness_self_test, self_test
from agent.packs.manifest import GoldenValues
from agent.sim.photographs import pinned_picture
from agent.wiring.parts import Networks

log = logging.getLogger(__name__)


def passes_self_test(networks: Networks, health: HealthBoard) -> bool:
    """Whether *networks* may be used; an alarm where they may not, or could not be tested."""
    result = self_tested(networks)
    if result.warning:
        health.alarm("self_test", f"self-test not possible: {result.warning}")
    if not result.fault:
        return True
    log.error("self-test failed: %s", result.fault)
    health.alarm(
        "self_test",
        f"self-test failed: {result.fault}. Nobody is recognised until it passes: run "
        "kaopass models verify, then start the agent again",
    )
    return False


def self_tested(networks: Networks) -> SelfTest:
    """The boot self-test of *networks*; a warning where there is nothing to test them with."""
    results = [_tested(networks.detector, networks.embedder, networks.golden)]
    if networks.former is not None:
        former = _tested(None, networks.former.embedder, networks.former.golden)
        results.append(replace(former, fault=former.fault and f"models.former: {former.fault}"))
    if networks.liveness is not None:
        results.append(_liveness_tested(networks.liveness, networks.liveness_golden))
    return SelfTest(
        fault=next((result.fault for result in results if result.fault), ""),
        warning=next((result.warning for result in results if result.warning), ""),
    )


def _tested(
    detector: FaceDetector | None, embedder: FaceEmbedder, values: GoldenValues | None
) -> SelfTest:
    golden = _golden(embedder.pack, values)
    return golden if isinstance(golden, SelfTest) else self_test(detector, embedder, golden)


def _liveness_tested(liveness: LivenessModel, values: GoldenValues | None) -> SelfTest:
    if values is not None and not values.log_odds:
        return SelfTest(warning=f"model pack {liveness.pack!r} has no golden values of liveness")
    golden = _golden(liveness.pack, values)
    return golden if isinstance(golden, SelfTest) else liveness_self_test(liveness, golden)


def _golden(pack: str, values: GoldenValues | None) -> Golden | SelfTest:
    """What to compare with, or the self-test's warning that there is nothing."""
    if values is None:
        return SelfTest(warning=f"model pack {pack!r} has no golden values")
    try:
        picture = pinned_picture(values.picture, values.sha256)
    except (ImageError, OSError) as error:
        return SelfTest(warning=str(error))
    landmarks = np.asarray(values.landmarks, np.float32).reshape(-1, 5, 2)
    return Golden(picture, landmarks, values.cosines, values.log_odds)
