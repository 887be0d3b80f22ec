"""The messages without a final state in the order of their ids, which is that of the lists."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the index by time: with that, each page of a list sorted all of these messages."""
    op.execute("CREATE INDEX messages_unfinished ON messages (id, registered_at) WHERE NOT final")
    op.execute("DROP INDEX messages_pending")
