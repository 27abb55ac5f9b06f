"""Events of every kind: a place with its trip and stop, and the body of what names no resident."""

from alembic import op

revision = "0007"
down_revision = "0006"

_COLUMNS = (
    *("how VARCHAR", "feed VARCHAR", "route VARCHAR", "trip VARCHAR", "service_date VARCHAR"),
    *("stop_id VARCHAR", "stop_sequence BIGINT"),
    *("fix_latitude_e7 BIGINT", "fix_longitude_e7 BIGINT", "fix_accuracy_mm BIGINT"),
    *("fix_age_ms BIGINT", "body VARCHAR"),
)


def upgrade() -> None:
    for column in _COLUMNS:
        op.execute(f"ALTER TABLE event ADD COLUMN {column}")
