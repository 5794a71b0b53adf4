"""Tables of features as pages: the list, what is in one, and how it is read."""

from __future__ import annotations

import ast
import json
import re
import shlex
from datetime import timedelta
from html import unescape

import httpx
import numpy as np
import pytest
from registry_parts import DAY, publish, publish_profile

from embeddings.registry.remote import RemoteRegistry
from embeddings.registry.table_summary import EXAMPLES, READ, summary

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def pages(service, plain):
    publish(plain)
    publish_profile(plain, seed=3)
    publish_profile(plain, NEXT)
    with httpx.Client(base_url=service) as opened:
        yield opened


def blocks(page: str) -> list[str]:
    return [
        unescape(text) for text in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    ]


def test_the_front_page_leads_to_a_table_and_its_days(pages):
    front = pages.get("/").text
    assert re.search(r'href="/features/profile">profile</a></td><td>consumers</td>', front)
    assert "days, share, active, degree" in front
    page = pages.get("/features/profile").text
    assert re.search(r"profile <span class=\"day\">2022-04-26", page)
    assert '<a href="/features/profile?version=2022-04-25.r1">' in page
    old = pages.get("/features/profile", params={"version": "2022-04-25"}).text
    assert re.search(r"profile <span class=\"day\">2022-04-25", old)
    assert "3 to 9,007,199,254,740,992" not in page
    assert "-1 to 9,007,199,254,740,992" in old


def test_the_shown_ways_of_reading_a_table_work(pages, service):
    """The Python block runs, and curl's body is what the service answers."""
    python, curl = blocks(pages.get("/features/profile").text)
    assert service in python
    found: list = []
    names: dict = {"print": found.append}
    exec(compile(ast.parse(python), "page", "exec"), names)
    names["registry"].close()
    with RemoteRegistry(service) as registry:
        read = registry.features("consumer", ["c0", "c1"], ["profile.days"])
    np.testing.assert_array_equal(found[0], read.features["profile.days"].values)
    arguments = shlex.split(curl.replace("\\\n", " "))
    answer = httpx.post(arguments[2], json=json.loads(arguments[-1]))
    assert [row["id"] for row in answer.json()["rows"]] == ["c0", "c1"]


def test_pages_show_the_names_that_a_table_has(pages, plain):
    """Beside the id, of the query too; who has none is shown by the id alone."""
    ids = np.array([b"p0", b"p1", b"p2"])
    named = {"name": np.array([b"Ann & Co", b"", b"Cleo"])}
    plain.publish_features("called", DAY, "producer", ids, named, {})
    query = {"entity": "producer", "id": "p0"}
    page = unescape(pages.get("/embeddings/author/latest", params=query).text)
    assert "nearest to producer:p0 (Ann & Co) by cosine" in page
    assert re.search(r">p2</a> Cleo</td>", page)
    assert re.search(r">p1</a></td>", page)
    assert "<title>p2 Cleo</title>" in page
    assert "producer:p2 Cleo</a>" in pages.get("/embeddings/author").text


def test_a_summary_says_what_is_in_every_column(plain):
    table = plain.load_features(publish_profile(plain))
    found = summary(table)
    assert (found.rows, found.ids) == (4, ["c0", "c1", "c3", "late"])
    days, share, active, degree = found.columns
    assert (days.kind, days.known, days.values) == (
        "number",
        1,
        "-1 to 9,007,199,254,740,992",
    )
    assert (share.known, share.values, share.examples) == (
        0.75,
        "0.25 to 1",
        ["0.5", None, "0.25", "1"],
    )
    assert (active.kind, active.values, active.examples) == (
        "number",
        "0 to 1",
        ["1", "0", "1", "1"],
    )
    assert (degree.kind, degree.known) == ("text", 0.75)
    assert degree.values == "full 33 %, hoch öffentlich 33 %, low 33 %"
    assert degree.examples == ["full", "low", "hoch öffentlich", None]


def test_a_long_table_is_summarised_by_some_of_its_rows(plain):
    n = 5 * READ
    ids = np.array([f"{number:06}".encode() for number in range(n)])
    texts = np.array([b"often", b"seldom"])[(np.arange(n) % 400 == 0).astype(int)]
    columns = {"number": np.arange(n, dtype=np.float64), "text": texts}
    columns["none"] = np.full(n, np.nan)
    found = summary(plain.load_features(plain.publish_features("t", DAY, "item", ids, columns, {})))
    assert (found.rows, len(found.ids)) == (READ, EXAMPLES)
    number, text, none = found.columns
    assert number.values == f"0 to {n - 1:,}"
    assert text.values in ("often 100 %, seldom < 1 %", "often 100 %")
    assert (none.known, none.values, none.examples) == (0, "", [None] * EXAMPLES)
