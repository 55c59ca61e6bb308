"""Moves that one plan made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make a table for what they are part of; moves name it."""
    op.create_table(
        "relocations",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("moves", sa.Integer(), nullable=False),
        sa.Column("stuck", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_relocations")),
        sa.UniqueConstraint("id", name=op.f("uq_relocations_id")),
    )
    still_open = sa.text("ended IS NULL")
    op.create_index(
        "uq_relocations_open", "relocations", ["state"], unique=True, sqlite_where=still_open, postgresql_where=still_open
    )  # fmt: skip
    op.add_column("moves", sa.Column("relocation", sa.Text(), nullable=True))
    op.create_index("ix_moves_relocation", "moves", ["relocation", "number"], unique=False)
