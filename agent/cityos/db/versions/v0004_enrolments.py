"""Residents enrolled at a device, until the city has taken them."""

from alembic import op

revision = "0004"
down_revision = "0003"

_IDENTITY = "device VARCHAR NOT NULL, epoch VARCHAR NOT NULL"
_STATEMENTS = (
    f"CREATE TABLE enrolment ({_IDENTITY}, seq BIGINT NOT NULL, sealed VARCHAR NOT NULL,"
    " state VARCHAR NOT NULL, reason VARCHAR NOT NULL, received_ms BIGINT NOT NULL,"
    " PRIMARY KEY (device, epoch, seq))",
    "CREATE INDEX enrolment_new ON enrolment (received_ms) WHERE state = 'new'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
