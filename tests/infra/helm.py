"""Helm in a process of its own: `python helm.py CHART < request`.

The request is JSON: values, release, namespace, Kubernetes' version. The answer has Helm's findings
and the rendered files. Helm is Go, whose threads and signal handlers do not belong in pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

KUBERNETES = "1.34"  # whose schemas the manifests are validated against


def helm(chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    """`messages` of `helm lint --strict`, and the `files` of `helm template`, or the `error`."""
    command = [sys.executable, "-P", __file__, str(chart)]
    ran = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def main() -> None:
    import helm_python

    chart, values = sys.argv[1], json.load(sys.stdin)
    report = helm_python.lint(chart, values, strict=True, kube_version=f"v{KUBERNETES}.0")
    answer = {"messages": report["messages"], "errors": report["errors"], "files": {}, "error": ""}
    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            rendering = {"name": "evergreen", "namespace": "evergreen", "is_upgrade": True}
            answer["files"] = loaded.render(values, **rendering)
    except helm_python.HelmError as error:
        answer["error"] = str(error)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
