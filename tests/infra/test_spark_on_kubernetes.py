"""Spark on Kubernetes as production.yaml has it: the pods that it asks for, and a job in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from helm import KUBERNETES
from kubernetes_api import Pods, server
from manifests import PRODUCTION, ROOT, rendered
from ports import reserve_port

# Every member of a barrier job says in which executor its Python runs.
DRIVER = """
import json, sys
from jobs.settings import load_settings
from jobs.spark.session import spark_session

def member(batches):
    import os
    import pyarrow as pa
    for _ in batches:
        pass
    yield pa.RecordBatch.from_pydict({"executor": [os.environ["SPARK_EXECUTOR_ID"]]})

settings = load_settings(sys.argv[1])
spark = spark_session(settings)
ranks = spark.range(0, settings.spark.members, 1, settings.spark.members)
rows = ranks.mapInArrow(member, "executor string", barrier=True).collect()
print(json.dumps(sorted(row.executor for row in rows)))
spark.stop()
"""


def of_production(folder: Path, api: str) -> Path:
    """The settings of production.yaml, with two small executors at this API."""
    (text,) = [
        document["data"]["evergreen.toml"]
        for document in rendered(PRODUCTION)
        if "evergreen.toml" in document.get("data", {})
    ]
    (template,) = [document for document in rendered(PRODUCTION) if document["kind"] == "Pod"]
    (folder / "executor.yaml").write_text(yaml.safe_dump(template))
    changes = {
        "https://kubernetes.default.svc": api,
        "/etc/evergreen/settings/executor.yaml": str(folder / "executor.yaml"),
        '"spark.executor.instances" = "4"': '"spark.executor.instances" = "2"',
        '"spark.executor.cores" = "2"': '"spark.executor.cores" = "1"',
        '"spark.executor.memory" = "6g"': '"spark.executor.memory" = "512m"',
        "members = 8": "members = 2",
        '"7078"': f'"{reserve_port()}"',
        '"7079"': f'"{reserve_port()}"',
    }
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    (folder / "evergreen.toml").write_text(
        text + '"spark.kubernetes.executor.apiPollingInterval" = "1s"\n'
    )
    return folder / "evergreen.toml"


@pytest.mark.slow
def test_a_barrier_job_runs_in_executors_that_are_pods(tmp_path):
    pods = Pods(tmp_path)
    api = server(pods)
    try:
        settings = of_production(tmp_path, f"http://127.0.0.1:{api.server_port}")
        line = [sys.executable, "-c", DRIVER, str(settings)]
        ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200)
    finally:
        pods.stop()
        api.shutdown()
        api.server_close()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == ["1", "2"]
    assert len(pods.created) == 2
    for pod in pods.created:
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["automountServiceAccountToken"] is False
        assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "evergreen"
        (container,) = spec["containers"]
        assert container["image"] == "registry.example.org/evergreen:0.1.0"
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["limits"]["memory"] == "4608Mi"  # 512 and 4096
