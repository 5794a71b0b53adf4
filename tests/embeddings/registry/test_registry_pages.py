"""The registry's pages in a real browser, without JavaScript."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_parts import parts, publish

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
    """A page of a browser that may run no script; fails when anything is loaded from elsewhere, refused or missing."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed here: `apt-get install chromium` to run this")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(base_url=service, java_script_enabled=False)
        faults: list[str] = []
        page.on(
            "request", lambda request: request.url.startswith(service) or faults.append(request.url)
        )
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on("response", lambda response: faults.extend(broken_assets(response)))
        page.on("console", lambda message: "404" in message.text or faults.append(message.text))
        yield page
        browser.close()
    assert faults == []


def broken_assets(response) -> list[str]:
    """What a page needs and does not get; the page itself may well be a 404."""
    return (
        [response.url]
        if response.status >= 400 and response.request.resource_type != "document"
        else []
    )


def test_a_newcomer_finds_neighbours_from_the_front_page(page, plain):
    """Front page, embedding, search; what is shown is what the client finds. Then a version and its lineage."""
    publish(plain, commit="abc123", metrics={"auc": 0.7})
    publish(plain, seed=5)
    page.goto("/")
    page.get_by_role("link", name="author", exact=True).click()
    assert page.locator("table tbody tr").count() == 2
    page.get_by_label("with id").fill("p1")
    page.get_by_label("how many").fill("3")
    page.get_by_role("button", name="Search").click()
    shown = page.locator("table.results tbody tr td:first-child").all_inner_texts()
    assert shown == [n.id for n in plain.neighbours("author", "producer:p1", 3)]
    page.get_by_role("link", name="author", exact=True).click()
    page.locator("table tbody tr").nth(1).get_by_role("link").click()
    assert "abc123" in page.locator(".lineage").inner_text()


def test_a_mistyped_id_offers_the_one_that_was_meant(page, plain):
    publish(plain)
    page.goto("/embeddings/author")
    page.get_by_label("Of").select_option("consumer")
    page.get_by_label("with id").fill("p1")
    page.get_by_role("button", name="Search").click()
    assert "There is no consumer 'p1'" in page.get_by_role("alert").inner_text()
    page.get_by_role("link", name="producer:p1", exact=True).click()
    assert page.locator("table.results tbody tr").count() == len(parts()[0]["producer"].ids) - 1


@pytest.mark.parametrize("width", [360, 1150])
def test_nothing_hangs_out_of_the_page(page, plain, width):
    publish(plain, commit="abc123", note="x" * 300)
    page.set_viewport_size({"width": width, "height": 800})
    for address in ("/", "/embeddings/author", "/embeddings/author/latest?id=p1"):
        page.goto(address)
        boxes = [box.bounding_box() for box in page.locator("main > *").all()]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes if box)
