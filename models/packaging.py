"""What is logged to MLflow with a model, so that it runs where Evergreen is not installed."""

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
# The libraries that the copied code imports; tests/models/test_packaging.py compares the two.
REQUIREMENTS = (
    "mlflow==3.17.2",
    "numpy",
    "pandas<3",
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
        # As an address: MLflow would take a % in a path for an escaped character.
        "artifacts": {serving.ARTIFACT: home.resolve().as_uri()},
        "code_paths": [str(path) for path in code],
        "signature": serving.signature(home),
        "input_example": serving.input_example(home),
        "pip_requirements": list(REQUIREMENTS),
    }


def copy_code(modules: list[str], folder: Path) -> list[Path]:
    """Copy these modules and all of ours that they import into `folder`, as packages.

    Imports inside functions count too; those for type checkers do not. Returns the top-level
    packages in `folder`, which is what MLflow expects as `code_paths`.
    """
    for name, source in sorted(sources(modules).items()):
        parts = name.split(".")
        is_package = source.name == "__init__.py"
        if not is_package:
            parts.pop()  # the module's own name is that of its file
        target = folder.joinpath(*parts, source.name)
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
    """The modules of ours that a source file imports, anywhere in it, when it runs."""
    for node in _running_nodes(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            for alias in node.names:
                # `from package import name`: the name may be a module, or defined in one.
                names.append(f"{node.module}.{alias.name}")
        else:
            continue
        for name in names:
            if name.split(".")[0] in OURS and _is_module(name):
                yield name


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all nodes below it, without the bodies of `if TYPE_CHECKING`."""
    yield node
    children = list(ast.iter_child_nodes(node))
    # Only type checkers run these imports. One in embeddings.registry names the whole client.
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children = list(node.orelse)
    for child in children:
        yield from _running_nodes(child)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, not a package
        return False
