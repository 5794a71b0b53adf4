"""Who may import whom (DESIGN): read from the source, so that an import inside a function counts too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OURS = {"dags", "jobs", "embeddings", "models", "perf", "tests"}
MAY = {  # folder -> what of ours it may import besides itself
    "dags": {"jobs"},
    "jobs": {"embeddings", "models"},
    "embeddings": set(),
    "models": {"embeddings.registry"},
}
FOREIGN = {
    "embeddings/registry": {"pyspark", "torch", "airflow", "mlflow"}
}  # folder -> libraries it may not import


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", MAY)
def test_a_folder_imports_only_what_lies_below_it(folder):
    wrong = [
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / folder).rglob("*.py")
        for module in imports(file)
        if module.split(".")[0] in OURS - {folder}
        and not any(within(module, allowed) or within(allowed, module) for allowed in MAY[folder])
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOREIGN)
def test_any_service_can_use_the_registry(folder):
    wrong = [
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / folder).rglob("*.py")
        for module in imports(file)
        if module.split(".")[0] in FOREIGN[folder] | {"jobs", "models"}
    ]
    assert wrong == []


def test_an_import_inside_a_function_is_seen(tmp_path):
    """The check itself: a lazy import and a relative name of a package are both found."""
    file = tmp_path / "lazy.py"
    file.write_text("def f():\n    from jobs import steps\n    import torch.nn\n")
    assert imports(file) == {"jobs", "jobs.steps", "torch.nn"}
