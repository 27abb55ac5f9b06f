"""Run by Alembic only: the revisions, in the transaction that ``migrations`` began."""

from alembic import context

from agent.cityos.db.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
