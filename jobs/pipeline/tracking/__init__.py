"""What happened, in MLflow: `runs` for steps and days, `models` for trained rankers.

A day whose record is lost is not lost: the lake has it, and it can be recorded again.

Nothing here decides anything: with `mlflow.uri = "off"` the loop computes the same partitions.
MLflow takes a second to import, so it is imported where it is used.
"""
