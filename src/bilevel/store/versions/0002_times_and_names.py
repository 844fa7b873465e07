"""When each record was appended, an index by kind, and numbered names of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("event", sa.Column("at", sa.Text))
    op.create_index("event_by_kind", "event", ["run", "kind", "seq"])
    op.create_table(
        "name",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
