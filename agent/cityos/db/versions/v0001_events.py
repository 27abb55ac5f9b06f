"""Events, gaps, devices: made before versions were counted, so they may be there already."""

from alembic import op

revision = "0001"
down_revision = None

_IDENTITY = "device VARCHAR NOT NULL, epoch VARCHAR NOT NULL"
_STATEMENTS = (
    f"CREATE TABLE IF NOT EXISTS event ({_IDENTITY}, seq BIGINT NOT NULL,"
    " kind VARCHAR NOT NULL, purpose VARCHAR NOT NULL, person VARCHAR NOT NULL,"
    " place_kind VARCHAR NOT NULL, place VARCHAR NOT NULL, door VARCHAR NOT NULL,"
    " stop VARCHAR, boot VARCHAR NOT NULL, mono_ms BIGINT NOT NULL, wall_ms BIGINT NOT NULL,"
    " clock VARCHAR NOT NULL, error_ms BIGINT NOT NULL, corrected_ms BIGINT,"
    " received_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, seq))",
    f"CREATE TABLE IF NOT EXISTS rejected ({_IDENTITY}, seq BIGINT NOT NULL,"
    " code VARCHAR NOT NULL, received_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, seq))",
    f"CREATE TABLE IF NOT EXISTS stream ({_IDENTITY}, upto BIGINT NOT NULL,"
    " PRIMARY KEY (device, epoch))",
    f"CREATE TABLE IF NOT EXISTS gap ({_IDENTITY}, first BIGINT NOT NULL,"
    " last BIGINT NOT NULL, noted_ms BIGINT NOT NULL, PRIMARY KEY (device, epoch, first))",
    "CREATE TABLE IF NOT EXISTS device (name VARCHAR NOT NULL PRIMARY KEY,"
    " online BOOLEAN NOT NULL, connection BIGINT NOT NULL, birth VARCHAR NOT NULL,"
    " last_seen_ms BIGINT NOT NULL)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
