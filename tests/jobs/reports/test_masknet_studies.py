"""The studies of MaskNet: on a small log and on small files, and what is said of masks."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from ranker_lake import DAYS, commit_days_with_examples, ranker_settings

from embeddings.benchmarks.auc import auc
from jobs.errors import EvergreenError
from jobs.reports.masknet import masks, run
from jobs.reports.masknet.masks import CONTROL, MASKED, VALUES
from jobs.reports.masknet.variants import variants
from jobs.reports.movielens import MovieLens
from jobs.reports.next_day import NextDay, newest_rows
from jobs.settings import RankerSettings
from models.inspection import Masks


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> NextDay:
    """Trained on two days of 200 rows, tested on a third."""
    options = {"field_width": 4, "block_width": 8, "hidden": (8,)}
    settings = ranker_settings(tmp_path_factory.mktemp("home"), masknet=options)
    commit_days_with_examples(settings, DAYS[:3])
    return NextDay(settings, [settings.lake.get("examples", day) for day in DAYS[:3]])


def test_a_study_trains_its_networks_and_compares_them_with_the_one_as_set(
    trial, tmp_path, monkeypatch
):
    """One structure, two seeds: figures, differences, masks and pictures of the log alone."""
    monkeypatch.setattr(run, "next_day_trials", lambda *_: iter([trial]))
    report = run.run(trial.settings, None, ["ablation", "masks"], ["serial"], 2, 1, None, tmp_path)
    networks = rows_of(tmp_path / "masknet-studies-networks.csv")
    names = ["as set", "no mask", "no layer norm", "no feed-forward"]
    assert [(row["structure"], row["name"]) for row in networks] == [
        ("serial", name) for name in names
    ]
    # Not a copy of one network: every change has other weights.
    assert len({row["auc"] for row in networks}) == len(networks)
    sizes = {row["name"]: float(row["parameters"]) for row in networks}
    assert sizes["no mask"] < sizes["as set"]
    differences = rows_of(tmp_path / "masknet-studies-differences.csv")
    assert len(differences) == 3
    inspected = rows_of(tmp_path / "masknet-studies-mask-fields.csv")
    assert {row["field"] for row in inspected} >= {"item", "numbers", "consumer vector"}
    assert {file.name for file in tmp_path.glob("*.png")} == {
        f"masknet-studies-{report.settings.source.kind}{what}.png"
        for what in ("", "-fields", "-masks")
    }


def test_equal_networks_are_trained_once(trial, monkeypatch):
    """The ratio as set is also one of the study."""
    trained = []
    fit = NextDay.fit

    def counted(self, kind, seed, options):
        trained.append(options.ratio)
        return fit(self, kind, seed, options)

    monkeypatch.setattr(NextDay, "fit", counted)
    plan = run.Plan(variants(["ratio"], ["parallel"]), inspect=False, seeds=1, rows=None)
    found = run.Found()
    run.measure(trial, plan, found, lambda _: None)
    assert sorted(trained) == [1, 2, 3, 4, 5]
    figures = {row["kind"]: row["auc"] for row in found.runs}
    assert figures["parallel ratio 2"] == figures["parallel as set"]
    assert len(set(figures.values())) == 5


def test_fewer_rows_are_the_newest_ones(trial):
    days = trial.days[:2]
    kept = newest_rows(days, 250)
    assert [len(day) for day in kept] == [50, 200]
    np.testing.assert_array_equal(kept[0].labels, days[0].labels[-50:])
    assert [len(day) for day in newest_rows(days, 10_000)] == [200, 200]


def test_an_unknown_study_or_structure_is_named_with_the_known_ones():
    with pytest.raises(EvergreenError, match="no ablaton. Choose of: ablation, size"):
        variants(["ablaton"], [])
    with pytest.raises(EvergreenError, match="no both. Choose of: parallel, serial"):
        variants([], ["both"])


def test_figures_of_masks_are_means_over_blocks_and_rows_of_their_fields():
    """Two blocks, one row, two groups: the first has one field, the second two, of width 1."""
    values = np.array([[[[1.0], [0.05], [-2.0]]], [[[3.0], [0.0], [4.0]]]])
    found = masks.figures_of_masks(
        Masks(
            names=("a", "b"),
            effects=np.array([[[0.0, -0.5], [0.0, 0.25]]]),
            logits=np.zeros((1, 2)),
            control=np.zeros((1, 2)),
            values=values,
            unmasked_layer=np.full(values.shape, 2.0),
            groups=([0], [1, 2]),
        ),
        label=1,
    )
    assert found.effects.tolist() == [0.5, 0.25]
    assert found.signed.tolist() == [-0.5, 0.25]
    np.testing.assert_allclose(found.strengths, [2, 6.05 / 4])
    assert found.layers[VALUES].near_zero == pytest.approx(2 / 6)
    assert found.layers[MASKED].near_zero == pytest.approx(1 / 6)  # 2 · 0.05 is no longer below
    assert found.layers[CONTROL].mean == 2


# MovieLens


@pytest.fixture
def movielens(tmp_path) -> Path:
    """Four viewers and four films in the layout of the published files; 200 ratings."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.occupation").write_text("artist\ndoctor\n")
    viewers = ["1|24|M|doctor|85711", "2|53|F|artist|94043", "3|9|F|doctor|1", "4|73|M|artist|V1A"]
    (folder / "u.user").write_text("\n".join(viewers) + "\n")
    genres = [
        "|".join("1" if number in (film, 5) else "0" for number in range(19)) for film in range(4)
    ]
    films = [f"{n + 1}|Été|01-Jan-199{n}||http://x|{genres[n]}" for n in range(3)]
    films.append(f"4|unknown||||{genres[3]}")
    (folder / "u.item.gz").write_bytes(gzip.compress("\n".join(films).encode("latin-1")))
    rng = np.random.default_rng(0)
    lines = []
    for number in rng.permutation(200):
        film = int(rng.integers(1, 5))
        stars = int(rng.integers(1, 4)) + 2 * (film % 2)
        lines.append(f"{rng.integers(1, 5)}\t{film}\t{stars}\t{86_400 * 4 + 3600 * number}")
    (folder / "u.data.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


def test_the_layout_of_movielens_is_read_in_the_order_of_time(movielens):
    trial = MovieLens(movielens, RankerSettings())
    assert (len(trial.trained), len(trial.validation), len(trial.tested)) == (160, 20, 20)
    names = [column.name.removeprefix("hash_") for column in trial.spec.categorical]
    first, last = (day.categories[0] for day in (trial.trained, trial.tested))
    row = dict(zip(names, first.tolist(), strict=True))
    # The first rating is at midnight of a Monday, 1970-01-05; the first tested one 180 hours later.
    assert (row["hour"], row["weekday"]) == (0, 0)
    assert dict(zip(names, last.tolist(), strict=True))["hour"] == 180 % 24
    ages, decades = {0: 2, 1: 5, 2: 0, 3: 7}, {0: 9, 1: 9, 2: 9, 3: 0}
    assert row["age"] == ages[row["viewer"]]
    assert row["gender"] == (row["viewer"] in (1, 2))
    assert row["occupation"] == (row["viewer"] % 2 == 0)
    assert row["decade"] == decades[row["film"]]
    on = {number for number in range(19) if row[f"genre_{number}"]}
    assert on == {row["film"], 5}
    trial.trained.check(trial.spec)


def test_liked_films_are_learned(movielens):
    trial = MovieLens(movielens, RankerSettings())
    trial.keep(100)
    assert len(trial.training_rows(np.random.default_rng(0))) == 100
    outcome = trial.fit("dnn", seed=0)
    # Odd films have two stars more: 3 to 5 against 1 to 3.
    liked = trial.tested.categories[:, 1] % 2 == 0
    assert auc(liked, outcome.scores) == 1
