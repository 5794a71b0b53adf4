"""A home moves from its SQLite files to a PostgreSQL server."""

from __future__ import annotations

from datetime import date

import mlflow
import pytest
from sqlalchemy import text

from embeddings.registry.errors import CatalogError
from jobs.local.moving import MoveError, move, opened
from jobs.local.single import sole_runner
from jobs.local.supervisor import ServiceError
from jobs.settings import DatabaseSettings, RegistrySettings, Settings
from jobs.tuning.study import Plan, ask, open_study, with_values
from tests.embeddings.registry.registry_parts import publish
from tests.one_row_home import home_settings

DAY = date(2022, 4, 25)
PLAN = Plan("embedding", [DAY], 0, {}, "a digest")


def told(settings: Settings, slot: int) -> None:
    """One more trial of the study, with its value."""
    study = open_study(settings, PLAN)
    trial = ask(study, slot, PLAN.seed)
    rate = trial.suggest_float("rate", 0.001, 1, log=True)
    study.tell(trial, rate / 3)


def on_server(settings: Settings, url: str, prefix: str) -> Settings:
    return settings.model_copy(update={"database": DatabaseSettings(url=url, prefix=prefix)})


def test_a_study_goes_on_where_it_was(server_url, tmp_path):
    """Its further trials are drawn as they would have been."""
    settings = home_settings(tmp_path / "moved")
    alike = home_settings(tmp_path / "stayed")
    for each in (settings, alike):
        told(each, 0)
        told(each, 1)
    moved = on_server(settings, server_url, "studies")
    lines: list[str] = []
    move(moved, lines.append)
    assert "nothing to copy" in lines[0]
    again: list[str] = []
    move(moved, again.append)  # as after a failure: compared only
    assert again == lines
    told(moved, 2)
    told(alike, 2)
    ours, theirs = with_values(open_study(moved, PLAN)), with_values(open_study(alike, PLAN))
    assert [(t.number, t.params, t.value) for t in ours] == [
        (t.number, t.params, t.value) for t in theirs
    ]
    assert len(ours) == 3


def test_a_database_of_another_schema_is_refused(server_url, tmp_path):
    settings = home_settings(tmp_path)
    told(settings, 0)
    with opened(settings.database_address("tuning")) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE version_info SET schema_version = 7"))
    moved = on_server(settings, server_url, "schema")
    with pytest.raises(MoveError, match="Upgrade the old database first"):
        move(moved, print)


def test_nothing_moves_while_the_services_run(server_url, tmp_path):
    settings = on_server(home_settings(tmp_path), server_url, "running")
    with sole_runner(settings.home), pytest.raises(ServiceError, match="run already"):
        move(settings, print)


@pytest.mark.slow
def test_a_whole_home_moves(server_url, tmp_path, monkeypatch):
    """MLflow's own client and the registry find on the server what was in the files."""
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # nothing stays open
    settings = home_settings(tmp_path)
    with settings.open_registry() as registry:
        publish(registry, DAY)
        history = registry.history("author")
    (settings.home / "mlflow").mkdir()
    client = mlflow.MlflowClient(settings.mlflow_uri)
    experiment = client.create_experiment("embeddings", str(tmp_path / "artifacts"))
    run = client.create_run(experiment, tags={"day": str(DAY)})
    client.log_metric(run.info.run_id, "ndcg", 0.1 + 0.2)
    client.log_param(run.info.run_id, "dim", "é" * 300)
    client.set_terminated(run.info.run_id)
    client.create_registered_model("ranker", description="a ranker")
    client.create_model_version("ranker", str(tmp_path), run.info.run_id)
    client.set_registered_model_alias("ranker", "champion", "1")
    wanted = client.get_run(run.info.run_id)

    moved = on_server(settings, server_url, "whole")
    move(moved, print)
    there = mlflow.MlflowClient(moved.mlflow_uri)
    found = there.get_run(run.info.run_id)
    assert (found.info, found.data.metrics) == (wanted.info, wanted.data.metrics)
    assert (found.data.params, found.data.tags) == (wanted.data.params, wanted.data.tags)
    assert there.get_model_version_by_alias("ranker", "champion").run_id == run.info.run_id
    assert there.create_run(experiment).info.experiment_id == experiment
    with moved.open_registry() as registry:
        assert registry.history("author") == history
        assert publish(registry, DAY, seed=1).revision == 2


def test_what_is_placed_elsewhere_stays_there(server_url, tmp_path):
    settings = home_settings(tmp_path)
    with settings.open_registry() as registry:
        publish(registry, DAY)
    other = RegistrySettings(url=f"sqlite:///{tmp_path}/other.db")
    moved = on_server(settings, server_url, "apart").model_copy(update={"registry": other})
    lines: list[str] = []
    move(moved, lines.append)
    assert lines[0].startswith("registry   is elsewhere by registry.url")


def test_a_database_with_other_rows_is_refused(server_url, tmp_path):
    settings = home_settings(tmp_path)
    told(settings, 0)
    moved = on_server(settings, server_url, "other")
    move(moved, print)
    told(moved, 1)
    with pytest.raises(CatalogError, match="has rows in the table 'studies' already"):
        move(moved, print)
