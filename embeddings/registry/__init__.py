"""The registry: every version of every embedding, what is in it and where it comes from.

`client` is what Python code uses, `service` the same over HTTP with pages for people, `commands` the command line.
Below them: `loaded` (an open version's answers), `files`, `shards` and `checks` (its immutable arrays), `vectors` and
`pieces` (as they are read), `catalog` and `versions` (which there are), `search` (who is near).
Nothing here imports Spark, torch, Airflow, `jobs` or `models`: any service can use it.
"""
