"""The columns that every step agrees on. Ids are strings: a number of one source is a text of another.

Names tell a column's role in the ranker: `label_*` 0/1 outcomes, `ctx_*` categories known when the item is shown,
`cat_*` categories and `num_*` numbers of a consumer's profile or an item's facts.
"""

# One row an engagement. time_ms: UTC milliseconds, null where the source has no times. value: how much (a count, seconds).
ENGAGEMENTS = ("consumer_id", "producer_id", "item_id", "kind", "value", "time_ms")
# One row an item shown, engaged with or not, followed by label_* (int) and ctx_* (string) columns. dwell_ms may be null.
IMPRESSIONS = ("consumer_id", "producer_id", "item_id", "time_ms", "dwell_ms")
# One row an entity as known on that day, followed by cat_* (string) and num_* (double) columns.
CONSUMERS = ("consumer_id",)
ITEMS = ("item_id", "producer_id")

ENGAGEMENT_TABLE, IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE = "engagements", "impressions", "consumers", "items"


def with_prefix(columns: list[str], prefix: str) -> list[str]:
    """The columns of one role, in their own order."""
    return [column for column in columns if column.startswith(prefix)]
