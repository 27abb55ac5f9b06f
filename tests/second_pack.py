"""The second, permissively licensed pack for the tests: opened once."""

from __future__ import annotations

from functools import cache

from agent.settings.model import Settings, load
from agent.wiring.parts import Networks, open_networks
from tests.liveness_pack import PACK, models_directory


def settings() -> Settings:
    """Default settings with the second pack; its licence needs no word of acceptance."""
    return load(None, {"models": {"pack": PACK, "directory": models_directory()}})


@cache
def networks() -> Networks:
    return open_networks(settings())
