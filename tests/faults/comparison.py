"""How two homes that have processed the same days differ, in words."""

from __future__ import annotations

from datetime import date
from typing import Any

from jobs.pipeline.tracking.runs import TAG, Tracker
from jobs.settings import Settings

OWN = ("duration_s",)  # metrics of a run that depend on the clock


def differences(one: Settings, other: Settings, days: list[date]) -> list[str]:
    """Partitions, versions, aliases, metrics and models that the homes do not have in common."""
    found = []
    for name, look in (
        ("partition", partitions),
        ("version", versions),
        ("alias", aliases),
        ("metrics of", metrics),
        ("model", models),
        ("model alias", model_aliases),
    ):
        left, right = look(one), look(other)
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key):
                found.append(f"{name} {key}: {left.get(key)} without, {right.get(key)} after")
    return found


def partitions(settings: Settings) -> dict[str, Any]:
    found = {}
    lake = settings.lake
    for step in lake.steps():
        for day in lake.days(step):
            partition = lake.get(step, day)
            found[partition.key] = (partition.digest, partition.recipe, partition.inputs)
    return found


def versions(settings: Settings) -> dict[str, Any]:
    registry = settings.open_registry()
    found = {}
    for name in registry.names():
        for version in registry.versions(name):
            registry.verify(version)
            found[version.id] = (version.digest, version.space)
    return found


def aliases(settings: Settings) -> dict[str, Any]:
    registry = settings.open_registry()
    found = {}
    for name in registry.names():
        for alias, version in registry.aliases(name).items():
            found[f"{name}/{alias}"] = version.id
    return found


def metrics(settings: Settings) -> dict[str, Any]:
    """The metrics and the status of the newest run of every step and day."""
    client = Tracker(settings).client
    found = {}
    for experiment in client.search_experiments():
        runs = client.search_runs(
            [experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=5000
        )
        for run in runs:
            tags = run.data.tags
            if f"{TAG}superseded_by" in tags:
                continue
            values = {k: v for k, v in run.data.metrics.items() if k not in OWN}
            key = f"{experiment.name}: {tags.get(TAG + 'step')} {tags.get(TAG + 'day')}"
            if key in found:
                key += f" (another run, {run.info.run_id})"
            found[key] = (run.info.status, values, tags.get(TAG + "digest"))
    return found


def models(settings: Settings) -> dict[str, Any]:
    """The partition of every registered model, and how many versions it has."""
    found: dict[str, Any] = {}
    for version in Tracker(settings).client.search_model_versions(f"name='{settings.ranker.name}'"):
        partition = version.tags[f"{TAG}partition"]
        found[partition] = found.get(partition, 0) + 1
    return found


def model_aliases(settings: Settings) -> dict[str, Any]:
    client = Tracker(settings).client
    model = client.get_registered_model(settings.ranker.name)
    found = {}
    for alias, version in model.aliases.items():
        found[alias] = client.get_model_version(model.name, version).tags[f"{TAG}partition"]
    return found
