"""Co-occurrence from the matrix to the registry: published, rotated as one, and folded in."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from engagement_lake import DAYS, commit_day, engagement_settings, random_day
from pydantic import ValidationError

from embeddings.blocks import load_blocks
from embeddings.fold_in.base import load_fold_in
from jobs.settings import EmbeddingSettings, MatrixSettings, Settings
from jobs.steps import align, benchmark, consistency, embed, fold_in, lookalike, matrix, publish

STEPS = (matrix, embed, align, fold_in, lookalike, benchmark, publish, consistency)


@pytest.mark.parametrize("pairs", ["baskets", "sessions", "direct"])
def test_a_day_is_published_and_later_consumers_score_as_fitted_ones(spark, tmp_path, pairs):
    """Histories of the fit, folded in online, have the products that the embedder found."""
    embedding = EmbeddingSettings(
        name="author",
        method="cooccurrence",
        dim=6,
        cooccurrence={"pairs": pairs, "epochs": 3, "batches": 5},
    )
    settings = engagement_settings(tmp_path)
    minutes = 30 if pairs == "sessions" else 0
    sessions = settings.matrix.model_copy(update={"session_minutes": minutes})
    settings = settings.model_copy(update={"embedding": embedding, "matrix": sessions})
    rows = random_day(0)
    times = np.random.default_rng(0).integers(0, 86_400_000, len(rows)).tolist()
    commit_day(settings, DAYS[0], rows, times)
    for step in STEPS:
        step.run(spark, settings, DAYS[0])
    home = {step: settings.lake.get(step, DAYS[0]).path for step in ("matrix", "embed")}
    raw_producers = np.load(home["embed"] / "producers.npy")
    registry = settings.open_registry()
    names = [name.decode() for name in np.load(home["matrix"] / "producers.npy")]
    published = registry.load(registry.version("author", DAYS[0])).entities["producer"]
    producers = published.vectors[published.rows(names)]
    assert not np.allclose(producers, raw_producers)  # a rotation took place
    block = load_blocks(home["matrix"] / "fitted")[0]
    raw = np.load(home["embed"] / "consumers" / "block-00000.npy")
    for row in range(5):
        pairs_of_row = slice(block.indptr[row], block.indptr[row + 1])
        strengths = block.strengths[pairs_of_row]
        engaged = [names[j] for j in block.indices[pairs_of_row]]
        online = registry.fold_in("author", dict(zip(engaged, strengths, strict=True)))
        np.testing.assert_allclose(producers @ online.vector, raw_producers @ raw[row], atol=1e-4)


def test_what_is_learned_from_sessions_is_what_occurs_in_one(spark, tmp_path):
    """Everyone engages with all producers, with those of one half at a time."""
    embedding = EmbeddingSettings(
        name="author", method="cooccurrence", dim=4, cooccurrence={"pairs": "sessions"}
    )
    sessions = MatrixSettings(session_minutes=30, min_engagements=1)
    settings = engagement_settings(tmp_path)
    settings = settings.model_copy(update={"embedding": embedding, "matrix": sessions})
    rows, times = [], []
    for consumer in range(40):
        for hour, half in enumerate((0, 1)):
            for producer in range(10):
                rows.append((f"c{consumer}", f"p{half}{producer}", "like"))
                times.append(hour * 3_600_000 + producer * 60_000)
    commit_day(settings, DAYS[0], rows, times)
    for step in (matrix, embed):
        step.run(spark, settings, DAYS[0])
    home = {step: settings.lake.get(step, DAYS[0]).path for step in ("matrix", "embed")}
    names = [name.decode() for name in np.load(home["matrix"] / "producers.npy")]
    fold_in = load_fold_in(home["embed"] / "fold_in")
    producers = np.load(home["embed"] / "producers.npy")
    half = np.array([name[1] == "1" for name in names])
    for of_history in (half, ~half):
        history = sp.csr_matrix(of_history[np.newaxis].astype(np.float32))
        scores = producers @ fold_in.fold(history)[0]
        assert scores[of_history].min() > scores[~of_history].max()


def test_sessions_that_the_matrix_does_not_have_are_an_error(tmp_path):
    embedding = EmbeddingSettings(method="cooccurrence", cooccurrence={"pairs": "sessions"})
    settings = engagement_settings(tmp_path)
    with pytest.raises(ValidationError, match="embedding.cooccurrence.pairs.*session_minutes"):
        Settings(home=tmp_path, source=settings.source, embedding=embedding)
    with pytest.raises(ValidationError, match="further.short.cooccurrence.pairs"):
        further = {"short": embedding.model_dump(exclude={"name"})}
        Settings(home=tmp_path, source=settings.source, further=further)
