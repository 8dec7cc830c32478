"""The page in a real browser: it works without errors, by keyboard, and on a phone."""

import pytest
from support.chromium import chromium
from support.undrawn import undrawn

from lram.reports import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(make_synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with undrawn(svg=True):  # which is on the page; the other files of a figure are only linked
        return write_report([make_synthetic(folder).study()], folder / "report").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the report in a window; fails at the end on any error or request."""
    contexts, complaints = [], []

    def open_page():
        context = browser.new_context(viewport={"width": 1200, "height": 844}, color_scheme="light")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("http") and complaints.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, table, place):
    return page.eval_on_selector_all(
        f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{place}].firstChild.textContent.trim())"
    )


def test_a_click_sorts_a_column_and_a_third_one_restores_it(open_page):
    page = open_page()
    before = column(page, "table-headline", 0)
    button = page.locator("#table-headline thead th").nth(1).locator("button")
    button.click()
    falling = [float(text.replace("−", "-")) for text in column(page, "table-headline", 1)]
    assert falling == sorted(falling, reverse=True)
    assert page.locator("#table-headline thead th").nth(1).get_attribute("aria-sort") == "descending"
    button.click()
    rising = [float(text.replace("−", "-")) for text in column(page, "table-headline", 1)]
    assert rising == falling[::-1]
    button.click()
    assert column(page, "table-headline", 0) == before


def test_sorting_works_from_the_keyboard_and_leaves_empty_cells_last(open_page):
    page = open_page()
    heading = page.locator("#table-domains thead th").nth(2).locator("button")
    heading.focus()
    page.keyboard.press("Enter")
    assert column(page, "table-domains", 2)[-1] == "–"
    page.keyboard.press("Enter")
    assert column(page, "table-domains", 2)[-1] == "–"


def test_names_sort_as_names(open_page):
    page = open_page()
    page.locator("#table-headline thead th").nth(0).locator("button").click()
    names = column(page, "table-headline", 0)
    assert names == sorted(names, key=str.lower)


def test_the_filter_leaves_the_rows_that_match(open_page):
    page = open_page()
    page.locator(".filter input").fill("coinrun")
    shown = page.eval_on_selector_all("#table-scores tbody tr", "rows => rows.filter(r => !r.hidden).length")
    assert shown == 1


def test_only_boxes_scroll_sideways_never_the_page(open_page):
    page = open_page()
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    for width in (390, 768, 1200):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_dark_scheme_turns_paper_and_ink(open_page):
    read = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    page = open_page()
    light = page.evaluate(read)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(read)
    assert light != dark
    brightness = [sum(int(part) for part in colour[4:-1].split(",")) for colour in (*light, *dark)]
    assert brightness[0] > brightness[1]
    assert brightness[2] < brightness[3]
