"""What happened, in MLflow: `runs` for steps and days, `models` for trained rankers.

Nothing here decides anything: with `mlflow.uri = "off"` the loop computes the same partitions.
MLflow takes a second to import, so it is imported where it is used.
"""
