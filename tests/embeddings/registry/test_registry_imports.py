"""The registry is a light dependency: what a fresh interpreter imports with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from registry_parts import publish

ROOT = Path(__file__).parents[3]
HEAVY = {"numba", "torch", "pyspark", "airflow", "mlflow"}
OURS_ABOVE = {"jobs", "models", "dags"}


def loaded_after(code: str, *arguments: str) -> set[str]:
    """The top-level packages in sys.modules after a fresh interpreter has run the code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"{code}\n{report}", *arguments]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    modules = json.loads(finished.stdout.splitlines()[-1])
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "code",
    [
        "from embeddings.registry import Registry",
        "import embeddings.registry.client",
        "import embeddings.registry.service",
        "import embeddings.registry.commands",
        "from embeddings.fold_in.base import FoldIn, restore, kinds; kinds()",
        "import embeddings.lookalike",
    ],
)
def test_importing_the_registry_imports_no_heavy_library(code):
    loaded = loaded_after(code)
    assert "numpy" in loaded
    assert loaded & (HEAVY | OURS_ABOVE) == set()


def test_the_client_over_http_needs_no_web_framework():
    loaded = loaded_after("from embeddings.registry import RemoteRegistry")
    assert "httpx" in loaded
    assert loaded & (HEAVY | OURS_ABOVE | {"fastapi", "starlette", "uvicorn", "numba"}) == set()


def test_the_package_and_its_errors_import_without_the_catalog():
    loaded = loaded_after("import embeddings.registry.errors")
    assert "embeddings" in loaded
    assert loaded & (HEAVY | {"sqlalchemy", "numpy", "scipy"}) == set()


LOOK_UP = """
import sys
from pathlib import Path
from embeddings.registry import Registry
registry = Registry(Path(sys.argv[1]), sys.argv[2])
registry.get("author", "producer", ["p1"])
registry.neighbours("author", "producer:p1")
registry.load(registry.version("author"), space="author/2022-04-25")
"""


def test_reading_vectors_needs_no_compiler_and_folding_in_does(plain, root):
    publish(plain)
    arguments = (str(root), f"sqlite:///{root / 'catalog.db'}")
    assert loaded_after(LOOK_UP, *arguments) & HEAVY == set()
    fold = 'registry.fold_in("author", {"p1": 2.0})'
    assert loaded_after(f"{LOOK_UP}{fold}", *arguments) & HEAVY == {"numba"}


def test_the_package_names_an_unknown_attribute():
    import embeddings.registry

    with pytest.raises(AttributeError, match=r"'embeddings\.registry' has no attribute 'Registy'"):
        _ = embeddings.registry.Registy
