"""Fields that could not be read; states in the duplicate key; identifiers of backup routes.

It fills in nothing, so on a large table it takes as long as the one index takes to be built.
"""

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Time

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table, and build the duplicate key anew, with the state in it."""
    op.add_column("receipts", sa.Column("unread", sa.Text))
    op.add_column("receipts", sa.Column("last_try", sa.Integer))
    op.create_table(
        "aliases",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("alias_key", sa.Text, primary_key=True),
        sa.Column("message_key", sa.Text, nullable=False),
        sa.Column("since", Time, nullable=False),
    )
    op.create_index("aliases_of_message", "aliases", ["provider", "message_key"])
    dialect = op.get_bind().dialect.name
    never = "'0001-01-01 00:00:00+00'::timestamptz" if dialect == "postgresql" else "''"
    op.execute("DROP INDEX receipts_once")
    op.execute(
        f"CREATE UNIQUE INDEX receipts_once ON receipts (coalesce(reported_at, {never}), "
        "message_key, coalesce(recipient_key, ''), coalesce(code, ''), state, coalesce(part, -1), "
        "kind, provider, variant)"
    )
