"""The registry's pages in a real browser, without JavaScript."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from registry_parts import DAY, parts, publish

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
    """Newest first, with reasons; a version that was removed is named, but not linked."""
    old = publish(plain, seed=1)
    plain.set_alias("author", "serving", old, reason="<b>first</b>")
    publish(plain, seed=2)
    page.goto("/embeddings/author")
    assert "replaced" in page.locator("table.versions tbody tr").nth(1).inner_text()
    rows = page.locator("table.moves tbody tr")
    shown = [cells.split("\t")[1:] for cells in rows.all_inner_texts()]
    assert shown == [
        ["latest", "2022-04-25.r1", "2022-04-25.r2", ""],
        ["serving", "none", "2022-04-25.r1", "<b>first</b>"],
        ["latest", "none", "2022-04-25.r1", ""],
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


@pytest.mark.parametrize("width", [360, 1150])
def test_no_element_overflows_the_page(page, plain, width):
    publish(plain, DAY - timedelta(days=1), metrics={"m" * 90: 1, "n": 1.0})
    metrics = {"m" * 90: 2, "n": 3.0}
    version = publish(plain, commit="abc123", note="x" * 300, metrics=metrics)
    plain.set_alias("author", "a" * 100, version, reason="x" * 500)
    page.set_viewport_size({"width": width, "height": 800})
    for address in ("/", "/embeddings/author", "/embeddings/author/latest?id=p1"):
        page.goto(address)
        elements = page.locator("main > *").all()
        assert elements
        for element in elements:
            box = element.bounding_box()
            assert box is not None, "an element is not visible"
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
