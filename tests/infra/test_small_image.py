"""The registry runs with what its image installs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from manifests import ROOT
from packaging.requirements import Requirement

REGISTRY = """
import os, sys
from pathlib import Path

class OnlyWhatIsInstalled:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, OnlyWhatIsInstalled)
os.environ["EVERGREEN_REGISTRY_ROOT"] = sys.argv[1]
Path(sys.argv[1]).mkdir()
import faiss, psycopg, uvicorn
import embeddings.fold_in.als, embeddings.fold_in.svd, embeddings.registry.approximate
from embeddings.registry.service import app_from_environment
from starlette.testclient import TestClient
print(TestClient(app_from_environment()).get("/healthz").text)
"""


def installed(file: Path) -> set[str]:
    """The distributions that pip installs for a list of requirements."""
    lines = file.read_text().splitlines()
    waiting = [Requirement(line) for line in lines if not line.startswith("#")]
    found: set[tuple[str, ...]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (normal(requirement.name), *sorted(requirement.extras))
        if key in found:
            continue
        found.add(key)
        for text in requires(requirement.name) or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return {name for name, *_ in found}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def run(folder: Path, missing: set[str]) -> subprocess.CompletedProcess:
    """The registry in a fresh process, without these modules."""
    line = [sys.executable, "-c", REGISTRY, str(folder), *sorted(missing)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_the_registry_starts_in_the_small_image(tmp_path):
    present = installed(ROOT / "infra" / "images" / "registry.txt") | {"evergreen"}
    missing = set()
    for module, owners in packages_distributions().items():
        if not {normal(owner) for owner in owners} & present:
            missing.add(module)
    assert missing >= {"airflow", "mlflow", "pyspark", "torch"}
    ran = run(tmp_path / "registry", missing)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == '{"status":"ok","embeddings":0}\n'


def test_a_library_that_is_missing_is_noticed(tmp_path):
    assert "sqlalchemy is not in the image" in run(tmp_path / "registry", {"sqlalchemy"}).stderr
