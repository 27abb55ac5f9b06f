"""A fuzzer that watches which code its inputs reach, on one target: ``scripts/fuzz --guided``.

``python -m tests.fuzz.guided TARGET SECONDS`` adds to the corpus what reached code that nothing in
it reached: few and small enough for the repository. Every run of the tests gives them in again.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["agent.protocol", "agent.link", "agent.cityos"]):
    from tests.fuzz.target import corpus_of
    from tests.fuzz.targets import all_targets

from tests.fuzz.mutate import dumps, spoil_value

MOST_BYTES = 8_192


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """JSON is spoilt by its structure, which bytes alone hardly ever leave whole."""
    chance = random.Random(seed)
    if chance.random() < 0.7:
        try:
            return dumps(spoil_value(json.loads(data), chance))[:most]
        except (ValueError, RecursionError):
            pass
    return bytes(atheris.Mutate(data, most))


def main() -> None:
    """See above."""
    wanted, seconds = sys.argv[1], int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        targets = [target for target in all_targets(Path(folder)) if target.name == wanted]
        if not targets:
            sys.exit(f"no target is called {wanted!r}")
        corpus = corpus_of(wanted)
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, seed in enumerate(targets[0].seeds()):
            (seeds / f"seed-{number}").write_bytes(seed)
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={seconds}",
                f"-max_len={MOST_BYTES}",
                f"-artifact_prefix={corpus}/",
                str(corpus),  # what is new goes into the first
                str(seeds),
            ],
            targets[0].guided,
            custom_mutator=mutated,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
