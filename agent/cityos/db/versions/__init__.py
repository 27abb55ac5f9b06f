"""The revisions of the city's schema, one straight line, for Alembic to load and run."""
