"""Alert rules and dashboard name what is exported; each alert has a test and a runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import VectorSelector

from jobs.local.registry_app import app
from tests.http_server import serving
from tests.jobs.measured_home import build
from tests.ports import reserve_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "monitoring"
OF_PROMETHEUS = {"up": {"job", "instance"}}  # what Prometheus adds by itself
ADDED = {"job", "instance"}  # labels that it adds to every series
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


def alerts() -> list[dict]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict]:
    """Those of the dashboard that have queries."""
    found = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def query(expression: str) -> str:
    """An expression of the dashboard with values for Grafana's variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def expressions() -> list[str]:
    of_panels = [query(target["expr"]) for panel in panels() for target in panel["targets"]]
    return [rule["expr"] for rule in alerts()] + of_panels


def selectors(expression: str) -> list[VectorSelector]:
    """The metrics that an expression names. Raises ValueError where it is not PromQL."""
    found: list[VectorSelector] = []

    def visit(node) -> None:
        if isinstance(node, VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[str]:
    """The address of the service of a home that has everything, and was asked for something."""
    settings = build(tmp_path_factory.mktemp("monitored"))
    with settings.open_registry() as registry:
        assert dict(registry.verify_all())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_SETTINGS", str(settings.home.parent / "settings.toml"))
        patch.setenv("EVERGREEN_REGISTRY_ROOT", str(settings.registry_root))
        with serving(app()) as address:
            assert httpx.get(f"{address}/v1/embeddings").status_code == 200
            yield address


@pytest.fixture(scope="module")
def exported(service) -> dict[str, set[str]]:
    """Every metric that the service exports -> the names of its labels."""
    text = httpx.get(f"{service}/metrics", timeout=60).text
    found = dict(OF_PROMETHEUS)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_exported_metrics_and_their_labels(exported, expression):
    named = selectors(expression)
    assert named
    for selector in named:
        labels = exported[selector.name] | ADDED
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels, selector.name
    for labels in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression):
        known = set().union(*(exported[selector.name] for selector in named)) | ADDED
        assert set(labels.replace(" ", "").split(",")) <= known


def test_a_legend_names_labels_that_its_metric_has(exported):
    for panel in panels():
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            named = selectors(query(target["expr"]))
            assert labels <= set().union(*(exported[selector.name] for selector in named))


def test_the_dashboard_has_no_two_panels_in_one_place():
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
        assert panel["description"].endswith(".")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in alerts()])
def test_an_alert_is_tested_where_it_fires_and_where_it_does_not(alert):
    outcomes = set()
    for case in yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]:
        for test in case["alert_rule_test"]:
            if test["alertname"] == alert:
                outcomes.add(bool(test["exp_alerts"]))
    assert outcomes == {True, False}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_section_of_the_documentation(rule):
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_rules_and_passes_their_tests(arguments):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: run `apt-get install prometheus`")
    result = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def prometheus(service, tmp_path) -> Iterator[str]:
    """The address of a Prometheus with our file, which scrapes the service every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: run `apt-get install prometheus`")
    text = (FOLDER / "prometheus.yml").read_text()
    text = text.replace("15s", "1s").replace("127.0.0.1:8090", service.removeprefix("http://"))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    address = f"127.0.0.1:{reserve_port()}"
    command = [program, "--config.file", "prometheus.yml", "--web.listen-address", address]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait()


def asked(prometheus: str, expression: str) -> list[dict]:
    """The series that a query returns now."""
    response = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression})
    return response.raise_for_status().json()["data"]["result"]


@pytest.mark.slow
def test_a_real_prometheus_has_numbers_for_every_panel(prometheus):
    """And the alert about the failed step of the home is waiting for its time to be over."""
    deadline = time.monotonic() + 60
    missing = [query(target["expr"]) for panel in panels() for target in panel["targets"]]
    alarms: set[str] = set()
    while (missing or "EvergreenStepFailed" not in alarms) and time.monotonic() < deadline:
        time.sleep(1)
        with suppress(httpx.TransportError):  # it has not started yet
            missing = [one for one in missing if not asked(prometheus, one)]
            found = httpx.get(f"{prometheus}/api/v1/alerts").json()["data"]["alerts"]
            alarms = {alert["labels"]["alertname"] for alert in found}
    assert missing == []
    assert "EvergreenStepFailed" in alarms
