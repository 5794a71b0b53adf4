"""What the guardrails look at, on versions of simulated worlds, on files and on networks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_spec import SPEC
from torch import nn

from embeddings.registry.client import Vectors
from embeddings.registry.loaded import Loaded
from embeddings.registry.vectors import Entity, encode_ids
from embeddings.registry.versions import Version
from jobs.judging import guardrails
from jobs.reports.daily_versions import fit_window
from jobs.reports.decay.coverage import FIRST, Ids, log_of
from jobs.reports.methods import SVD
from jobs.settings import MatrixSettings
from jobs.settings.guardrails import GuardrailSettings
from models.cost import operations
from models.features import Batch
from models.rankers.base import build, read_options
from models.standalone import bucket
from simulation.drift import Drift
from simulation.world import World

WINDOW = 14
LIMITS = GuardrailSettings()


# Versions


class WorldVersions:
    """The vectors of the days of a simulated world."""

    def __init__(self, seed: int, drift: float, days: int) -> None:
        world = World(1000, 600, 8, 6.0, seed, Drift().scaled(drift))
        self.log = log_of(world, days)
        self.ids = Ids.of(world, days)

    def entities(self, last: int) -> dict[str, Vectors]:
        """Everyone with an engagement in the window up to a day."""
        x, events = self.log.window(last, MatrixSettings(window_days=WINDOW))
        fit = fit_window(x, events, SVD(16, 1.0), 2, 0)
        known = np.flatnonzero(np.diff(fit.x.indptr))
        return {
            "consumer": vectors(self.ids.consumers[known], fit.consumers[known]),
            "producer": vectors(self.ids.producers[fit.columns], fit.model.producers),
        }

    def rows(self, day: int) -> pa.Table:
        """The clicks of a day."""
        clicks = self.log.days[day].strengths.tocoo()
        consumers = self.ids.consumers[clicks.row].astype(str)
        producers = self.ids.producers[clicks.col].astype(str)
        return pa.table({"consumer_id": consumers, "producer_id": producers})


def loaded(entities: dict[str, Vectors]) -> Loaded:
    """As a registry loads a published version, without its files."""
    when = datetime(2024, 1, 1)
    version = Version("author", FIRST, 1, "space", "", 16, Path("v"), {}, {}, when)
    files = SimpleNamespace(entities={side: Entity([each]) for side, each in entities.items()})
    return Loaded(version, files)


def vectors(ids: np.ndarray, rows: np.ndarray) -> Vectors:
    texts = encode_ids(ids.astype(str))
    order = np.argsort(texts)
    counts = np.ones(len(ids), np.int32)
    return Vectors(texts[order], rows[order], counts, np.zeros(len(ids), bool))


def half(entity: Vectors) -> Vectors:
    kept = np.arange(0, len(entity.ids), 2)
    return Vectors(
        *(getattr(entity, name)[kept] for name in ("ids", "vectors", "counts", "folded"))
    )


def shuffled(entity: Vectors) -> Vectors:
    order = np.random.default_rng(0).permutation(len(entity.ids))
    return replace(entity, vectors=entity.vectors[order])


def judged(champion: Loaded, challenger: Loaded, rows: pa.Table) -> dict[str, float]:
    versions = {"champion": champion, "challenger": challenger}
    ids = {side: rows[f"{side}_id"].chunks for side in ("consumer", "producer")}
    return guardrails.version_facts(versions, ids)


def lost(facts: dict[str, float]) -> dict[str, float]:
    """By what part fewer rows the challenger's version covers, by entity."""
    shares = {}
    for entity in ("consumers", "producers"):
        after, before = facts[f"challenger_covers_{entity}"], facts[f"champion_covers_{entity}"]
        shares[entity] = 1 - after / before
    return shares


def overlaps(facts: dict[str, float]) -> list[float]:
    return [facts[f"neighbour_overlap_{entity}"] for entity in ("consumers", "producers")]


