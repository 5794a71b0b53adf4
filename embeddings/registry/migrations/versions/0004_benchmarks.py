"""The results of benchmarks, dated; a later measurement of the same is a row of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "benchmarks",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("version_key", sa.Integer, nullable=False),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("metric", sa.String(100), nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("judged", sa.Integer, nullable=False),
        sa.Column("baselines", sa.JSON, nullable=False),
        sa.Column("recorded_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_benchmarks"),
        sa.ForeignKeyConstraint(
            ["version_key"],
            ["versions.key"],
            name="fk_benchmarks_version_key",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_benchmarks_version_key", "benchmarks", ["version_key"])


def downgrade() -> None:
    op.drop_table("benchmarks")
