"""The leaderboard of 30 agents in a real browser: it asks nothing of the network, and works on a phone."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from support.chromium import chromium

from lram.reports.leaderboard_site import write_site

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(make_synthetic, tmp_path_factory):
    synthetic = make_synthetic(tmp_path_factory.mktemp("leaderboard"))
    domains = ("atari", "procgen", "dmcontrol", "metaworld", "robosuite", "composuite")
    tasks = [synthetic.task(f"{domain}/task") for domain in domains]
    names = [f"agent-{number:02d}" for number in range(30)]

    def outcome(item):
        generator = np.random.default_rng(zlib.crc32(item.id.encode()))
        return float(0.2 + 0.02 * names.index(item.agent) + 0.1 * generator.normal())

    def run(number):
        agents = [synthetic.agent(name) for name in names[number::5]]
        return synthetic.run(synthetic.plan(agents, tasks, 5), outcome, name=f"lab-{number}").path

    folders = [run(number) for number in range(5)]
    return write_site(folders, synthetic.folder / "site", reports=False).as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the site in a window of some size; fails at the end on any error or request but for the page."""
    contexts, complaints = [], []

    def open_page(width=1200, fragment=""):
        context = browser.new_context(viewport={"width": width, "height": 844})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:")) or complaints.append(request.url),
        )
        page.goto(address + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


TABLE = "#table-leaderboard-1"


def column(page, place):
    return page.eval_on_selector_all(
        f"{TABLE} tbody tr", f"rows => rows.map(row => row.cells[{place}].firstChild.textContent.trim())"
    )


def shown(page):
    return page.eval_on_selector_all(f"{TABLE} tbody tr", "rows => rows.filter(row => !row.hidden).length")


def test_thirty_agents_sort_and_filter_without_an_error_or_a_request(open_page):
    page = open_page()
    assert shown(page) == 30
    headings = page.eval_on_selector_all(f"{TABLE} thead th", "cells => cells.map(cell => cell.textContent)")
    place = headings.index("robosuite")
    page.locator(f"{TABLE} thead th").nth(place).locator("button").click()
    values = [float(text.replace("−", "-")) for text in column(page, place)]
    assert values == sorted(values, reverse=True)
    page.locator(".filter input").fill("lab-3")
    assert shown(page) == 6


def test_headings_stay_while_the_table_scrolls(open_page):
    page = open_page()
    box = page.locator(f"div.scroll:has({TABLE})")
    box.evaluate("element => { element.scrollTop = 600 }")
    assert box.evaluate("element => element.scrollTop") > 300
    top = box.bounding_box()["y"]
    assert abs(page.locator(f"{TABLE} thead th").first.bounding_box()["y"] - top) < 2


def test_an_agent_leads_to_its_details_also_from_an_address(open_page):
    page = open_page()
    details = page.locator("details:has(#agent-1-1)")
    assert details.get_attribute("open") is None
    page.locator(f"{TABLE} tbody th a").first.click()
    page.wait_for_function("document.querySelector('#agent-1-1').closest('details').open")
    assert "lram eval --tasks demo8" in details.inner_text()
    other = open_page(fragment="#agent-1-7")
    assert other.locator("details:has(#agent-1-7)").get_attribute("open") is not None


def test_only_boxes_scroll_sideways_never_the_page(open_page):
    page = open_page()
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    for width in (390, 768, 1200):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_every_row_and_column_is_there(open_page):
    page = open_page(1030)  # CSS pixels of A4, landscape, within its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1030
    box = page.locator(f"div.scroll:has({TABLE})")
    assert box.evaluate("element => element.scrollHeight - element.clientHeight") <= 1
    assert page.locator(".filter").first.is_hidden()
