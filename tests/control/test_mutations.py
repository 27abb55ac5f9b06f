"""Mutated, foreign and repeated messages on the topics down: refused, nothing changed, memory flat.

Twenty thousand here; ``KAOPASS_MUTATIONS=1000000`` makes it the long run. A failure shows its seed.
"""

from __future__ import annotations

import logging
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import MessageError
from agent.link.control.commanded import Commands
from agent.link.control.configuration import Configuration
from agent.link.control.steering import Steering
from agent.link.control.trustedtime import TrustedTime
from agent.link.uplink.state import SyncState
from agent.protocol.commands import Replay, replay_arguments
from agent.protocol.control import Command, Config, sign_command, sign_config
from tests.events import EPOCH
from tests.protocol.town import Town, make_town
from tests.provisioning.town import now_ms
from tests.seeds import seed

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("KAOPASS_MUTATIONS", "20000"))
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
FLAT_BYTES = 1_500_000


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town") / "ca")


def mutated(chance: random.Random, message: bytes) -> bytes:
    """*message* with something changed, cut out, doubled, put in, or taken from elsewhere in it."""
    content = bytearray(message)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice((1, 1, 2, 8, 100)))
        kind = chance.randrange(6)
        if kind == 0:
            content[at:end] = bytes(chance.choice(ALPHABET) for _ in range(end - at))
        elif kind == 1:
            del content[at:end]
        elif kind == 2:
            content[at:at] = content[at:end]
        elif kind == 3:
            content[at:at] = chance.randbytes(chance.choice((1, 4, 64)))
        elif kind == 4:
            del content[at:]
        else:
            start = chance.randrange(len(content) + 1)
            content[at:end] = content[start : start + (end - at)]
    return bytes(content)


# An altered certificate may have a serial number that is none; it is refused all the same.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_mutation_of_a_command_or_of_settings_changes_anything(
    town: Town, tmp_path: Path
) -> None:
    drawn = seed(20261128)
    logging.getLogger(__name__).warning("seed %d", drawn)
    chance = random.Random(drawn)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[state]\ndirectory = "{tmp_path}"\n')
    time = TrustedTime()
    time.learn(now_ms())
    state = SyncState(tmp_path / "sync.json")
    steering = Steering(settings)
    did: list[str] = []

    def replayed(_: Replay) -> int:
        did.append("replay")
        return 0

    commands = Commands("bus-1", state, trust=lambda: town.trust, time=time)
    commands.replay_with(replayed)
    configuration = Configuration(
        "bus-1", steering, trust=lambda: town.trust, time=time, reload=lambda: did.append("reload")
    )

    def signed_command(device: str = "bus-1", **changes: Any) -> bytes:
        told = {"id": "c1", "counter": 1, "issued_ms": now_ms(), "ttl_seconds": 86_400}
        arguments = replay_arguments(Replay(EPOCH, 1, 5))
        return sign_command(
            Command(device, **(told | changes), command="replay", arguments=arguments),  # type: ignore[arg-type]
            town.command,
        )

    command = signed_command()
    config = sign_config(Config("bus-1", 1, 0, {"vision": {"max_faces": 5}}), town.command)
    other_command = signed_command("bus-2")
    other_config = sign_config(Config("bus-2", 1, 0, {}), town.command)
    takes: list[tuple[Callable[[str, bytes], None], bytes]] = [
        *((commands.receive, message) for message in (command, other_command, config)),
        *((configuration.receive, message) for message in (config, other_config, command)),
    ]
    refused = 0
    tracemalloc.start()
    try:
        for number in range(COUNT):
            take, message = takes[number % len(takes)]
            bad = mutated(chance, message)
            if _same(bad, command) or _same(bad, config) or not bad:
                continue
            with pytest.raises(MessageError):
                take("", bad)
            refused += 1
            if number == COUNT // 10:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert refused > 0.9 * COUNT
    assert (did, state.answered("c1"), steering.report().settings_version) == ([], None, 0)
    assert steering.report().refused_version == 0
    assert grown < FLAT_BYTES, f"{grown} bytes more after nine tenths"
    # And the real ones are taken, so that the test could have failed.
    commands.receive("", command)
    configuration.receive("", config)
    assert did == ["replay", "reload"]


def _same(bad: bytes, good: bytes) -> bool:
    """Whether only spare bits of the last base64 character differ: the same message, then."""
    return len(bad) == len(good) and bad[:-1] == good[:-1]
