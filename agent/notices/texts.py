"""Reads notice texts and makes the consent record of one that was shown (ISO/IEC TS 27560)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.base.errors import UsageError
from agent.protocol.consent import CONSENT_PURPOSES, Consent

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent
LANGUAGES = ("ja", "en")
CONSENT_DAYS = 365  # after which a consent lapses unless it is renewed [requirements A7]
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Notice:
    """What is shown for one purpose. ``version`` names exactly this text."""

    purpose: str
    language: str
    version: str
    text: str
    controller: str
    categories: tuple[str, ...]
    recipients: tuple[str, ...]
    retention_days: int

    def consent(self, given_ms: int, *, guardian: bool = False) -> Consent:
        """The record of somebody's consent after this was shown; lapses after a year."""
        return Consent(
            purpose=self.purpose,
            controller=self.controller,
            categories=self.categories,
            recipients=self.recipients,
            retention_days=self.retention_days,
            text_version=self.version,
            language=self.language,
            given_ms=given_ms,
            expires_ms=given_ms + CONSENT_DAYS * _DAY_MS,
            guardian=guardian,
        )


def load_notices(
    controller: str, directory: Path | None = None
) -> Mapping[tuple[str, str], Notice]:
    """Every notice of *directory* (default: those that ship) by (purpose, language).

    *controller* is who asks. Raises UsageError naming what is missing or wrong.
    """
    folder = directory or SHIPPED
    try:
        told = tomllib.loads((folder / "notices.toml").read_text(encoding="utf-8"))
        return {
            (purpose, language): _notice(folder, told, purpose, language, controller)
            for purpose in CONSENT_PURPOSES
            for language in LANGUAGES
        }
    except OSError as error:
        raise UsageError(f"notices: {error.filename}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"notices {folder}: cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(
            f"notices {folder}: notices.toml needs version, and for each of"
            f" {', '.join(CONSENT_PURPOSES)} categories, recipients, retention_days: {error!r}"
        ) from error


def _notice(
    folder: Path, told: Mapping[str, Any], purpose: str, language: str, controller: str
) -> Notice:
    given = told[purpose]
    days = int(given["retention_days"])
    written = (folder / f"{purpose}.{language}.md").read_text(encoding="utf-8")
    text = written.format(controller=controller, retention_days=days)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Notice(
        purpose=purpose,
        language=language,
        version=f"{told['version']} {digest}",
        text=text,
        controller=controller,
        categories=tuple(map(str, given["categories"])),
        recipients=tuple(map(str, given["recipients"])),
        retention_days=days,
    )
