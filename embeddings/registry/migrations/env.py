"""How Alembic runs the migrations: on the connection, and inside the transaction, that `catalog` hands over.

A change of the schema is a new file in versions/, numbered upwards, and its number in `catalog.HEAD`; a test compares
the migrated schema with the models.
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
