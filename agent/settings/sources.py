"""Where a device's own settings come from: its TOML file, and variables of the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from agent.base.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "KAOPASS_"


def own_file(path: Path | None) -> dict[str, Any]:
    """What the device's own file says; nothing without one. Raises SettingsError."""
    if path is None:
        return {}
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"is not TOML: {error}"]) from error
    return values


def environment() -> dict[str, dict[str, str]]:
    """``KAOPASS_CAMERA__SOURCE=x`` as ``{"camera": {"source": "x"}}``."""
    found: dict[str, dict[str, str]] = {}
    for name, value in os.environ.items():
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and separator:
            found.setdefault(section, {})[key] = value
    return found
