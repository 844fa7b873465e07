"""The library: mechanisms, and what became of them in runs and in trials of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "mechanism",
        sa.Column("sha", sa.Text, primary_key=True),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_table(
        "mechanism_record",
        sa.Column("sha", sa.Text, sa.ForeignKey("mechanism.sha"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("doc", sa.Text, nullable=False),
    )
