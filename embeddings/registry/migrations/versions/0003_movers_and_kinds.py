"""Who moved an alias, and the kind of a version."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Empty for the moves that were recorded before: nobody knows who made them.
    op.add_column(
        "alias_moves", sa.Column("moved_by", sa.String(100), nullable=False, server_default="")
    )
    op.add_column(
        "versions", sa.Column("kind", sa.String(20), nullable=False, server_default="embedding")
    )


def downgrade() -> None:
    op.drop_column("versions", "kind")
    op.drop_column("alias_moves", "moved_by")
