"""What is logged to MLflow beside a model: all that it needs where nothing of ours is installed."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models import serving
from models.store import describe

OURS = ("models", "embeddings")  # the packages that a ranker may import
REQUIREMENTS = (
    "mlflow==3.17.2",
    "numpy",
    "pandas<3",
    "pyarrow",
    "pydantic",
    "safetensors",
    "torch==2.13.0",
)


def logging_arguments(home: Path, code_folder: Path) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.log_model` and `save_model` for the model saved in `home`.

    code_folder: an empty folder, which is filled with the source files that the model imports; it
    must exist until the model is logged.
    """
    kind = describe(home).kind
    code = copy_code([serving.__name__, f"models.rankers.{kind}"], code_folder)
    return {
        "python_model": serving.__file__,
        "artifacts": {serving.ARTIFACT: str(home)},
        "code_paths": [str(path) for path in code],
        "signature": serving.signature(home),
        "input_example": serving.input_example(home),
        "pip_requirements": list(REQUIREMENTS),
    }


def copy_code(modules: list[str], folder: Path) -> list[Path]:
    """Copy these modules and all of ours that they import into `folder`, as packages.

    Imports inside functions count too. Returns the top-level packages in `folder`, which is what
    MLflow expects as `code_paths`.
    """
    for name, source in sorted(sources(modules).items()):
        is_package = source.name == "__init__.py"
        parts = name.split(".")
        target = folder.joinpath(*parts) / source.name
        if not is_package:
            target = folder.joinpath(*parts[:-1]) / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return sorted(path for path in folder.iterdir() if path.name in OURS)


def sources(modules: list[str]) -> dict[str, Path]:
    """Module name -> source file, of these modules and of all that they import from OURS."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        spec = find_spec(name)
        assert spec is not None, f"{name} does not exist"
        assert spec.origin is not None, f"{name} has no source file"
        found[name] = Path(spec.origin)
        waiting += _imported(found[name])
        # Importing a.b.c runs a/__init__.py and a/b/__init__.py first.
        parent, _, _ = name.rpartition(".")
        if parent:
            waiting.append(parent)
    return found


def _imported(source: Path) -> Iterator[str]:
    """The modules of ours that a source file imports when it runs, also inside functions."""
    for node in _nodes(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from package import name`: the name may be a module or something defined in one.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in OURS and _is_module(name):
                yield name


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below a tree, but for what only a type checker runs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes(child)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, not a package
        return False
