"""Small validated days and published versions in a lake: the inputs of the ranker's steps."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prepared import validated

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors
from jobs.lake.schema import with_prefix
from jobs.lake.store import Partition
from jobs.pipeline.plan import writing
from jobs.pipeline.published import content_id, published_version
from jobs.settings import EmbeddingSettings, MLflowSettings, RankerSettings, Settings, SparkSettings
from jobs.settings.guardrails import GuardrailSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.steps.examples import facts_of
from models.features import Categorical, FeatureSpec

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
DAY_MS = 86_400_000
DIM = 4
LABELS = ("label_click", "label_like")


def ranker_settings(home: Path, mlflow_uri: str = "off", **ranker) -> Settings:
    """Settings of a log of six days. Only its span is read: the tests commit the days."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log.txt"
    lines = [f"c1 p1 {(day - date(1970, 1, 1)).days * 86_400}\n" for day in DAYS]
    log.write_text("".join(lines))
    options = {
        "start_day": FIRST,
        "window_days": 4,
        "batch_size": 32,
        "learning_rate": 5e-3,
    } | ranker
    return Settings(
        home=home,
        source=EdgelistSettings(kind="edgelist", path=log),
        embedding=EmbeddingSettings(name="author", dim=DIM),
        ranker=RankerSettings(**options),
        # The versions of different days have different consumers and producers, drawn at random.
        guardrails=GuardrailSettings(max_coverage_loss=1.0),
        mlflow=MLflowSettings(uri=mlflow_uri),
        spark=SparkSettings(partitions=2),
    )


