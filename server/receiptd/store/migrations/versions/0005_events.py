"""Events, and how far each destination has come with them."""

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Price, Time

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Receipts that are stored already have no events."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    log = op.create_table(
        "event_log",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("last", key, nullable=False),
    )
    op.bulk_insert(log, [{"id": 1, "store": token_hex(6), "last": 0}])
    op.create_table(
        "events",
        sa.Column("id", key, primary_key=True, autoincrement=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("type", sa.Integer, nullable=False),
        sa.Column("receipt_id", key),
        sa.Column("message_ref", key),
        sa.Column("verdict", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("final", sa.Boolean),
        sa.Column("state_at", Time),
        sa.Column("delivered", sa.Integer),
        sa.Column("parts", sa.Integer),
        sa.Column("price", Price),
    )
    op.execute("CREATE INDEX events_adopted ON events (receipt_id) WHERE type = 2")
    op.execute("CREATE INDEX events_state ON events (message_ref) WHERE type = 3")
    op.create_table(
        "forward_destinations",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", key, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Float, nullable=False),
        sa.Column("breaker_open", sa.Boolean, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("last_error_at", Time),
        sa.Column("last_sent_at", Time),
        sa.Column("sent", key, nullable=False),
        sa.Column("orders", key, nullable=False),
        sa.Column("seeks", key, nullable=False),
    )
    op.create_table(
        "forward_parked",
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("event_id", key, primary_key=True, autoincrement=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("holds", sa.Boolean, nullable=False),
        sa.Column("lanes", sa.Text, nullable=False),
        sa.Column("receipt_id", key),
        sa.Column("message_ref", key),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_at", Time),
        sa.Column("next_at", Time),
        sa.Column("died_at", Time),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
    )
    op.create_index("forward_parked_event", "forward_parked", ["event_id"])
    op.create_index("forward_parked_receipt", "forward_parked", ["receipt_id"])
    op.create_index("forward_parked_message", "forward_parked", ["message_ref"])
    op.create_table(
        "forward_replays",
        sa.Column("id", key, primary_key=True, autoincrement=True),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("wanted", sa.Text, nullable=False),
        sa.Column("position", key, nullable=False),
        sa.Column("until", key, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("sent", key, nullable=False),
        sa.Column("failed", key, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("ended_at", Time),
        sqlite_autoincrement=True,
    )
