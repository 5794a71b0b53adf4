"""Runs the migrations on the connection, and in the transaction, that `catalog` passes in.

To change the schema, add a file to versions/ with the next number and set `catalog.HEAD` to it. A
test compares the migrated schema with the models.
"""

from alembic import context

from embeddings.registry.catalog import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