def impressions(day: date, n: int = 200) -> pa.Table:
    """n random impressions: even items are clicked more, likes follow clicks."""
    rng = np.random.default_rng((day - FIRST).days)
    items = rng.integers(0, 24, n)
    clicks = (rng.random(n) < 0.25 + 0.5 * (items % 2 == 0)).astype(np.int32)
    start = (day - date(1970, 1, 1)).days * DAY_MS
    return pa.table(
        {
            "consumer_id": [f"c{c}" for c in rng.integers(0, 30, n)],
            "producer_id": [f"p{i % 8}" for i in items],
            "item_id": [f"i{i}" for i in items],
            "time_ms": start + rng.permutation(DAY_MS // 1000)[:n] * 1000,
            "dwell_ms": rng.integers(0, 9000, n),
            "label_click": clicks,
            "label_like": (clicks * (rng.random(n) < 0.2)).astype(np.int32),
            "ctx_tab": [f"t{t}" for t in rng.integers(0, 3, n)],
        }
    )


def commit_validated(settings: Settings, day: date, shown: pa.Table | None) -> Partition:
    """A validated day: its impressions, their engagements, and profiles. It is landed before.

    shown: the impressions; None for a day that validation refused.
    """
    with validated(settings, day) as staging:
        staging.facts |= {
            "trusted": shown is not None,
            "reason": "" if shown is not None else "half of the rows are missing",
        }
        if shown is not None:
            staging.facts["rows_impressions"] = shown.num_rows
            tables = {"impressions": shown, "engagements": unpivoted(shown), **profiles()}
            for name, table in tables.items():
                (staging.path / name).mkdir()
                pq.write_table(table, staging.path / name / "part-00000.parquet")
    return settings.lake.get("validate", day)


def unpivoted(shown: pa.Table) -> pa.Table:
    """One engagement for every label that is 1."""
    parts = []
    for label in with_prefix(shown.column_names, "label_"):
        positive = shown.filter(pc.equal(shown[label], 1))
        rows = positive.select(["consumer_id", "producer_id", "item_id", "time_ms"])
        kind = pa.array([label.removeprefix("label_")] * rows.num_rows, pa.string())
        value = pa.array([1.0] * rows.num_rows, pa.float64())
        parts.append(rows.append_column("kind", kind).append_column("value", value))
    return pa.concat_tables(parts)


def profiles() -> dict[str, pa.Table]:
    """Profiles of consumers c0..c27 (the last two have none) and of items.

    One consumer's number is unknown.
    """
    consumers = {"consumer_id": [], "cat_kind": [], "num_fans": []}
    for c in range(28):
        consumers["consumer_id"].append(f"c{c}")
        consumers["cat_kind"].append(f"k{c % 3}")
        consumers["num_fans"].append(None if c == 3 else float(c * c))
    items = {"item_id": [], "producer_id": [], "cat_tag": [], "num_length": []}
    for i in range(24):
        items["item_id"].append(f"i{i}")
        items["producer_id"].append(f"p{i % 8}")
        items["cat_tag"].append(f"g{i % 5}")
        items["num_length"].append(float(-i))
    return {"consumers": pa.table(consumers), "items": pa.table(items)}


def publish_version(settings: Settings, day: date, space: str = "author-s") -> Partition:
    """A version of that day, after empty partitions of the steps before.

    Each day draws other consumers and producers, so that row numbers differ by day.
    """
    rng = np.random.default_rng(100 + (day - FIRST).days)

    def entity(prefix: str, n: int, kept: int) -> Vectors:
        ids = [f"{prefix}{i}".encode() for i in rng.choice(n, kept, replace=False)]
        vectors = rng.normal(size=(kept, DIM)).astype(np.float32)
        return Vectors(np.sort(ids), vectors, np.ones(kept, np.int32), np.zeros(kept, bool))

    producers = entity("p", 8, 6)
    fold_in = SVDFoldIn(producers.vectors, np.ones(6))
    entities = {"consumer": entity("c", 30, 20), "producer": producers}
    version = settings.open_registry().publish(
        "author", day, space, entities, fold_in, lineage={"days": []}
    )
    for step in ("matrix", "embed", "align", "fold_in", "lookalike", "benchmark"):
        with writing(settings, step, day) as staging:
            staging.facts |= {"anchor": str(FIRST), "left": ""}
    with writing(settings, "publish", day) as staging:
        staging.facts |= {
            "version": content_id(version),
            "space": version.space,
            "digest": version.digest,
        }
    return settings.lake.get("publish", day)


def commit_days(settings: Settings, days: list[date], n: int = 200) -> None:
    """Commit each of these days as validated, and publish a version of it."""
    for day in days:
        commit_validated(settings, day, impressions(day, n))
        publish_version(settings, day)


def copied(settings: Settings, home: Path) -> Settings:
    """The settings of a copy of their home, which is free to be changed."""
    shutil.copytree(settings.home, home)
    return settings.model_copy(update={"home": home})


def commit_examples(settings: Settings, day: date, missing: bool = False) -> Partition:
    """Small examples of a committed day, as the step `examples` lays them out, without Spark.

    They point into the version of the day before, which is published; the first day has none.
    missing: is their number unknown in every row?
    """
    shown = pq.read_table(settings.lake.get("validate", day).path / "impressions").sort_by(
        "time_ms"
    )
    before = day - timedelta(days=1)
    published = settings.lake.find("publish", before) if day > FIRST else None
    facts = {"version": "", "space": ""}
    rows = {entity: np.full(shown.num_rows, -1) for entity in ("consumer", "producer")}
    if published is not None:
        version = published_version(settings, published.facts["version"])
        facts |= {"version": published.facts["version"], "space": version.space}
        entities = settings.open_registry().load(version).entities
        for entity in rows:
            rows[entity] = entities[entity].rows(shown[f"{entity}_id"].to_numpy())
    items = [int(item[1:]) for item in shown["item_id"].to_pylist()]
    columns = {name: shown[name] for name in ("consumer_id", "producer_id", "item_id", "time_ms")}
    columns |= {name: shown[name] for name in LABELS}
    columns |= {"hash_item": items, "num_odd": pa.array([float(item % 2) for item in items])}
    if missing:
        columns["num_odd"] = pa.nulls(shown.num_rows, pa.float64())
    columns |= {f"{entity}_row": of_entity for entity, of_entity in rows.items()}
    spec = FeatureSpec((Categorical("hash_item", 24, "item"),), ("num_odd",), LABELS, DIM)
    with writing(settings, "examples", day) as staging:
        (staging.path / "examples").mkdir()
        pq.write_table(pa.table(columns), staging.path / "examples" / "part-00000.parquet")
        (staging.path / "features.json").write_text(spec.to_json() + "\n")
        staging.facts |= facts | facts_of(staging.path / "examples", LABELS)
    return settings.lake.get("examples", day)


def commit_days_with_examples(settings: Settings, days: list[date]) -> None:
    """Commit each of these days as validated, published and with its examples."""
    commit_days(settings, days)
    for day in days:
        commit_examples(settings, day)
