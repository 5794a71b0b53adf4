"""The pages beside the registry's own, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from prepared import complete
from starlette.requests import Request

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors
from jobs.local.registry_app import lineage_link
from jobs.pipeline.tracking.runs import VIEW
from jobs.settings import load_settings
from tests.ports import reserve_port

CHROMIUM = Path("/usr/bin/chromium")
DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]
SETTINGS = """
home = "home"
[source]
kind = "edgelist"
path = "log"
[services]
live = false
[mlflow]
uri = "off"
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The service of a home with a log of three days, of which one is complete."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "log").mkdir()
    for day in DAYS:
        seconds = (day - date(1970, 1, 1)).days * 86_400
        (folder / "log" / f"{day}.txt").write_text(f"c1 p1 {seconds}\n")
    (folder / "settings.toml").write_text(SETTINGS)
    settings = load_settings(folder / "settings.toml")
    complete(settings, DAYS[0], anchor=DAYS[0])
    address = f"http://127.0.0.1:{(port := reserve_port())}"
    command = [sys.executable, "-m", "uvicorn", "--factory", "jobs.local.registry_app:app"]
    environment = os.environ | {
        "EVERGREEN_SETTINGS": str(folder / "settings.toml"),
        "EVERGREEN_REGISTRY_ROOT": str(settings.registry_root),
    }
    server = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "warning"], env=environment
    )
    wait_for(address, server)
    yield address, folder
    server.terminate()
    server.wait()


def wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, "the service has ended"
        try:
            httpx.get(f"{address}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the service does not listen")


def test_a_visitor_sees_what_is_stale_and_why(service):
    """From the front page, by its link; the figures are those of the JSON."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: run `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    address, _ = service
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=address, java_script_enabled=False)
        page.goto("/")
        page.get_by_role("link", name="Status").click()
        data = page.locator("section", has_text="data").first
        assert "2024-03-02 to 2024-03-03" in data.inner_text()
        assert "land is missing" in data.inner_text()
        ranker = page.locator("section", has_text="ranker").last
        assert "no impressions" in ranker.inner_text()
        page.get_by_role("link", name="Recommend").click()
        assert page.get_by_label("Consumer").is_visible()
        browser.close()
    found = httpx.get(f"{address}/v1/status").json()
    assert [part["newest"] for part in found["parts"]] == ["2024-03-01", "2024-03-01", None]


def test_a_log_that_is_gone_is_said_and_the_registry_goes_on(service):
    address, folder = service
    (folder / "log").rename(folder / "away")
    try:
        # The same process has seen the log before.
        response = httpx.get(f"{address}/v1/status")
    finally:
        (folder / "away").rename(folder / "log")
    assert (response.status_code, "There is no file at" in response.text) == (503, True)
    assert httpx.get(f"{address}/").status_code == 200


def test_the_lineage_of_a_version_leads_to_its_runs(service):
    """Under the host that the browser used."""
    address, folder = service
    settings = load_settings(folder / "settings.toml")
    runs = {"mlflow_run": "abc", "airflow_run": "embeddings_daily/scheduled__2024-03-02T00:00"}
    one = np.ones(1, np.int32)
    vectors = Vectors(np.array([b"a"]), np.ones((1, 2), np.float32), one, np.zeros(1, bool))
    fold_in = SVDFoldIn(vectors.vectors, np.ones(1))
    registry = settings.open_registry()
    registry.publish("other", DAYS[0], "space", {"producer": vectors}, fold_in, runs)
    page = httpx.get(f"{address.replace('127.0.0.1', 'localhost')}/embeddings/other/latest").text
    links = re.findall(r'<dd><a href="([^"]+)">', page)
    ports = settings.services
    assert links == [
        f"http://localhost:{ports.airflow_port}/dags/embeddings_daily/runs/"
        "scheduled__2024-03-02T00%3A00",
        f"http://localhost:{ports.mlflow_port}/#/runs/abc?workflowType=machine_learning",
    ]


def test_no_page_shows_the_login_of_mlflow(service, monkeypatch):
    """The pages can be read by anybody who reaches them."""
    _, folder = service
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(folder / "settings.toml"))
    monkeypatch.setenv("EVERGREEN_MLFLOW__URI", "http://ann:secret@mlflow.example:5000/")
    request = Request({"type": "http", "headers": [], "server": ("localhost", 1), "path": "/"})
    address = lineage_link(request, "mlflow_run", "abc")
    assert address == f"http://mlflow.example:5000/#/runs/abc{VIEW}"
