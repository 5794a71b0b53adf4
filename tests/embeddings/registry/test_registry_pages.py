"""The registry's pages in a real browser, without JavaScript."""

from __future__ import annotations

import getpass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish

from embeddings.benchmarks.results import Result
from embeddings.registry.client import Registry, Version

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture
def page(service):
    """A browser page without JavaScript.

    The test fails if the page requests anything from another host, or an asset is missing.
    """
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: run `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(base_url=service, java_script_enabled=False)
        faults: list[str] = []

        def check_request(request) -> None:
            if not request.url.startswith(service):
                faults.append(request.url)

        def check_response(response) -> None:
            is_asset = response.request.resource_type != "document"
            if is_asset and response.status >= 400:
                faults.append(response.url)

        def check_console(message) -> None:
            if "404" not in message.text:  # a page itself may be a 404, by design
                faults.append(message.text)

        page.on("request", check_request)
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on("response", check_response)
        page.on("console", check_console)
        yield page
        browser.close()
    assert faults == []


def test_a_visitor_finds_neighbours_from_the_front_page(page, plain):
    """From the front page to the embedding, a search that shows the client's result, a version."""
    publish(plain, commit="abc123", metrics={"auc": 0.7})
    publish(plain, seed=5)
    page.goto("/")
    page.get_by_role("link", name="author", exact=True).click()
    assert page.locator("table.versions tbody tr").count() == 2
    page.get_by_label("with id").fill("p1")
    page.get_by_label("how many").fill("3")
    page.get_by_role("button", name="Search").click()
    shown = page.locator("table.results tbody tr td:first-child").all_inner_texts()
    found = plain.neighbours("author", "producer:p1", 3)
    assert shown == [neighbour.id for neighbour in found]
    page.get_by_role("link", name="author", exact=True).click()
    page.locator("table.versions tbody tr").nth(1).get_by_role("link").click()
    assert "abc123" in page.locator(".lineage").inner_text()


def test_a_mistyped_id_offers_the_intended_one(page, plain):
    publish(plain)
    page.goto("/embeddings/author")
    page.get_by_label("Of").select_option("consumer")
    page.get_by_label("with id").fill("p1")
    page.get_by_role("button", name="Search").click()
    assert "There is no consumer 'p1'" in page.get_by_role("alert").inner_text()
    page.get_by_role("link", name="producer:p1", exact=True).click()
    assert page.locator("table.results tbody tr").count() == len(parts()[0]["producer"].ids) - 1


def test_the_history_of_the_aliases_is_shown(page, plain):
    """Newest first, with who and why; a version that was removed is named, but not linked."""
    me = getpass.getuser()
    old = publish(plain, seed=1)
    plain.set_alias("author", "serving", old, reason="<b>first</b>", by="anna")
    publish(plain, seed=2)
    page.goto("/embeddings/author")
    assert "replaced" in page.locator("table.versions tbody tr").nth(1).inner_text()
    rows = page.locator("table.moves tbody tr")
    shown = [cells.split("\t")[1:] for cells in rows.all_inner_texts()]
    assert shown == [
        ["latest", "2022-04-25.r1", "2022-04-25.r2", me, ""],
        ["serving", "none", "2022-04-25.r1", "anna", "<b>first</b>"],
        ["latest", "none", "2022-04-25.r1", me, ""],
    ]
    assert rows.nth(0).get_by_role("link").count() == 2
    plain.delete_alias("author", "serving")
    plain.remove(old)
    page.reload()
    assert "2022-04-25.r1 removed" in rows.nth(1).inner_text()
    assert rows.nth(1).get_by_role("link").count() == 1


def test_the_metrics_of_all_versions_are_curves(page, plain):
    """Of the versions that are current, with what a reader needs who does not see them."""
    for number, auc in enumerate((0.5, 0.7, 0.6)):
        day = DAY + timedelta(days=number)
        publish(plain, day, seed=number, metrics={"auc": auc, "dim": 32})
    page.goto("/embeddings/author")
    shown = page.locator(".curves svg")
    labels = [curve.get_attribute("aria-label") for curve in shown.all()]
    assert labels == ["auc: from 0.5 to 0.7, last 0.6"]
    points = shown.locator("polyline").get_attribute("points").split()
    assert len(points) == 3


def result(task: str, on: date, value: float) -> Result:
    return Result(task, "auc", on, value, value - 0.05, value + 0.05, 50, {"random": 0.5})


def publish_judged(registry: Registry) -> list[Version]:
    """Two versions with benchmarks of their own days and of later ones."""
    published = []
    for number in range(2):
        day = DAY + timedelta(days=number)
        entities, fold_in = parts(number)
        own = result("profile", day, 0.6 + number / 10)
        later = [result("next", day + timedelta(days=1), 0.7)]
        later += [result("next", DAY + timedelta(days=2), 0.65)] if number == 0 else []
        version = registry.publish("author", day, SPACE, entities, fold_in, {}, [own, *later])
        published.append(version)
    return published


def test_benchmarks_are_curves_with_bands(page, plain):
    """One point a day, of the newest version that it judges; an older one has a line of its own."""
    publish_judged(plain)
    page.goto("/embeddings/author")
    shown = page.locator("#benchmarks svg")
    labels = [curve.get_attribute("aria-label") for curve in shown.all()]
    assert labels == [
        "next auc: 0.700 on 2022-04-27, interval 0.650 to 0.750; 2 days between 0.500 and 0.750",
        "profile auc: 0.700 on 2022-04-26, interval 0.650 to 0.750; 2 days between 0.500 and 0.750",
    ]
    assert len(shown.nth(0).locator(".band").get_attribute("points").split()) == 4
    assert len(shown.nth(0).locator(".older").get_attribute("points").split()) == 1
    assert shown.nth(1).locator(".older").get_attribute("points") == ""
    page.goto("/")
    assert "0.700 ±0.050" in page.locator("article").inner_text()


def test_a_version_shows_its_benchmarks_its_map_and_what_differs(page, plain):
    older, newer = publish_judged(plain)
    ids = np.array(sorted(f"p{i}".encode() for i in range(5)))
    topics = np.array([b"art", b"sport", b"art", b"", b"art"])
    plain.publish_features("producers", DAY, "producer", ids, {"topic": topics}, {})
    page.goto(f"/embeddings/{older.id}")
    rows = page.locator("#benchmarks tbody tr")
    assert "2022-04-27 2 days later" in rows.nth(1).inner_text().replace("\t", " ")
    assert page.locator("#map circle title").count() == 5
    legend = [text.strip() for text in page.locator("#map .legend li").all_inner_texts()]
    assert legend == ["art", "sport", "any other"]
    page.locator("#map svg a").first.click()
    assert page.locator("#neighbours table.results tbody tr").count() == 4
    page.get_by_label("What differs from").select_option(newer.id)
    page.get_by_role("button", name="Compare").click()
    profile = page.locator("#benchmarks tbody tr").nth(1).inner_text().split("\t")
    assert profile[:4] == ["profile auc", "0.700", "0.600", "-0.100"]
    assert "worse" in profile[4]
    assert "Both are in space" in page.locator("main").inner_text()


def test_the_table_shows_the_next_day_and_no_later_one(page, plain):
    """The day after the first version was refused: only the week after has judged it."""
    entities, fold_in = parts()
    late = [result("next", DAY + timedelta(days=7), 0.9)]
    plain.publish("author", DAY, SPACE, entities, fold_in, {}, late)
    day = DAY + timedelta(days=1)
    on_time = [result("next", day + timedelta(days=1), 0.7)]
    plain.publish("author", day, SPACE, entities, fold_in, {}, on_time)
    page.goto("/embeddings/author")
    newer, older = page.locator("table.versions tbody tr").all_inner_texts()
    assert "0.700" in newer
    assert "0.900" not in older


def test_differences_from_an_unknown_version_are_an_error_page(page, plain):
    version = publish(plain)
    page.goto(f"/diff/{version.id}?against=2022-04-30")
    assert "2022-04-30" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("width", [360, 1150])
def test_no_element_overflows_the_page(page, plain, width):
    publish(plain, DAY - timedelta(days=1), metrics={"m" * 90: 1, "n": 1.0})
    metrics = {"m" * 90: 2, "n": 3.0}
    version = publish(plain, commit="abc123", note="x" * 300, metrics=metrics)
    plain.set_alias("author", "a" * 100, version, reason="x" * 500)
    results = [Result("t" * 100, "m" * 100, DAY, 0.5, 0.4, 0.6, 9, {"b" * 100: 0.3})]
    plain.add_results(version, results)
    page.set_viewport_size({"width": width, "height": 800})
    diff = "/diff/author/latest?against=2022-04-24"
    for address in ("/", "/embeddings/author", "/embeddings/author/latest?id=p1", diff):
        page.goto(address)
        elements = page.locator("main > *").all()
        assert elements
        for element in elements:
            box = element.bounding_box()
            assert box is not None, "an element is not visible"
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
