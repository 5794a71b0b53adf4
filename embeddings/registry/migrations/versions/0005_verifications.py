"""How large versions are, and when their bytes were last compared with their digests."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Null for the versions that were published before: their next verification measures them.
    op.add_column("versions", sa.Column("size_bytes", sa.BigInteger))
    op.create_table(
        "verifications",
        sa.Column("version_key", sa.Integer, nullable=False),
        sa.Column("verified_at", sa.DateTime, nullable=False),
        sa.Column("faults", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("version_key", name="pk_verifications"),
        sa.ForeignKeyConstraint(
            ["version_key"],
            ["versions.key"],
            name="fk_verifications_version_key",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("verifications")
    op.drop_column("versions", "size_bytes")
