"""The default pack's networks, as the tests of scene and photographs use them: opened once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from agent.settings.model import load
from agent.wiring.parts import Networks, open_networks


@cache
def networks() -> Networks:
    """Detector and embedder from the installed package that carries the default pack."""
    nowhere = Path("/nonexistent/models")
    return open_networks(load(None, {"models": {"licence": "research", "directory": nowhere}}))
