"""The report as one HTML page, which loads nothing, and as Markdown beside its pictures."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = "page.html"


@dataclass(frozen=True)
class Table:
    """Texts by column; the first column names the row."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """One measurement: what was found, its pictures, and the table behind them."""

    title: str
    findings: list[str]
    pictures: list[Path] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """headlines: the sentences to remember. notes: how it was measured, and what limits it."""

    title: str
    subtitle: str
    headlines: list[str]
    sections: list[Section]
    notes: list[str]


def write_html(page: Page, path: Path) -> None:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = templates.get_template(TEMPLATE)
    path.write_text(template.render(page=page, data=data_address) + "\n")


def data_address(picture: Path) -> str:
    """The picture itself as an address."""
    return f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"


def write_markdown(page: Page, path: Path) -> None:
    lines = [f"# {page.title}", "", page.subtitle, ""]
    for headline in page.headlines:
        lines += [f"**{headline}**", ""]
    for section in page.sections:
        lines += [f"## {section.title}", ""]
        for finding in section.findings:
            lines += [finding, ""]
        for picture in section.pictures:
            lines += [f"![{section.title}]({picture.name})", ""]
        for table in section.tables:
            lines += [*table_lines(table), ""]
    if page.notes:
        lines += ["## How it was measured", ""]
        lines += [f"- {note}" for note in page.notes]
        lines += [""]
    path.write_text("\n".join(lines))


def table_lines(table: Table) -> list[str]:
    lines = [cells(table.header), cells(["---"] * len(table.header))]
    return lines + [cells(row) for row in table.rows]


def cells(texts: list[str]) -> str:
    escaped = [text.replace("|", "\\|") for text in texts]
    return f"| {' | '.join(escaped)} |"
