"""Versions and aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "versions",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("space", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("entities", sa.JSON, nullable=False),
        sa.Column("lineage", sa.JSON, nullable=False),
        sa.Column("published_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_versions"),
        sa.UniqueConstraint("name", "day", "revision", name="uq_versions_name_day_revision"),
        sa.UniqueConstraint("name", "day", "digest", name="uq_versions_name_day_digest"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("version_key", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(["version_key"], ["versions.key"], name="fk_aliases_version_key"),
    )


def downgrade() -> None:
    op.drop_table("aliases")
    op.drop_table("versions")
