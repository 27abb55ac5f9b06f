"""Durable event journal: an event is on disk before anyone acts on it."""

from agent.journal.entries import BootReport, Entry, Gap, Stats
from agent.journal.journal import Journal

__all__ = ["BootReport", "Entry", "Gap", "Journal", "Stats"]
