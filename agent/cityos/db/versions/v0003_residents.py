"""Residents, their templates, the galleries made of them, and erasures."""

from alembic import op

revision = "0003"
down_revision = "0002"

# BYTEA is PostgreSQL's word; SQLite takes any, and keeps bytes as they are.
_MEMBER = (
    "gallery VARCHAR NOT NULL, ref BYTEA NOT NULL, version BIGINT NOT NULL,"
    " revision BIGINT NOT NULL, map BIGINT NOT NULL, next_ms BIGINT, bucket BIGINT NOT NULL,"
    " wire BYTEA NOT NULL, digest BYTEA, record BYTEA, PRIMARY KEY (gallery, ref)"
)
_STATEMENTS = (
    "CREATE TABLE resident (ref BYTEA NOT NULL PRIMARY KEY, profile BYTEA NOT NULL,"
    " revision BIGINT NOT NULL, next_ms BIGINT)",
    "CREATE TABLE template (ref BYTEA NOT NULL, pack VARCHAR NOT NULL,"
    " row_count BIGINT NOT NULL, rows BYTEA NOT NULL, PRIMARY KEY (ref, pack))",
    f"CREATE TABLE member ({_MEMBER})",
    f"CREATE TABLE draft ({_MEMBER})",
    "CREATE TABLE release (gallery VARCHAR NOT NULL, epoch BIGINT NOT NULL,"
    " version BIGINT NOT NULL, prev VARCHAR NOT NULL, root VARCHAR NOT NULL,"
    " people BIGINT NOT NULL, floor BIGINT NOT NULL, expires_ms BIGINT NOT NULL,"
    " content_key VARCHAR NOT NULL, issued_ms BIGINT NOT NULL, buckets BYTEA NOT NULL,"
    " head VARCHAR, announced_ms BIGINT, PRIMARY KEY (gallery, epoch, version))",
    "CREATE TABLE held (device VARCHAR NOT NULL, gallery VARCHAR NOT NULL,"
    " epoch BIGINT NOT NULL, version BIGINT NOT NULL, proven BOOLEAN NOT NULL,"
    " first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL,"
    " PRIMARY KEY (device, gallery, epoch, version))",
    "CREATE TABLE erasure (receipt VARCHAR NOT NULL, gallery VARCHAR NOT NULL,"
    " ref BYTEA NOT NULL, at_ms BIGINT NOT NULL, epoch BIGINT, version BIGINT,"
    " PRIMARY KEY (receipt, gallery))",
    "CREATE INDEX member_bucket ON member (gallery, bucket)",
    "CREATE INDEX member_version ON member (gallery, version)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
