"""Commands and settings for devices; replays are commands now."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "CREATE TABLE command (id VARCHAR NOT NULL PRIMARY KEY, device VARCHAR NOT NULL,"
    " counter BIGINT NOT NULL, command VARCHAR NOT NULL, arguments VARCHAR NOT NULL,"
    " made_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, sent_ms BIGINT,"
    " sends BIGINT NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,"
    " detail VARCHAR NOT NULL, answered_ms BIGINT)",
    "CREATE INDEX command_open ON command (made_ms) WHERE state IN ('waiting', 'received')",
    "CREATE TABLE config (device VARCHAR NOT NULL, version BIGINT NOT NULL,"
    " base BIGINT NOT NULL, settings VARCHAR NOT NULL, state VARCHAR NOT NULL,"
    " problems VARCHAR NOT NULL, made_ms BIGINT NOT NULL, sent_ms BIGINT,"
    " answered_ms BIGINT, PRIMARY KEY (device, version))",
    "CREATE INDEX config_waiting ON config (made_ms) WHERE state = 'waiting'",
    # Replays were asked for without a signature; who still wants one asks again.
    "DROP TABLE ask",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
