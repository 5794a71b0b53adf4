"""The HTTP reference: every route of the registry service, read from its OpenAPI schema."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


def section() -> str:
    """The routes as Markdown, one heading each."""
    schema = openapi()
    lines = []
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            lines += render(schema, method.upper(), path, operation)
    return "\n".join(lines)


def openapi() -> dict[str, Any]:
    """The schema of the service. It is the same for every registry, so an empty one is enough."""
    from embeddings.registry.service import create_app

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Path(folder), f"sqlite:///{folder}/catalog.db")
        return app.openapi()


def render(schema: dict, method: str, path: str, operation: dict) -> list[str]:
    lines = [f"### `{method} {path}`", "", f"{operation['summary']}.", ""]
    if description := operation.get("description"):
        lines += [description, ""]
    rows = [parameter_row(parameter) for parameter in operation.get("parameters", [])]
    if "requestBody" in operation:
        rows += body_rows(schema, operation["requestBody"])
    if rows:
        lines += [
            "| parameter | in | type | default | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    else:
        lines.append("No parameters.")
    return [*lines, "", answers(operation), ""]


def answers(operation: dict) -> str:
    """What a route answers, as OpenAPI's schemas are named, and its error statuses."""
    responses = operation["responses"]
    form = next(iter(responses["200"]["content"].values()))["schema"]
    is_list = form.get("type") == "array"
    kind = f"a list of {type_of(form['items'])}" if is_list else type_of(form)
    errors = ", ".join(sorted(set(responses) - {"200"}))
    return f"Answers {kind}. Errors: {errors}."


def parameter_row(parameter: dict) -> tuple[str, ...]:
    form = parameter["schema"]
    inner = form.get("items", {})
    meaning = parameter.get("description") or form.get("description") or inner.get("description")
    return (
        f"`{parameter['name']}`",
        parameter["in"],
        type_of(form),
        default_of(form, parameter.get("required", False)),
        meaning or "–",
    )


def body_rows(schema: dict, body: dict) -> list[tuple[str, ...]]:
    """A row for each field of a JSON body."""
    reference = body["content"]["application/json"]["schema"]["$ref"]
    model = schema["components"]["schemas"][reference.rpartition("/")[2]]
    required = model.get("required", [])
    rows = []
    for name, form in model["properties"].items():
        meaning = form.get("description", "–")
        default = default_of(form, name in required)
        rows.append((f"`{name}`", "JSON body", type_of(form), default, meaning))
    return rows


def type_of(form: dict) -> str:
    """The type of a parameter in words, with the bounds of a number or list."""
    if "$ref" in form:
        return f"`{form['$ref'].rpartition('/')[2]}`"
    for choice in form.get("anyOf", []):
        if choice.get("type") != "null":
            return type_of(choice)
    if form.get("type") == "array":
        inner = type_of(form["items"])
        most = f", at most {form['maxItems']}" if "maxItems" in form else ""
        return f"{inner}, repeatable{most}"
    if form.get("type") == "object":
        most = f", at most {form['maxProperties']}" if "maxProperties" in form else ""
        return f"object of {type_of(form.get('additionalProperties', {}))}s{most}"
    name = {"string": "text"}.get(form.get("type", ""), form.get("type", "any"))
    if "minimum" in form and "maximum" in form:
        return f"{name}, {form['minimum']} to {form['maximum']}"
    return name


def default_of(form: dict, required: bool) -> str:
    if required:
        return "*required*"
    return f"`{form['default']}`" if form.get("default") not in (None, "") else "–"
