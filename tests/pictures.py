"""The photographs that installed packages carry: the only faces the tests may look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from agent.demo.pictures import picture
from agent.hw.insightface import ArcFaceEmbedder, ScrfdDetector
from agent.packs.manifest import load_manifest
from agent.packs.store import locate
