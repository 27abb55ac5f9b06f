"""Where the files are that ship beside the code: model manifest, board files, units, profiles.

``agent/_data`` links to the top-level folders, so a checkout reads them in place and a built wheel
carries copies.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parents[1] / "_data"


def data_path(*parts: str) -> Path:
    """The path of a shipped file, as in ``data_path("models", "manifest.toml")``."""
    return DATA.joinpath(*parts)
