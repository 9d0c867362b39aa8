"""Alembic migrations, on two branches: ``pre`` (expand) and ``post`` (contract). See ``docs/adr/0003-storage.md``."""
