"""What is missing in a sequence is known, asked for, and told apart from what never comes."""

from alembic import op

revision = "0002"
down_revision = "0001"

_IDENTITY = "device VARCHAR NOT NULL, epoch VARCHAR NOT NULL"
_STATEMENTS = (
    "ALTER TABLE stream ADD COLUMN last BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN floor BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN waiting_ms BIGINT",
    "ALTER TABLE stream ADD COLUMN born BOOLEAN NOT NULL DEFAULT FALSE",
    "UPDATE stream SET last = upto",
    "UPDATE stream SET last = newest.seq, waiting_ms = 0 FROM (SELECT device, epoch,"
    " max(seq) AS seq FROM event GROUP BY device, epoch) AS newest WHERE newest.seq > upto"
    " AND newest.device = stream.device AND newest.epoch = stream.epoch",
    "ALTER TABLE gap ADD COLUMN reason VARCHAR NOT NULL DEFAULT 'gone'",
    "ALTER TABLE device ADD COLUMN aside VARCHAR NOT NULL DEFAULT ''",
    "ALTER TABLE device ADD COLUMN returns BIGINT NOT NULL DEFAULT 0",
    "CREATE TABLE clock (device VARCHAR NOT NULL, boot VARCHAR NOT NULL,"
    " offset_ms BIGINT NOT NULL, PRIMARY KEY (device, boot))",
    f"CREATE TABLE ask (id VARCHAR NOT NULL PRIMARY KEY, {_IDENTITY},"
    " first BIGINT NOT NULL, last BIGINT NOT NULL, refused BOOLEAN NOT NULL,"
    " made_ms BIGINT NOT NULL, sent_ms BIGINT, sends BIGINT NOT NULL,"
    " state VARCHAR NOT NULL, count BIGINT)",
    "CREATE INDEX event_uncorrected ON event (device, boot)"
    " WHERE corrected_ms IS NULL AND clock IN ('saved', 'unset')",
    "CREATE INDEX stream_waiting ON stream (waiting_ms) WHERE waiting_ms IS NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
