"""Receipts, and the posts that were rejected."""

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Price, Time

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the indexes that the store's rules rest on."""
    dialect = op.get_bind().dialect.name
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "receipts",
        sa.Column("id", key, primary_key=True, autoincrement=True),
        sa.Column("received_at", Time, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("message_key", sa.Text, nullable=False),
        sa.Column("linked_key", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("recipient", sa.Text),
        sa.Column("recipient_key", sa.Text),
        sa.Column("sender", sa.Text),
        sa.Column("reference", sa.Text),
        sa.Column("reported_at", Time),
        sa.Column("part", sa.Integer),
        sa.Column("parts", sa.Integer),
        sa.Column("price", Price),
        sa.Column("network", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("extra", sa.Text, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("repeats", sa.Integer, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )
    never = "'0001-01-01 00:00:00+00'::timestamptz" if dialect == "postgresql" else "''"
    op.execute(
        f"CREATE UNIQUE INDEX receipts_once ON receipts (coalesce(reported_at, {never}), "
        "message_key, coalesce(recipient_key, ''), coalesce(code, ''), coalesce(part, -1), "
        "kind, provider, variant)"
    )
    op.execute("CREATE INDEX receipts_by_message ON receipts ((id >> 17), message_key)")
    op.execute(
        "CREATE INDEX receipts_by_link ON receipts ((id >> 17), linked_key) "
        "WHERE linked_key IS NOT NULL"
    )
    op.create_index("receipts_by_time", "receipts", ["received_at"])
    op.create_table(
        "rejected_posts",
        sa.Column("id", key, primary_key=True, autoincrement=True),
        sa.Column("received_at", Time, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("field", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("peer", sa.Text),
        sa.Column("content_type", sa.Text),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rejected_posts_quota", "rejected_posts", ["endpoint", "reason", "id"])
