"""The page of decisions about the ranker."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import httpx
import pytest

from jobs.local import decisions
from jobs.local.decisions import MARGIN, WIDTH
from jobs.local.registry_app import app
from jobs.settings import Settings, load_settings

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]
UNOPPOSED = {"champion_after": "2024-03-01", "challenger": "2024-03-01", "promoted": 1}
REFUSED = {
    "champion_after": "2024-03-01",
    "challenger": "2024-03-02",
    "promoted": 0,
    "difference": -0.02,
    "difference_low": -0.04,
    "difference_high": -0.01,
    "log_loss_rise": 0.031,
    "neighbour_overlap_producers": 0.002,
    "operations_ratio": 1.0,
    "broken_guardrails": "neighbour_overlap_producers",
}
RULED = {"champion_after": "2024-03-02", "challenger": "", "promoted": 0, "ruled_by": "ada"}


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """A home of which no day is decided."""
    file = tmp_path / "settings.toml"
    file.write_text('home = "home"\n[source]\nkind = "edgelist"\npath = "log"\n')
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    found = load_settings(file)
    monkeypatch.setenv("EVERGREEN_REGISTRY_ROOT", str(found.registry_root))
    return found


def get(path: str) -> httpx.Response:
    """The answer of the service, which runs in this process."""

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(request())


def decide(settings: Settings) -> None:
    for day, facts in zip(DAYS, (UNOPPOSED, REFUSED, RULED), strict=True):
        with settings.lake.writing("gate", day, recipe="") as staging:
            defaults = {"ruled_by": "", "why": f"Because of <{day}>."}
            staging.facts |= defaults | facts


def test_the_newest_is_first_and_only_a_comparison_has_a_picture(settings):
    decide(settings)
    found = decisions.rows(settings)
    assert [row.day for row in found] == [str(day) for day in reversed(DAYS)]
    assert [row.picture is not None for row in found] == [False, True, False]


def test_the_widest_interval_fills_half_of_the_axis(settings):
    """By hand: -0.04 is the left end, zero the middle, and -0.02 is half way between."""
    decide(settings)
    picture = decisions.rows(settings)[1].picture
    assert (picture.low, picture.zero) == (MARGIN, WIDTH / 2)
    assert picture.value == pytest.approx((MARGIN + WIDTH / 2) / 2)


def test_the_page_and_the_json_say_who_serves_and_why(settings):
    decide(settings)
    page = get("/decisions")
    assert page.status_code == 200
    for text in ("by ada", "+3.1 %", "-0.0400 to -0.0100", "Because of &lt;2024-03-02&gt;."):
        assert text in page.text
    assert 'href="/decisions"' in get("/").text
    answer = get("/v1/decisions").json()
    assert [row["champion_after"] for row in answer] == ["2024-03-02", "2024-03-01", "2024-03-01"]


def test_the_guardrails_have_their_numbers_and_the_broken_one_is_marked(settings):
    decide(settings)
    row = decisions.rows(settings)[1]
    kept = "neighbours of producers kept"
    assert row.guardrails == {kept: "0.2 %", "operations, times": "1.00"}
    assert row.broken == [kept]
    page = get("/decisions").text
    assert page.count("0.2 %") == page.count(">broken<") == 1


def test_a_home_without_a_decision_says_so(settings: Settings):
    settings.registry_root.mkdir(parents=True)
    page = get("/decisions")
    assert page.status_code == 200
    assert "No day has been decided yet" in page.text
