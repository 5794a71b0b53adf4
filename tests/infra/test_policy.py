"""Checkov's policies, in a virtual environment of its own: `make check-manifests` creates it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml
from manifests import DOCKERFILE, PRODUCTION, ROOT, rendered

CHECKOV = ROOT / ".checkov" / "bin" / "checkov"  # its packages clash with the pinned ones


@pytest.mark.slow
@pytest.mark.skipif(
    not CHECKOV.exists(), reason="without Checkov: make check-manifests installs it"
)
def test_no_policy_is_violated(tmp_path):
    # Without the template of executors: Spark adds their image and resources.
    objects = [document for document in rendered(PRODUCTION) if document["kind"] != "Pod"]
    (tmp_path / "chart.yaml").write_text(yaml.safe_dump_all(objects))
    shutil.copy(DOCKERFILE, tmp_path)
    line = [CHECKOV, "--directory", tmp_path, "--config-file", ROOT / ".checkov.yaml"]
    ran = subprocess.run([*line, "--output", "json"], capture_output=True, text=True)
    reports = {report["check_type"]: report for report in json.loads(ran.stdout)}
    assert reports.keys() == {"kubernetes", "dockerfile"}
    for report in reports.values():
        failed = report["results"]["failed_checks"]
        assert [(it["check_id"], it["resource"]) for it in failed] == []
        assert report["summary"]["passed"] > 100
