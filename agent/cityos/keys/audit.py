"""The city side's audit log: where it is, and the key of its references."""

from __future__ import annotations

from pathlib import Path

from agent.base.audit import AuditLog
from agent.base.errors import CityError, KeySourceError
from agent.hw.keystores.file import FileKeySource


def audit_key(directory: Path) -> bytes:
    """The key of the city's audit log in *directory*, made on first use. Raises CityError."""
    source = FileKeySource(directory)
    try:
        return source.load("audit-key") or source.create("audit-key")
    except KeySourceError as error:
        raise CityError(f"the audit log's key: {error}") from error


def audit_log(directory: Path) -> AuditLog:
    """The city's audit log in *directory*. Raises CityError."""
    return AuditLog(directory / "audit.jsonl", audit_key(directory))
