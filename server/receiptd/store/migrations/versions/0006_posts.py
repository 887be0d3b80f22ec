"""Posts that brought several receipts, stored once for all of them.

It takes a moment however large the database is: no row is changed, and no index is built.
"""

import sqlalchemy as sa
from alembic import op

from receiptd.store.schema import Time

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Receipts that are stored already keep their posts in their own rows."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "posts",
        sa.Column("id", key, primary_key=True, autoincrement=False),
        sa.Column("received_at", Time, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
    )
    op.add_column("receipts", sa.Column("post_id", key))
