"""Receipts and messages are found by their phone number through an index.

It changes no row. Both indexes are led by a bucket of ids, as that of a message's receipts is
(`schema.BUCKET_BITS`), so that insertions stay at their ends. Building them takes seconds for
each million rows: docs/operations.md, "Large stores", says how many.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the indexes."""
    op.execute(
        "CREATE INDEX receipts_by_recipient ON receipts ((id >> 17), recipient_key) "
        "WHERE recipient_key IS NOT NULL"
    )
    op.execute("CREATE INDEX messages_by_recipient ON messages ((id >> 17), recipient_key)")
