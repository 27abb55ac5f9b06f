"""Alembic counts from here on; the table that counted before stays, to turn older programs away."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE IF NOT EXISTS migration"
        " (version BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL)"
    )
    # They knew 5 versions, and say of a sixth that the newer program is to be installed again.
    op.execute("INSERT INTO migration (version, at_ms) VALUES (6, 0)")
