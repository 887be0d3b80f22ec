"""Messages, and which receipt is about which."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Price, Time

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the indexes that the rules and an operator's questions rest on."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "messages",
        sa.Column("id", key, primary_key=True, autoincrement=True),
        sa.Column("registered_at", Time, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("message_key", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text),
        sa.Column("recipient_key", sa.Text, nullable=False),
        sa.Column("sender", sa.Text),
        sa.Column("reference", sa.Text),
        sa.Column("parts", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("state_at", Time),
        sa.Column("delivered", sa.Integer, nullable=False),
        sa.Column("price", Price),
        sa.Column("progress", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "messages_once",
        "messages",
        ["message_key", "provider", "recipient_key"],
        unique=True,
    )
    op.execute("CREATE INDEX messages_pending ON messages (registered_at) WHERE NOT final")
    op.create_table(
        "matching",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("since", Time, nullable=False),
    )
    op.add_column("receipts", sa.Column("message_ref", key))
    op.execute(
        "CREATE INDEX receipts_of_message ON receipts (message_ref) WHERE message_ref IS NOT NULL"
    )
    op.execute("CREATE INDEX receipts_mismatched ON receipts (id) WHERE verdict <> 'accepted'")
