"""Statistics; when a message was sent by the application's own clock, and when it was given up.

What is stored already is counted afterwards, while the server runs: see `store.statistics_fill`.
"""

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Time

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the columns, which are NULL in every row: no table is written anew."""
    count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("messages", sa.Column("sent_at", Time))
    op.add_column("messages", sa.Column("gave_up_at", Time))
    op.add_column("messages", sa.Column("network", sa.Text))
    op.create_table(
        "statistics_receipts",
        sa.Column("hour", Time, primary_key=True),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("endpoint", "provider", "kind", "network", "state", "code", "verdict")
        ),
        sa.Column("count", count, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statistics_messages",
        sa.Column("hour", Time, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("provider", "network", "state")),
        sa.Column("count", count, nullable=False),
        sa.Column("times", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statistics_rejected",
        sa.Column("hour", Time, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("endpoint", "reason")),
        sa.Column("count", count, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statistics_fill",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", count, nullable=False),
        sa.Column("boundary", count, nullable=False),
    )
    for table in ("receipts", "messages"):
        op.execute(
            "INSERT INTO statistics_fill (name, position, boundary) "
            f"SELECT '{table}', coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM {table}"
        )
    # Few: a quota keeps them so.
    hour = (
        "date_trunc('hour', received_at)"
        if op.get_bind().dialect.name == "postgresql"
        else "substr(received_at, 1, 13) || ':00:00.000000Z'"
    )
    op.execute(
        "INSERT INTO statistics_rejected (hour, endpoint, reason, count) "
        f"SELECT {hour}, endpoint, reason, count(*) FROM rejected_posts GROUP BY 1, 2, 3"
    )