@pytest.mark.parametrize(
    "worlds", [2, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_versions_of_healthy_worlds_hold_and_faulty_ones_do_not(worlds):
    """None of the healthy ones is refused: drift of 0 to 2, champions of one and of seven days."""
    for seed in range(worlds):
        drift = 2.0 * (seed % 5) / 4
        world = WorldVersions(seed, drift, WINDOW + 9)
        newest = WINDOW + 7
        entities = world.entities(newest)
        challenger = loaded(entities)
        rows = world.rows(newest + 1)
        champions = [loaded(world.entities(day)) for day in (newest - 1, newest - 7)]
        for champion in champions:
            facts = judged(champion, challenger, rows)
            assert max(lost(facts).values()) < LIMITS.max_coverage_loss
            assert min(overlaps(facts)) > LIMITS.min_neighbour_overlap
        for side in ("consumer", "producer"):
            fewer = loaded(entities | {side: half(entities[side])})
            facts = judged(champions[0], fewer, rows)
            assert lost(facts)[f"{side}s"] > LIMITS.max_coverage_loss
            mixed = loaded(entities | {side: shuffled(entities[side])})
            facts = judged(champions[0], mixed, rows)
            assert facts[f"neighbour_overlap_{side}s"] < LIMITS.min_neighbour_overlap


def test_coverage_is_that_of_the_rows():
    """Whoever has many rows counts as often; by hand."""
    known = vectors(np.array([1, 2]), np.eye(2, dtype=np.float32))
    version = loaded({"consumer": known, "producer": known})
    rows = pa.table({"consumer_id": ["1", "1", "2", "9"], "producer_id": ["9", "8", "2", "7"]})
    facts = judged(version, version, rows)
    assert (facts["champion_covers_consumers"], facts["champion_covers_producers"]) == (0.75, 0.25)
    assert not any(name.startswith("neighbour") for name in facts)  # two have no neighbours
    assert judged(version, version, rows[:0]) == {}


# Features


def examples(path, n: int, seed: int, **replaced):
    """A file of n random examples: a tenth of the numbers is null, another NaN."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name in SPEC.numeric:
        drawn = rng.random(n)
        columns[name] = pa.array(np.where(drawn < 0.1, np.nan, drawn), mask=drawn > 0.9)
    for column in SPEC.categorical:
        columns[column.name] = pa.array(rng.integers(0, column.buckets, n))
    pq.write_table(pa.table(columns | replaced), path)
    return path


def test_missing_values_are_those_of_a_slow_count(tmp_path):
    files = [examples(tmp_path / f"{n}.parquet", n, n) for n in (150, 0, 40)]
    counts = dict.fromkeys([*SPEC.numeric, *(column.name for column in SPEC.categorical)], 0)
    for file in files:
        for row in pq.read_table(file).to_pylist():
            for name in SPEC.numeric:
                counts[name] += row[name] is None or np.isnan(row[name])
            for column in SPEC.categorical:
                counts[column.name] += row[column.name] == bucket("", column.buckets)
    found = guardrails.missing_shares(files, SPEC)
    assert found == {name: count / 190 for name, count in counts.items()}
    assert guardrails.missing_shares(files[1:2], SPEC) == {}


@pytest.mark.parametrize("broken", ["num_y", "hash_tag"])
def test_a_feature_without_any_value_is_named_with_both_shares(tmp_path, broken):
    nothing = pa.nulls(100, pa.float64()) if broken == "num_y" else pa.array([bucket("", 5)] * 100)
    before = examples(tmp_path / "before.parquet", 100, 1)
    now = examples(tmp_path / "now.parquet", 100, 2, **{broken: nothing})
    facts = guardrails.missing_facts([before], [now], SPEC)
    assert (facts["missing_feature"], facts["missing_on_day"]) == (broken, 1.0)
    shares = guardrails.missing_shares([before], SPEC)
    assert facts["missing_in_training"] == pytest.approx(shares[broken])
    assert facts["missing_on_day"] - facts["missing_in_training"] > LIMITS.max_missing_change


# Cost


class Network(nn.Module):
    """Numbers through a layer of some width, so many times."""

    def __init__(self, width: int, times: int = 1) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 2)
        self.times = times

    def forward(self, categories_BC, numbers_BN, vectors_B2V):
        for _ in range(self.times):
            found = self.last(self.first(numbers_BN))
        return found


def batch(n: int) -> Batch:
    zeros = np.zeros((n, 2), np.float32)
    return Batch(np.zeros((n, 3), np.int64), zeros, np.zeros((n, 2, 3), np.float32), zeros)


def test_operations_are_those_of_the_matrix_products():
    """By hand: 2 · 2 · 8 into the layer and 2 · 8 · 2 out of it, a multiplication and an addition
    each; whatever the rows, and however often they are counted."""
    torch.manual_seed(0)
    models = {"champion": Network(8), "challenger": Network(8, times=10)}
    expected = {"champion_operations": 64.0, "challenger_operations": 640.0}
    for n in (1, 256):
        assert guardrails.cost_facts(models, batch(n)) == expected


def test_attention_counts_as_its_matrix_products():
    """By hand, of 7 fields of width 6 with 2 heads of width 8: the kernel is not the device's."""
    options = {"field_width": 6, "number_fields": 2, "layers": 1, "attention_heads": 2}
    model = build("autoint", SPEC, read_options("autoint", options))
    fields = 2 * 2 * 12 + 3 * 2 * 3 * 6  # numbers, and three projections of vectors
    linear = 2 * 7 * 6 * (3 * 16 + 16)  # queries, keys and values; the residual
    attention = 2 * (2 * 2 * 7 * 7 * 8)  # scores, and weighted values
    heads = 2 * 7 * 16 * 2
    assert operations(model, batch(16)) == fields + linear + attention + heads


def test_a_challenger_that_takes_ten_times_as_long_is_found():
    models = {"champion": Network(512), "challenger": Network(512, times=10)}
    assert guardrails.seconds_ratio(models, batch(512)) > LIMITS.max_seconds_ratio
    same = {"champion": Network(512), "challenger": Network(512)}
    assert guardrails.seconds_ratio(same, batch(512)) < LIMITS.max_seconds_ratio
