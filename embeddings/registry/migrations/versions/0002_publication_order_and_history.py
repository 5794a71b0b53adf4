"""The order of publication, the last revision number of a day, and the history of aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Until now the last revision of a day was its current one. Numbered by day and revision, the
# versions of an embedding keep that order.
NUMBER_VERSIONS = """
UPDATE versions SET sequence = (
    SELECT count(*) FROM versions AS other
    WHERE other.name = versions.name
    AND (other.day < versions.day
         OR (other.day = versions.day AND other.revision <= versions.revision))
)
"""
COUNT_REVISIONS = """
INSERT INTO days (name, day, last_revision)
SELECT name, day, max(revision) FROM versions GROUP BY name, day
"""


def upgrade() -> None:
    # With a default, SQLite adds the column in place. Without one, the table would have to be
    # copied and dropped, which the foreign key of `aliases` forbids.
    op.add_column("versions", sa.Column("sequence", sa.Integer, nullable=False, server_default="0"))
    op.execute(NUMBER_VERSIONS)
    op.create_table(
        "days",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("last_revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", "day", name="pk_days"),
    )
    op.execute(COUNT_REVISIONS)
    op.create_table(
        "alias_moves",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("from_version", sa.String(150)),
        sa.Column("to_version", sa.String(150)),
        sa.Column("moved_at", sa.DateTime, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_alias_moves"),
    )


def downgrade() -> None:
    op.drop_table("alias_moves")
    op.drop_table("days")
    op.drop_column("versions", "sequence")
