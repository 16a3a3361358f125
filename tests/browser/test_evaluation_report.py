"""The evaluation's report in a real headless Chromium: alone, in light and dark, on a narrow screen, on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from coordinator.evaluation.charts.colour import contrast
from coordinator.evaluation.report import render
from coordinator.evaluation.report_data import ReportData
from shared.sheets import contact_sheet
from tests.invented_report import invented, pair, without_comparison

# Every element that has text of its own: its colour, the first opaque ground behind it, and where it ends.
_TEXTS = """() => [...document.querySelectorAll('body *')].filter(e =>
  [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest('title')).map(e => {
    let ground = e, seen = 'rgba(0, 0, 0, 0)';
    while (ground && seen === 'rgba(0, 0, 0, 0)') {
      seen = getComputedStyle(ground).backgroundColor; ground = ground.parentElement;
    }
    const style = getComputedStyle(e), inSvg = e instanceof SVGElement;
    return {text: e.textContent.trim().slice(0, 40), colour: inSvg ? style.fill : style.color, ground: seen};
  })"""
_LINES = """() => [...document.querySelectorAll('svg.chart g[class], svg.chart line[class^=w]')].map(e => {
    const style = getComputedStyle(e), hollow = e.classList.contains('hollow');
    return {colour: e.tagName === 'line' || hollow ? style.stroke : style.fill,
            ground: getComputedStyle(document.body).backgroundColor};
  })"""
_SCROLLING = """() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)
  .map(e => [e.tabIndex, e.getAttribute('aria-label')])"""


@contextmanager
def opened(chromium: Browser, folder: Path, data: ReportData, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """The report as a file in a fresh browser, and every address that the browser asked for or complained of."""
    file = folder / "report.html"
    file.write_text(render(data), encoding="utf-8")
    context = chromium.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: asked.append(line.text))
    try:
        page.goto(file.as_uri())
        yield page, asked
    finally:
        context.close()


def rgb(css: str) -> tuple[int, ...]:
    found = re.fullmatch(r"rgba?\((\d+), (\d+), (\d+)(?:, 1)?\)", css)
    assert found, css
    return tuple(int(channel) for channel in found.groups())


@pytest.fixture(scope="module")
def partial() -> ReportData:
    """Three sites, one of which has not answered."""
    sheet = contact_sheet([pair(seed) for seed in range(6)], columns=6, cell_px=144)
    return without_comparison(invented(3, failures_png=sheet), "birch", "no answer yet")


def test_no_request_leaves_the_file_and_nothing_is_blocked(
    chromium: Browser, tmp_path: Path, partial: ReportData
) -> None:
    with opened(chromium, tmp_path, partial) as (page, asked):
        page.wait_for_function("() => [...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.locator("img").count() == 4
        assert [url for url in asked if not url.startswith(("file:", "data:image/png"))] == []
        assert sum(url.startswith("file:") for url in asked) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_and_every_mark_can_be_read(
    chromium: Browser, tmp_path: Path, partial: ReportData, scheme: str
) -> None:
    with opened(chromium, tmp_path, partial, color_scheme=scheme) as (page, _):
        texts = page.evaluate(_TEXTS)
        faint = [t for t in texts if contrast(rgb(t["colour"]), rgb(t["ground"])) < 4.5]
        assert len(texts) > 300
        assert faint == []
        marks = page.evaluate(_LINES)
        assert len(marks) > 50
        assert [m for m in marks if contrast(rgb(m["colour"]), rgb(m["ground"])) < 3] == []
        ground = rgb(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert (sum(ground) < 128) == (scheme == "dark")


@pytest.mark.parametrize("width", [400, 700])
def test_a_narrow_screen_needs_no_sideways_scrolling(chromium: Browser, tmp_path: Path, width: int) -> None:
    with opened(chromium, tmp_path, invented(6), viewport={"width": width, "height": 800}) as (page, _):
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        # What is wider than the screen scrolls by itself, and can be reached with the keyboard.
        wide = page.evaluate(_SCROLLING)
        assert wide
        assert all(tab == 0 and label for tab, label in wide)


def test_on_paper_the_page_is_light_keeps_its_colours_and_cuts_nothing_off(
    chromium: Browser, tmp_path: Path, partial: ReportData
) -> None:
    paper = {"width": 690, "height": 1000}  # A4 less its margins
    with opened(chromium, tmp_path, partial, color_scheme="dark", viewport=paper) as (page, _):
        page.emulate_media(media="print", color_scheme="dark")
        assert rgb(page.evaluate("() => getComputedStyle(document.body).backgroundColor")) == (255, 255, 255)
        cell = page.locator("table.heat td.shade").first
        assert cell.evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= paper["width"]
        cut = page.evaluate(
            "w => [...document.querySelectorAll('td, th, p, svg.chart')].map(e => e.getBoundingClientRect().right)"
            ".filter(right => right > w)",
            paper["width"],
        )
        assert cut == []
        pdf = page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")
        assert 5 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 40


def test_a_partial_report_says_so_before_anything_else(chromium: Browser, tmp_path: Path, partial: ReportData) -> None:
    with opened(chromium, tmp_path, partial) as (page, _):
        note = page.get_by_role("note", name="Partial report")
        assert note.is_visible()
        assert "birch has no figures" in note.inner_text()
        first = page.locator(".lede")
        assert note.bounding_box()["y"] < first.bounding_box()["y"]  # type: ignore[index]
        assert page.locator("table.heat td.none").count() == 3 + 4  # three sources, pooled, and three arms of the site
