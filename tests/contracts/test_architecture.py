"""Which room may import which. Read from the source, so that an import inside a function counts."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("dags", "embeddings", "jobs", "models", "perf", "simulation", "tests")

# room -> what it may import of ours, besides itself. A room that no list names is imported by no
# other: `jobs.steps` is loaded by name, `jobs.local` and `jobs.reports` are loaded by commands and
# DAGs.
MAY_IMPORT = {
    "dags": {
        "jobs.errors",
        "jobs.local",
        "jobs.parts",
        "jobs.pipeline",
        "jobs.reports",
        "jobs.settings",
        "jobs.spark",
        "jobs.tuning",
        "jobs.words",
    },
    "embeddings.baselines": {"embeddings.embedders", "embeddings.kernels"},
    "embeddings.benchmarks": {
        "embeddings.baselines",
        "embeddings.facts",
        "embeddings.sampling",
    },
    "embeddings.blocks": {"embeddings.features", "embeddings.kernels"},
    "embeddings.cooccurrence": {"embeddings.kernels", "embeddings.sampling"},
    "embeddings.durable": set(),
    "embeddings.embedders": {
        "embeddings.blocks",
        "embeddings.cooccurrence",
        "embeddings.facts",
        "embeddings.features",
        "embeddings.fold_in",
        "embeddings.kernels",
        "embeddings.sampling",
        "embeddings.towers",
    },
    "embeddings.facts": set(),
    "embeddings.features": set(),
    "embeddings.fold_in": {
        "embeddings.embedders",
        "embeddings.features",
        "embeddings.kernels",
        "embeddings.towers",
    },
    "embeddings.kernels": set(),
    "embeddings.lengths": {"embeddings.spaces", "embeddings.torch_threads"},
    "embeddings.lookalike": set(),
    "embeddings.monitors": set(),
    "embeddings.registry": {
        "embeddings.benchmarks",
        "embeddings.durable",
        "embeddings.features",
        "embeddings.fold_in",
        "embeddings.lengths",
        "embeddings.lookalike",
        "embeddings.sampling",
        "embeddings.spaces",
        "embeddings.storage",
    },
    "embeddings.sampling": set(),
    "embeddings.spaces": {"embeddings.sampling"},
    "embeddings.storage": {"embeddings.durable"},
    "embeddings.torch_threads": set(),
    "embeddings.towers": {
        "embeddings.kernels",
        "embeddings.sampling",
        "embeddings.torch_threads",
    },
    "embeddings.words": {
        "embeddings.benchmarks",
        "embeddings.blocks",
        "embeddings.cooccurrence",
        "embeddings.kernels",
        "embeddings.sampling",
        "embeddings.spaces",
    },
    "jobs.checks": {"jobs.errors", "jobs.intake", "jobs.lake", "jobs.settings", "jobs.sources"},
    "jobs.errors": set(),
    "jobs.freed_memory": set(),
    "jobs.features": {
        "embeddings.features",
        "embeddings.registry",
        "jobs.judging",
        "jobs.lake",
        "jobs.names",
        "models",
    },
    "jobs.intake": {"embeddings.durable", "jobs.errors", "jobs.machine"},
    "jobs.judging": {
        "embeddings.benchmarks",
        "embeddings.blocks",
        "embeddings.kernels",
        "embeddings.lengths",
        "embeddings.monitors",
        "embeddings.registry",
        "embeddings.facts",
        "embeddings.sampling",
        "jobs.lake",
        "models",
    },
    "jobs.lake": {"embeddings.durable", "embeddings.storage", "jobs.errors"},
    "jobs.local": {
        "embeddings.durable",
        "embeddings.facts",
        "embeddings.registry",
        "embeddings.storage",
        "jobs.errors",
        "jobs.intake",
        "jobs.lake",
        "jobs.logs",
        "jobs.names",
        "jobs.parts",
        "jobs.pipeline",
        "jobs.serving",
        "jobs.settings",
        "jobs.sources",
        "jobs.terminal",
        "jobs.tracing",
    },
    "jobs.logs": set(),
    "jobs.machine": set(),
    "jobs.names": set(),
    "jobs.parts": set(),
    "jobs.own_log": {
        "jobs.errors",
        "jobs.intake",
        "jobs.plugins",
        "jobs.settings",
        "jobs.sources",
        "jobs.terminal",
    },
    "jobs.pipeline": {
        "embeddings.benchmarks",
        "embeddings.blocks",
        "embeddings.durable",
        "embeddings.facts",
        "embeddings.registry",
        "embeddings.spaces",
        "embeddings.storage",
        "jobs.errors",
        "jobs.freed_memory",
        "jobs.judging",
        "jobs.lake",
        "jobs.logs",
        "jobs.names",
        "jobs.parts",
        "jobs.plugins",
        "jobs.settings",
        "jobs.sources",
        "jobs.spark",
        "jobs.terminal",
        "jobs.tracing",
        "models",
    },
    "jobs.plots": set(),
    "jobs.plugins": {"jobs.names"},
    "jobs.reports": {
        "embeddings.baselines",
        "embeddings.benchmarks",
        "embeddings.blocks",
        "embeddings.cooccurrence",
        "embeddings.embedders",
        "embeddings.features",
        "embeddings.fold_in",
        "embeddings.kernels",
        "embeddings.lengths",
        "embeddings.registry",
        "embeddings.monitors",
        "embeddings.sampling",
        "embeddings.spaces",
        "embeddings.words",
        "jobs.errors",
        "jobs.features",
        "jobs.judging",
        "jobs.lake",
        "jobs.pipeline",
        "jobs.plots",
        "jobs.settings",
        "jobs.sources",
        "jobs.spark",
        "jobs.words",
        "models",
        "simulation",
    },
    "jobs.section": set(),
    "jobs.serving": {
        "embeddings.registry",
        "jobs.errors",
        "jobs.features",
        "jobs.lake",
        "jobs.names",
        "jobs.pipeline",
        "jobs.settings",
        "jobs.terminal",
        "models",
    },
    "jobs.settings": {
        "embeddings.registry",
        "embeddings.storage",
        "jobs.errors",
        "jobs.lake",
        "jobs.machine",
        "jobs.names",
        "jobs.parts",
        "jobs.plugins",
        "jobs.section",
        "jobs.sources",
    },
    "jobs.simulated": {"jobs.errors", "simulation"},
    "jobs.sources": {
        "embeddings.durable",
        "jobs.errors",
        "jobs.intake",
        "jobs.lake",
        "jobs.plugins",
        "jobs.section",
        "jobs.simulated",
        "simulation",
    },
    "jobs.spark": {
        "embeddings.durable",
        "embeddings.kernels",
        "jobs.errors",
        "jobs.freed_memory",
        "jobs.intake",
        "jobs.settings",
        "jobs.tracing",
    },
    "jobs.terminal": set(),
    "jobs.tracing": {"jobs.errors"},
    "jobs.training": {
        "jobs.errors",
        "jobs.lake",
        "jobs.pipeline",
        "jobs.plots",
        "jobs.settings",
        "models",
    },
    "jobs.tuning": {
        "embeddings.benchmarks",
        "embeddings.blocks",
        "embeddings.durable",
        "embeddings.fold_in",
        "embeddings.kernels",
        "jobs.errors",
        "jobs.judging",
        "jobs.lake",
        "jobs.names",
        "jobs.pipeline",
        "jobs.plots",
        "jobs.plugins",
        "jobs.reports",
        "jobs.settings",
    },
    "jobs.words": {
        "embeddings.monitors",
        "embeddings.spaces",
        "embeddings.words",
        "jobs.errors",
        "jobs.intake",
        "jobs.pipeline",
        "jobs.settings",
        "jobs.sources",
        "simulation",
    },
    "models": {"embeddings.benchmarks", "embeddings.registry"},
    "simulation": set(),
}
# Rooms that may import any other room, and that no other room imports.
TOP = {"jobs.cli", "jobs.steps"}
# Libraries that a folder may not import: any service can use the registry.
FOREIGN = {"embeddings/registry": {"airflow", "mlflow", "numba", "pyspark", "torch"}}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} | names
    return found


def room_of(module: str) -> str:
    """The room of a module: the package itself for dags and models, else the level below it."""
    parts = module.split(".")
    whole = ("dags", "models", "simulation")
    return parts[0] if parts[0] in whole else ".".join(parts[:2])


def rooms_and_files() -> list[tuple[str, Path]]:
    found = []
    for package in ("dags", "embeddings", "jobs", "models", "simulation"):
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            room = room_of(module)
            if not room.endswith("__init__"):
                found.append((room, file))
    return found


@cache
def edges() -> dict[str, set[str]]:
    """room -> the rooms that its files import."""
    found: dict[str, set[str]] = {}
    for room, file in rooms_and_files():
        known = found.setdefault(room, set())
        for module in imports(file):
            if module.split(".")[0] in OURS and room_exists(room_of(module)):
                known.add(room_of(module))
        known.discard(room)
    return found


def room_exists(room: str) -> bool:
    path = ROOT / room.replace(".", "/")
    return path.is_dir() if "." not in room else path.is_dir() or path.with_suffix(".py").exists()


def test_every_room_has_a_rule():
    rooms = {room for room, _ in rooms_and_files()}
    assert rooms == MAY_IMPORT.keys() | TOP


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room):
    assert edges()[room] - {"jobs", "embeddings"} <= MAY_IMPORT[room]


def test_nothing_imports_the_top():
    """Steps are loaded by name, so that `jobs.pipeline` and the steps form no circle."""
    for room, imported in edges().items():
        if room != "jobs.cli":
            assert not imported & TOP, room


def test_the_rooms_form_no_circle():
    """Except for fold-ins and embedders: a fold-in is built from the result of a fit."""
    below = {room: set(allowed) for room, allowed in MAY_IMPORT.items()}
    below["embeddings.fold_in"].discard("embeddings.embedders")
    while below:
        leaves = {room for room, allowed in below.items() if not allowed & below.keys()}
        assert leaves, f"a circle among {sorted(below)}"
        for leaf in leaves:
            del below[leaf]


@pytest.mark.parametrize("folder", FOREIGN)
def test_any_service_can_use_the_registry(folder):
    for file in (ROOT / folder).rglob("*.py"):
        libraries = {module.split(".")[0] for module in imports(file)}
        assert not libraries & FOREIGN[folder], file


def test_an_import_inside_a_function_is_seen(tmp_path):
    """The check itself: a lazy import and a relative name of a package are both found."""
    file = tmp_path / "lazy.py"
    file.write_text("def f():\n    from jobs import steps\n    import torch.nn\n")
    assert imports(file) == {"jobs", "jobs.steps", "torch.nn"}
