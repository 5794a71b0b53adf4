"""The generated references are complete: each is compared with a second account of the code."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from docs.reference_pages import commands, routes, settings
from jobs.cli import app
from jobs.settings import Settings


def sections(page: str, marker: str) -> dict[str, str]:
    """Heading -> the text below it."""
    parts = re.split(rf"^{marker} (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_option_of_the_settings_schema_is_in_the_reference():
    """pydantic's own JSON schema lists the same options."""
    schema = Settings.model_json_schema()
    documented: dict[str, set[str]] = {}
    for section in settings.sections():
        options = documented.setdefault(section.model.__name__, set())
        options |= {option.name for option in section.options}
    missing = []
    for model, form in schema["$defs"].items():
        for option, details in form.get("properties", {}).items():
            is_section = "$ref" in str(details)
            if not is_section and option not in documented.get(model, set()):
                missing.append(f"{model}.{option}")
    assert missing == []


def test_every_documented_option_has_a_row():
    page = sections(settings.page(), "##")
    assert len(page) == len(settings.sections())
    for section, text in zip(settings.sections(), page.values(), strict=True):
        for option in section.options:
            assert f"| `{option.name}` |" in text


def test_an_option_has_its_type_limits_default_and_meaning():
    page = sections(settings.page(), "##")
    row = r"^\| `dim` \| integer, ≥ 1, ≤ 1000 \| `32` \| .*length of one vector.* \|$"
    assert re.search(row, page["`[embedding]`"], re.MULTILINE | re.IGNORECASE)


def test_every_option_has_a_meaning():
    missing = []
    for section in settings.sections():
        for option in section.options:
            if not option.meaning:
                missing.append(f"{section.name}.{option.name}")
    assert missing == []


def test_a_model_that_no_field_names_is_found_in_its_plugin_file(tmp_path, monkeypatch):
    """One new file below a plug-in folder, with settings of its own, adds a section."""
    package = tmp_path / "toy_plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "toy.py").write_text(
        "from jobs.section import Section\n\n\n"
        "class ToySettings(Section):\n"
        '    """A toy."""\n\n'
        "    size: int = 3\n"
        '    """How large it is."""\n'
    )
    (package / "game.py").write_text(
        "from pydantic import BaseModel\n\n\n"
        "class Options(BaseModel):\n"
        "    players: int = 2\n\n\n"
        "class Board(Options):\n"
        '    """What the options become; nothing a user sets."""\n\n'
        "    squares: int = 64\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(settings.PLUGINS, "toy_plugins", "toys.{module}")
    page = sections(settings.page(), "##")
    assert "A toy." in page["`[toys.toy]`"]
    assert "| `size` | integer | `3` | How large it is. |" in page["`[toys.toy]`"]
    assert "| `players` | integer | `2` | – |" in page["`[toys.game]`"]
    assert "squares" not in settings.page()


@pytest.mark.parametrize("command", commands.commands(), ids=lambda command: command.path)
def test_a_command_is_documented_with_every_option_that_its_help_lists(command):
    page = sections(commands.page(), "##")
    path = command.path.split()
    text = page[f"`{command.path}`"]
    if path[-1] == "airflow":  # its --help is Airflow's
        return
    answer = CliRunner().invoke(app, [*path[1:], "--help"], env={"COLUMNS": "300"})
    assert answer.exit_code == 0
    listed = re.findall(r"^[^\w-]*(--[a-z][\w-]*)", answer.output, re.MULTILINE)
    assert "--help" in listed
    documented = re.findall(r"^\| `(--[a-z][\w-]*)`", text, re.MULTILINE)
    assert set(listed) - {"--help"} == set(documented)


def test_every_route_is_documented():
    headings = sections(routes.section(), "###")
    expected = set()
    for path, operations in routes.openapi()["paths"].items():
        expected |= {f"`{method.upper()} {path}`" for method in operations}
    assert set(headings) == expected
    assert "| `k` | query | integer, 1 to 1000 | `10` |" in routes.section()
    assert "Answers a list of `Version`. Errors: 404, 414" in routes.section()
