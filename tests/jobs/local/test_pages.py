"""Links that people follow: Airflow's navigation, and from a task to the version it published."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import date
from types import SimpleNamespace

import pytest
from prepared import complete, publish
from pydantic import ValidationError

from jobs.lake.store import Partition
from jobs.local.environment import environment, pages
from jobs.local.pages import version_page
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import MLflowSettings, ServiceSettings, Settings
from jobs.sources.edgelist import EdgelistSettings

DAY = date(2024, 3, 1)
NAME = socket.gethostname()
EXPERIMENTS = "/#/experiments?workflowType=machine_learning"

# Airflow's own imports come first: only the plugin is measured.
LOAD = """
import json, time
from airflow import plugins_manager
began = time.process_time()
(plugin,) = [p for p in plugins_manager._get_plugins()[0] if p.name == "evergreen_pages"]
seconds = time.process_time() - began
(info,) = [p for p in plugins_manager.get_plugin_info() if p["name"] == plugin.name]
print(json.dumps({"seconds": seconds, "views": info["external_views"]}))
"""


@pytest.fixture
def settings(tmp_path) -> Settings:
    log = tmp_path / "log.txt"
    log.write_text("c1 p1 1709294400\n")
    return Settings(home=tmp_path / "home", source=EdgelistSettings(kind="edgelist", path=log))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8090"),
        ("10.0.0.5", "http://10.0.0.5:8090"),
        ("fd00::5", "http://[fd00::5]:8090"),
        ("0.0.0.0", f"http://{NAME}:8090"),
        ("::", f"http://{NAME}:8090"),
    ],
)
def test_a_browser_on_another_machine_is_led_to_where_a_service_listens(host, address):
    assert ServiceSettings(host=host).public_address(8090) == address


@pytest.mark.parametrize("public_host", ["ranker.example.org", "192.168.0.7", "fd00::7"])
def test_every_stored_link_has_the_public_host(settings, public_host, monkeypatch):
    """The navigation, the runs of MLflow, and their way back to Airflow; clients here do not."""
    services = ServiceSettings(host="0.0.0.0", public_host=public_host, password="p" * 12)
    own = MLflowSettings(uri=services.address(services.mlflow_port))
    settings = settings.model_copy(update={"services": services, "mlflow": own})
    there = f"[{public_host}]" if ":" in public_host else public_host
    assert pages(settings)["Registry"] == f"http://{there}:8090"
    assert pages(settings.model_copy(update={"mlflow": MLflowSettings()}))["MLflow"] == (
        f"http://{there}:5000{EXPERIMENTS}"
    )
    run = SimpleNamespace(info=SimpleNamespace(experiment_id="1", run_id="r"))
    tracker = Tracker(settings)
    assert tracker.run_address(run).startswith(f"http://{there}:5000/#/experiments/1/runs/r")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "nightly")
    assert tracker._airflow_tags()["airflow_address"].startswith(f"http://{there}:8080/dags/")
    assert services.address(8090) == "http://127.0.0.1:8090"
    elsewhere = MLflowSettings(uri="https://mlflow.example.org")
    tracker = Tracker(settings.model_copy(update={"mlflow": elsewhere}))
    assert tracker.run_address(run).startswith("https://mlflow.example.org/#/experiments/1/runs/r")


@pytest.mark.parametrize("public_host", ["http://me", "me:8090", "-me", "me/there", "a b"])
def test_a_public_host_that_is_none_is_refused(public_host):
    with pytest.raises(ValidationError, match="a host name or an IP address, without a scheme"):
        ServiceSettings(public_host=public_host)


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("", f"http://127.0.0.1:5000{EXPERIMENTS}"),
        ("https://user:secret@mlflow.example.org/", f"https://mlflow.example.org{EXPERIMENTS}"),
        ("sqlite:////data/mlflow.db", None),
        ("off", None),
    ],
)
def test_the_navigation_leads_to_mlflow_where_it_has_pages(settings, uri, page):
    """Without the login of its address: everybody sees the navigation."""
    found = pages(settings.model_copy(update={"mlflow": MLflowSettings(uri=uri)}))
    assert found == {"Registry": "http://127.0.0.1:8090"} | ({"MLflow": page} if page else {})


def test_airflow_loads_an_entry_for_every_page_at_once(settings):
    command = [sys.executable, "-c", LOAD]
    env = os.environ | environment(settings)
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert {view["name"]: view["href"] for view in found["views"]} == pages(settings)
    assert all(view["destination"] == "nav" and view["nav_top_level"] for view in found["views"])
    assert found["seconds"] < 0.5


def test_a_task_links_to_the_revision_that_it_published(settings):
    """Also after the day was published again with other content."""
    complete(settings, DAY, anchor=DAY)
    partition = settings.lake.get("publish", DAY)
    page = f"http://127.0.0.1:8090/embeddings/{settings.embedding.name}/{DAY}.r1"
    assert version_page(settings, partition) == page
    assert publish(settings, DAY, value=0.5).revision == 2
    assert version_page(settings, partition) == page


@pytest.mark.parametrize("step", ["promote", "train"])
def test_a_task_without_a_version_links_to_none(settings, step):
    nothing = {"embedding": ""} if step == "promote" else {"embedding": "author/2024-03-01@0"}
    partition = Partition(step, DAY, settings.home, "d", nothing, {}, "r", {})
    assert version_page(settings, partition) == ""
