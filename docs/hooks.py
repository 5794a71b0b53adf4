"""MkDocs hooks: the pages that are generated from the code, or copied from outside docs/.

`mkdocs.yml` names this file. MkDocs calls the `on_…` functions while it builds the site.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
DECISIONS = "decisions"
ROUTES = "<!-- routes -->"  # replaced on reference/http.md by the service's routes


def on_config(config: Any) -> Any:
    """Put every decision into the navigation, so that a new one needs no entry in mkdocs.yml."""
    sys.path.insert(0, str(ROOT))  # this checkout's code, whatever else is installed
    pages = sorted(file.name for file in (ROOT / "docs" / DECISIONS).glob("*.md"))
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] = [f"{DECISIONS}/index.md", *(f"{DECISIONS}/{p}" for p in pages)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    from docs.reference_pages import commands, settings

    generated = {
        "reference/settings.md": settings.page(),
        "reference/cli.md": commands.page(),
        "decisions/index.md": decisions_page(),
        "changelog.md": root_page("CHANGELOG.md"),
        "contributing.md": root_page("CONTRIBUTING.md"),
    }
    for path, content in generated.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the routes of the registry service."""
    if ROUTES not in markdown:
        return markdown
    from docs.reference_pages import routes

    return markdown.replace(ROUTES, routes.section())


def root_page(name: str) -> str:
    """A page from the project folder, whose links to docs/ become links within the site."""
    return (ROOT / name).read_text().replace("](docs/", "](")


def decisions_page() -> str:
    """The list of decisions, each by the title of its page."""
    lines = ["# Decisions", "", "Why Evergreen is built the way it is, oldest first.", ""]
    for file in sorted((ROOT / "docs" / DECISIONS).glob("*.md")):
        title = file.read_text().splitlines()[0].lstrip("# ")
        number, _, name = title.partition(". ")
        lines.append(f"- {number}: [{name}]({file.name})")
    return "\n".join([*lines, ""])
