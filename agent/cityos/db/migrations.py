"""The city's schema, revision by revision, by Alembic: all steps and their record are one commit.

The revisions lie in ``versions``, a straight line of files ``v0001_...`` and on; a worker brings
them with it and runs them when it starts. A new one is a file more and the same in ``schema``: a
test compares the two. There is no way down: back means the backup and the older program.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from agent.base.errors import CityError

_FOLDER = Path(__file__).parent
REVISIONS = sorted(path.name[1:5] for path in (_FOLDER / "versions").glob("v[0-9]*.py"))
HEAD = REVISIONS[-1]
_COUNTED = 6  # where the table ``migration``, which counted before Alembic, ends
_LOCK = 0x6B616F70  # any number, the same in every worker
_log = logging.getLogger(__name__)


def version(db: Connection) -> str:
    """The schema's revision; "" before the first. Raises CityError when it is a newer program's."""
    tables = inspect(db)
    counted = 0
    if tables.has_table("migration"):
        counted = db.execute(text("SELECT coalesce(max(version), 0) FROM migration")).scalar_one()
    found = f"{counted:04}" if counted else ""
    if counted == _COUNTED and tables.has_table("alembic_version"):
        found = db.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    if counted > _COUNTED or (found and found not in REVISIONS):
        raise CityError(
            f"the city database has version {found} of its tables, this program knows {HEAD}: "
            "install the newer kaopass again"
        )
    return found


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; workers that start together do it once."""
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        found = version(db)
        if found != HEAD:
            _upgrade(db, found)
            if found:
                _log.info("city database: tables brought from version %s to %s", found, HEAD)


def _upgrade(db: Connection, found: str) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # or it tells every step of its own
    from alembic import command, config  # noqa: PLC0415 - half a second, seldom needed

    settings = config.Config(attributes={"connection": db})
    settings.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    if found:
        command.stamp(settings, found)  # what ``migration`` counted is the revision so numbered
    command.upgrade(settings, HEAD)
