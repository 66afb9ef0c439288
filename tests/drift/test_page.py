"""The page: needs nothing from anywhere, escapes what strangers wrote, and reads in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from serving.test_page_in_browser import COLOURS, CONTRAST, FLAGS, contrast, find_chromium
from support.drift_checks import (
    BY_VERDICT,
    DRIFTED,
    MEASURED,
    POSITIVE,
    TOO_FEW,
    UNKNOWN,
    check_of,
    report_of,
)

from sentiment.drift.page import place, render_page
from sentiment.drift.performance import Performance
from sentiment.drift.report import DriftReport, MovedTerm, NewWord, Signal
from sentiment.metrics import Interval
from sentiment.serving.app import DRIFT_POLICY

NASTY = "<script>alert(1)</script><b onload='x'>&\"é"


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep what is said."""
        self.text += data


@pytest.mark.parametrize("verdict", BY_VERDICT)
def test_a_page_says_the_verdict_why_and_what_to_do(verdict: str) -> None:
    report = BY_VERDICT[verdict]
    text = " ".join(Reader(render_page(check_of(report))).text.split())
    for said in (*report.reasons, report.advice):
        assert f"{said[0].upper()}{said[1:]}." in text
    assert "version 3" in text and "prediction log" in text
    assert "2026-02-28 09:00 UTC to 2026-03-01 12:30 UTC" in text
    assert f"{report.reviews} reviews, with 1,500 of the reference" in text
    assert "Left out: answers of a shadow (4)." in text
    assert ("How far each signal is from the reference" in text) == (report is not TOO_FEW)


def test_all_values_are_on_the_page() -> None:
    text = " ".join(
        Reader(render_page(check_of(DRIFTED, run_id="abc", reviews=9_000))).text.split()
    )
    for said in (
        "11.0% from 10.0%, by chance up to 14.0%",
        "74.0% from 80.0%, by chance 72.0% to 86.9%",
        ".700 from .820, by chance down to .760",
        ".700 (.610 to .780)",
        ".800 (.760 to .840)",
        "Reviews with emoji: the texts of some of these reviews were not kept.",
        "kettl 0.0% 25.0%",
        "spout 12.5%",
        "MLflow run abc",
        "400 of 9,000 reviews, with 1,500 of the reference",
    ):
        assert said in re.sub(r"(?<=[a-z%])(?=\d+\.\d%)", " ", text), said


def test_a_page_needs_nothing_else() -> None:
    for report in BY_VERDICT.values():
        page = render_page(check_of(report))
        tags = Reader(page).tags
        assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags}
        attributes = {name for _, found in tags for name in found}
        assert not {"src", "href", "style", "action"} & attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert "http:" not in page and "https:" not in page and "url(" not in page


def test_the_policy_allows_the_style_of_the_page_and_nothing_more() -> None:
    page = render_page(check_of(DRIFTED))
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(
        found["content"]
        for tag, found in Reader(page).tags
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"


def test_words_of_strangers_are_escaped() -> None:
    report = replace(
        report_of(UNKNOWN, not_computed={"emoji": NASTY}),
        moved_terms=(MovedTerm(NASTY, 0.1, 0.2, 0.01),),
        new_words=(NewWord(NASTY, 0.1),),
    )
    page = render_page(check_of(report, source=NASTY, notes=(NASTY,), algorithm=NASTY))
    reader = Reader(page)
    assert not {"script", "b onload"} & {tag for tag, _ in reader.tags}
    assert [found for tag, found in reader.tags if tag == "b" and "onload" in found] == []
    assert reader.text.count(NASTY) == 6


@pytest.mark.parametrize(
    ("signal", "value", "expected"),
    [
        (UNKNOWN, 0.11, 12.5),  # .01 of the .04 from the reference's .10 to the limit's .14
        (UNKNOWN, 0.14, 50),
        (UNKNOWN, 0.90, 100),  # no farther than that
        (POSITIVE, 0.74, 37.5),  # down by .06 of .08
        (MEASURED, 0.88, 0),  # better than the reference
        (Signal("words_ks", "input", 0.03, None, 0.05, 0.06, True, 400), 0.03, 25),
        (Signal("emoji", "input", 0.0, 0.0, 0.0, 0.0, True, 400), 0.0, 0),
        (Signal("emoji", "input", 0.1, 0.0, 0.0, 0.0, True, 400), 0.1, 100),
    ],
)
def test_a_value_is_drawn_by_its_share_of_the_way_to_the_limit(
    signal: Signal, value: float, expected: float
) -> None:
    assert place(signal, value) == pytest.approx(expected)


def test_a_reference_without_a_mistake_and_no_answer_have_a_page() -> None:
    perfect = Performance(0, 0, Interval(1.0, 1.0, 1.0), None, None, None)
    assert "1.000" in render_page(check_of(replace(DRIFTED, performance=perfect)))


# --- in a browser --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on the path")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


def shown(browser: Browser, folder: Path, report: DriftReport, **options: Any) -> Page:
    """The page of a check as the browser shows it; nothing may be complained of or asked for."""
    file = folder / "drift.html"
    file.write_text(render_page(check_of(report, run_id="0123456789abcdef" * 2)), encoding="utf-8")
    page = browser.new_page(**options)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url))
    page.goto(file.as_uri())
    assert said == [file.as_uri()]
    return page


@pytest.mark.parametrize("verdict", ["watch", "drifted"])
def test_text_can_be_read_in_both_schemes(browser: Browser, tmp_path: Path, verdict: str) -> None:
    page = shown(browser, tmp_path, BY_VERDICT[verdict])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        texts = [found for found in page.evaluate(COLOURS) if found[0] != "file button"]
        assert len(texts) > 8
        assert (sum(texts[0][2][-1][:3]) < 200) == (scheme == "dark")
        assert [text for text, *colours in texts if contrast(*colours) < CONTRAST] == []
    page.close()


def test_signals_are_drawn_at_their_place_and_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    """A quarter of the way ends at an eighth of the width, as the limit is at its middle."""
    page = shown(browser, tmp_path, DRIFTED, viewport={"width": 1000, "height": 800})
    tracks = page.locator(".track")
    assert tracks.count() == 3
    ends = []
    for at in range(3):
        ground, bar, limit = (
            tracks.nth(at).locator(part).bounding_box() for part in (".ground", ".bar", ".limit")
        )
        assert ground and bar and limit
        assert limit["x"] - ground["x"] == pytest.approx(ground["width"] / 2, abs=2)
        ends.append(bar["width"] / ground["width"])
    assert ends == pytest.approx([0.125, 0.375, 1.0], abs=0.01)
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.close()


def test_a_server_that_shows_the_page_need_allow_no_more_than_its_style(
    browser: Browser, tmp_path: Path
) -> None:
    """With the header that the server sends the style still holds, and nothing is blocked."""
    html = render_page(check_of(DRIFTED))
    page = browser.new_page(color_scheme="dark")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.route(
        "http://drift.test/",
        lambda route: route.fulfill(
            body=html, content_type="text/html", headers={"Content-Security-Policy": DRIFT_POLICY}
        ),
    )
    page.goto("http://drift.test/")
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.close()
    assert (colour, said) == ("rgb(19, 21, 24)", [])
