"""How the schema came about, step by step; Alembic reads it."""
