"""The examples of the references do what they show."""

from __future__ import annotations

import asyncio
import doctest
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from docs.reference_pages.commands import commands
from embeddings.registry.service import create_app

DOCS = Path(__file__).parents[2] / "docs"
TOKEN = "TOKEN"  # as the page writes it
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, text)."""
    return BLOCK.findall((DOCS / page).read_text())


def http_examples() -> list[tuple[str, Any]]:
    """Each command of the HTTP page and the answer that follows it."""
    found = blocks("reference/http.md")
    pairs = zip(found[::2], found[1::2], strict=True)
    examples = []
    for (kind, command), (answer_kind, answer) in pairs:
        assert kind == "console", command
        shown = json.loads(answer) if answer_kind == "json" else answer.splitlines()
        examples.append((command.removeprefix("$ "), shown))
    return examples


def request_of(command: str) -> dict[str, Any]:
    """The request that a curl command sends, as arguments of an HTTP client."""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert next(words) == "curl"
    request: dict[str, Any] = {"method": "GET", "headers": {}}
    for word in words:
        if word == "-X":
            request["method"] = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            request["headers"][name] = value
        elif word == "-d":
            request["content"] = next(words)
        elif word != "-s":
            address = urlsplit(word)
            request["url"] = f"{address.path}?{address.query}"
    return request


def answer_of(app: FastAPI, request: dict[str, Any]) -> Any:
    """The JSON or the lines that the service answers, without a port."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://docs") as client:
            return await client.request(**request)

    answer = asyncio.run(send())
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.json() if is_json else answer.text.splitlines()


def shows(answer: Any, shown: Any) -> bool:
    """Is everything that is shown in the answer? Objects may be shortened, lists may not."""
    if isinstance(shown, dict):
        return all(key in answer and shows(answer[key], shown[key]) for key in shown)
    if isinstance(shown, list):
        same_length = len(answer) == len(shown)
        return same_length and all(map(shows, answer, shown))
    return answer == (pytest.approx(shown, abs=1e-6) if isinstance(shown, float) else shown)


@pytest.mark.parametrize(("command", "shown"), http_examples(), ids=lambda x: str(x)[:60])
def test_a_curl_command_is_answered_as_shown(served_registry, command, shown):
    app = create_app(served_registry, f"sqlite:///{served_registry}/catalog.db", TOKEN)
    answer = answer_of(app, request_of(command))
    if "/metrics" in command:
        assert set(shown) <= set(answer)  # whose order and values are not fixed
    else:
        assert shows(answer, shown), answer


def test_every_route_has_an_example(small_registry):
    app = create_app(small_registry, f"sqlite:///{small_registry}/catalog.db", TOKEN)
    requests = [request_of(command) for command, _ in http_examples()]
    missing = []
    for path, operations in app.openapi()["paths"].items():
        pattern = re.compile(re.sub(r"{\w+}", "[^/]+", path))
        for method in operations:
            called = [
                request
                for request in requests
                if request["method"] == method.upper()
                and pattern.fullmatch(request["url"].partition("?")[0])
            ]
            if not called:
                missing.append(f"{method} {path}")
    assert missing == []


def test_a_shortened_answer_must_not_differ():
    """The comparison itself: another value, a missing key and a longer list are all found."""
    assert shows({"a": 1, "b": [1.0, 2.0]}, {"b": [1.0, 2.0000001]})
    assert not shows({"a": 1}, {"a": 2})
    assert not shows({"a": 1}, {"b": 1})
    assert not shows([1, 2], [1])


def test_the_python_examples_print_what_they_show(small_registry):
    sessions = [text for kind, text in blocks("reference/python.md") if kind == "pycon"]
    assert len(sessions) > 3
    parsed = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "python.md", None, 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    failed, tried = runner.run(parsed, out=report.append)
    assert (failed, tried > 10) == (0, True), "".join(report)


def test_the_python_example_over_http_runs(address, capsys):
    (example,) = [text for kind, text in blocks("reference/python.md") if kind == "python"]
    exec(example.replace("http://127.0.0.1:8090", address), {})
    printed = capsys.readouterr().out
    assert "author/2022-04-25.r1 [[1. " in printed
    assert "\n[2. 0.]\n" in printed
    assert "Neighbour(id='folk'" in printed


def test_the_python_example_of_the_readme_runs(small_registry):
    """With producers of the small registry in place of the bundled log's."""
    readme = (DOCS.parent / "README.md").read_text()
    (example,) = [text for kind, text in BLOCK.findall(readme) if kind == "python"]
    names: dict[str, Any] = {}
    exec(example.replace("5345439", "jazz").replace("28048", "folk"), names)
    np.testing.assert_allclose(
        names["latest"].fold({"jazz": 1.0}).vector,
        names["registry"].fold_in("author", {"jazz": 1.0}).vector,
    )
    names["registry"].close()


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.path)
def test_a_command_has_an_example_that_it_accepts(command, tmp_path):
    """Parsed, not run: the names, options and number of arguments are right."""
    if command.is_group:
        return
    (tmp_path / "data").mkdir()  # an option may require that its folder exists
    words = shlex.split(command.example.replace("~", str(tmp_path)))
    path = command.path.split()
    assert words[: len(path)] == path
    command.command.make_context(path[-1], words[len(path) :], parent=command.context.parent)
