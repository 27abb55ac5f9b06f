"""What the city's small SQLite files share; they are used without the extra \"city\", too."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction of a small SQLite file of the city's, which waits for other writers first."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
