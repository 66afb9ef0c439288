"""The page in a real browser: mouse, keyboard, dropped files, without JavaScript, both schemes."""

from __future__ import annotations

import csv
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from support.drift_checks import BY_VERDICT, check_of
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, running_app
from werkzeug.serving import make_server

from sentiment.drift.page import render_page
from sentiment.drift.report import DriftCheck, PastCheck
from sentiment.predictions.log import LoggedPrediction, PredictionLog
from sentiment.serving.service import Service
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # within a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
LONG_WORD = "good" * 60
CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3, for text of any size
Open = Callable[..., Page]

# Every piece of text that is shown, with its colour and what lies behind it, as [r, g, b, a]; of
# the backgrounds the nearest first. The formula of the contrast is in Python, below.
COLOURS = """
() => {
  const rgba = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const behind = (element) => {
    const found = [];
    for (let at = element; at; at = at.parentElement)
      found.push(rgba(getComputedStyle(at).backgroundColor));
    return found;
  };
  const shown = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.getClientRects().length || element.closest(".unseen")) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    shown.push([text.slice(0, 40), rgba(colour), behind(element)]);
  }
  for (const field of document.querySelectorAll("input[type=text], textarea")) {
    shown.push([field.id, rgba(getComputedStyle(field).color), behind(field)]);
    shown.push([field.id + " placeholder",
                rgba(getComputedStyle(field, "::placeholder").color), behind(field)]);
  }
  const button = getComputedStyle(document.querySelector("input[type=file]") || document.body,
                                  "::file-selector-button");
  shown.push(["file button", rgba(button.color), [rgba(button.backgroundColor),
              ...behind(document.body)]]);
  return shown;
}
"""


def find_chromium() -> str | None:
    """The browser that `CHROMIUM` names, or one on the path."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def log_answers(log: PredictionLog) -> None:
    """Users with feedback, for the A/B test's pictures; a seventh of the answers is wrong."""
    for at in range(200):
        arm, version = ("champion", "1") if at % 2 else ("challenger", "2")
        row = LoggedPrediction(
            *(f"{at:032x}", 0, 1_700_000_000.0 + at, arm, version, "1-vs-2", f"user {at}", ""),
            *(None, 4, 1, 1, 0.9, int(at % 10 < 5), 1.0),
        )
        log.write([row])
        right = at % 7 > 0
        true = int((at % 10 < 5) == right)
        assert log.add_feedback(row.request_id, 0, true, None, row.at)


def drift_check() -> DriftCheck:
    """A check that found drift, with two before it."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    before = [PastCheck(at, "steady", 400, "unknown words", 0.5, 0.83)]
    before.append(PastCheck(at, "watch", 400, "emoji", 0.9, None))
    return check_of(BY_VERDICT["drifted"], version="1", before=tuple(before))


@pytest.fixture(scope="module")
def service(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Of an app for which a test against the challenger is configured."""
    with running_app(store, tmp_path_factory.mktemp("log"), ab=("challenger", 0.0)) as app:
        service: Any = app.extensions["serving"]
        log_answers(service.log)
        check = drift_check()
        service.last_check = lambda: (render_page(check), check.to_json())
        service.app = app
        yield service


@pytest.fixture(scope="module")
def address(service: Any) -> Iterator[str]:
    """The app on a port of its own."""
    server = make_server("127.0.0.1", 0, service.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def log(service: Service) -> PredictionLog:
    """The log of the app; its rows are there when feedback is, which waits for them."""
    return service.log


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install one (apt install chromium) or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Open the page in a window of its own; what it loads and says is checked at the end."""
    contexts, said, hosts = [], [], set()

    def open_one(width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        # what the content security policy refuses is said on the console as well
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    # an answer of 4xx is meant
    assert [line for line in said if "the server responded with a status of 4" not in line] == []
    assert hosts == {urlsplit(address).netloc}


def ask(page: Page, text: str, *, lines: bool = False) -> None:
    page.get_by_label("One a line" if lines else "One review").check(force=True)
    page.get_by_label("Review", exact=True).fill(text)
    page.get_by_role("button", name="Read the sentiment").click()
    page.wait_for_load_state()


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour, 0–1 (WCAG 2.2, definitions)."""
    parts = [value / 255 for value in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def blend(above: list[float], below: list[float]) -> list[float]:
    share = above[3]
    return [share * a + (1 - share) * b for a, b in zip(above[:3], below[:3], strict=True)] + [1]


def contrast(colour: list[float], behind: list[list[float]]) -> float:
    """Contrast ratio, 1–21, of a colour before backgrounds, the nearest first."""
    ground: list[float] = [255, 255, 255, 1]
    for layer in reversed(behind):
        ground = blend(layer, ground)
    light, dark = sorted((luminance(blend(colour, ground)), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_formula_is_the_standards() -> None:
    assert contrast([0, 0, 0, 1], [[255, 255, 255, 1]]) == pytest.approx(21)
    assert contrast([118, 118, 118, 1], []) == pytest.approx(4.54, abs=0.005)  # known: #767676
    assert contrast([255, 255, 255, 0.5], [[0, 0, 0, 0.5]]) < 3


def test_a_person_types_submits_and_reads(open_page: Open, address: str) -> None:
    page = open_page()
    shown = page.request.post(f"{address}/predict", data={"text": BAD_TEXT}).json()
    ask(page, BAD_TEXT)
    result = page.get_by_role("region", name="Result")
    assert "Negative" in result.inner_text()
    assert "0.1% probability of positive" in result.inner_text()
    assert shown["predictions"][0]["probability"] < 0.0015
    marks = result.locator("blockquote mark")
    assert marks.all_inner_texts() == ["Broken", "cork", "late", "delivery"]
    kinds = [str(mark.get_attribute("class")).split()[0] for mark in marks.all()]
    assert kinds[0] == "negative"
    for mark, kind in zip(marks.all(), kinds, strict=True):  # not by colour alone
        style = mark.evaluate("mark => getComputedStyle(mark).textDecorationStyle")
        assert style == {"negative": "dashed", "positive": "solid"}[kind]
    assert f"Version\n{shown['version']}" in result.inner_text()
    assert page.get_by_label("Review", exact=True).input_value() == BAD_TEXT
    ask(page, UNKNOWN_TEXT)
    assert "The model knows no word of this review" in result.inner_text()


def test_the_keyboard_is_enough(open_page: Open) -> None:
    page = open_page()
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        ring = page.evaluate(
            "(e => getComputedStyle(e.matches('[type=radio]') ? e.nextElementSibling : e)"
            ".outlineStyle)(document.activeElement)"
        )
        assert ring == "solid"
        seen.append(page.evaluate(focused))
        if seen[-1] == "text":
            break
    assert seen[0] == "Skip to the content" and "A/B test" in seen and seen[-1] == "text"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")  # to "one a line"
    page.keyboard.press("Tab")
    page.keyboard.type(GOOD_TEXT)
    page.keyboard.press("Enter")
    page.keyboard.type(BAD_TEXT)
    for _ in range(6):  # three examples, file, column, button
        page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Read the sentiment"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="2 reviews: 1 positive, 1 negative").wait_for()
    assert page.evaluate(focused) == "result"
    page.keyboard.press("Tab")
    with page.expect_download() as started:
        page.keyboard.press("Enter")
    scored = Path(started.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(scored.splitlines()))
    assert [row["label"] for row in rows] == ["positive", "negative"]


def test_an_error_is_said_where_the_eye_and_the_ear_are(open_page: Open) -> None:
    page = open_page(360)
    ask(page, "  ")
    problem = page.get_by_role("alert")
    assert "The text is empty" in problem.inner_text()
    assert page.evaluate("document.activeElement.id") == "result"
    assert problem.evaluate("e => e.getBoundingClientRect().top") > -1
    field = page.get_by_label("Review", exact=True)
    assert field.get_attribute("aria-describedby") == "result"


@pytest.mark.parametrize("script", [True, False])
def test_a_file_is_answered_with_and_without_javascript(
    open_page: Open, tmp_path: Path, script: bool
) -> None:
    page = open_page(360, java_script_enabled=script)
    file = tmp_path / "reviews.csv"
    file.write_text(f'name,Review text\nA,"{GOOD_TEXT}"\nB,{BAD_TEXT}\nC,\n', encoding="utf-8")
    page.get_by_label("Or a file: CSV, TSV, JSON, Excel").set_input_files(file)
    page.get_by_role("button", name="Read the sentiment").click()
    page.get_by_role("heading", name="3 reviews: 1 positive, 1 negative").wait_for()
    chips = page.locator("td .chip").all_inner_texts()
    assert [chip.split()[-1] for chip in chips] == ["Positive", "Negative", "text"]
    with page.expect_download() as started:
        page.get_by_role("link", name="Download CSV").click()
    assert started.value.suggested_filename == "scored.csv"
    ask(page, GOOD_TEXT)
    assert "Positive" in page.get_by_role("region", name="Result").inner_text()


def test_a_file_can_be_dropped_and_reviews_are_counted(open_page: Open) -> None:
    page = open_page()
    count = page.locator("#count")
    assert not count.is_visible()
    page.get_by_label("Review", exact=True).fill("good\n\nbad")
    assert count.inner_text() == "9 characters, 2 lines read as one review"
    page.get_by_label("One a line").check(force=True)
    assert count.inner_text() == "2 reviews"
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["text\\nsturdy\\nbroken\\nneat\\n"], "dropped.csv"));
          const form = document.getElementById("reviews");
          for (const kind of ["dragenter", "dragover", "drop"])
            form.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true,
                                                    cancelable: true}));
        }"""
    )
    assert count.inner_text() == "dropped.csv"
    page.get_by_role("button", name="Read the sentiment").click()
    page.get_by_role("heading", name="3 reviews: 2 positive, 1 negative").wait_for()


def test_every_state_fits_a_phone_and_can_be_read_by_day_and_by_night(
    open_page: Open, address: str
) -> None:
    page = open_page(360)
    many = "\n".join([GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, LONG_WORD, "Good and sturdy, but late"])

    def follow(name: str) -> Callable[[], Any]:
        return lambda: page.get_by_role("link", name=name, exact=True).click()

    states: dict[str, Callable[[], Any]] = {
        "empty": lambda: None,
        "positive": lambda: ask(page, f"{GOOD_TEXT} {LONG_WORD}"),
        "negative": lambda: ask(page, BAD_TEXT),
        "no known words": lambda: ask(page, UNKNOWN_TEXT),
        "many": lambda: ask(page, many, lines=True),
        "error": lambda: ask(page, " "),
        "nothing there": lambda: page.goto(f"{address}/nothing"),
        **{name: follow(name) for name in ("API", "Model", "Complaints", "Drift", "A/B test")},
    }
    axe = Axe()
    for state, reach in states.items():
        reach()
        page.wait_for_load_state()
        assert overflow(page) <= 0, state
        if state in ("API", "Model", "Complaints", "Drift"):
            assert page.locator("nav [aria-current=page]").inner_text() == state
        found = axe.run(page)
        assert found.violations_count == 0, (state, found.generate_report())
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (ground == "rgb(19, 21, 24)") == (scheme == "dark")
            faint = [
                (text, round(contrast(colour, behind), 2))
                for text, colour, behind in page.evaluate(COLOURS)
                if contrast(colour, behind) < CONTRAST
            ]
            assert faint == [], (state, scheme)
    assert page.url == f"{address}/ab"
    assert page.get_by_role("heading", level=1).inner_text() == "The split is not as configured"
    assert page.locator(".history path").count() == 2
    assert page.locator(".whisker circle").count() == 4


@pytest.mark.parametrize("script", [True, False])
def test_two_buttons_say_what_a_review_was(
    open_page: Open, log: PredictionLog, script: bool
) -> None:
    page = open_page(java_script_enabled=script)
    page.get_by_role("button", name="Not good, broke after one game").click()  # an example
    page.get_by_text("Was this right?").wait_for()
    page.wait_for_load_state()  # before its script has run a button sends the form, as without
    number = page.locator(".facts dd").last.inner_text()
    page.get_by_role("button", name="No, ").click()
    if script:
        page.get_by_text("Kept: it is").wait_for()
        assert page.locator("button[aria-pressed=true]").inner_text().startswith("No, ")
        page.get_by_role("button", name="Yes, ").click()  # on second thoughts
        page.locator("button[aria-pressed=true]", has_text="Yes, ").wait_for()
    else:
        page.get_by_role("heading", name="Thank you").wait_for()
    (frame,) = log.read(sources=["page"], since=0)
    (its,) = frame[frame["request_id"] == number].to_dict("records")
    assert its["true_label"] == (its["label"] if script else 1 - its["label"])


def test_a_list_is_sifted_sorted_and_turned(open_page: Open, log: PredictionLog) -> None:
    """260 reviews: more than are on the page, and more than have their words marked."""
    page = open_page(java_script_enabled=True)
    texts = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, "Good and sturdy, but late"] * 65
    texts[256:258] = [f"={GOOD_TEXT}", "y " * 10_001]  # a formula, and one that is too long
    page.get_by_label("One a line").check(force=True)
    page.get_by_label("Review", exact=True).fill("\n".join(texts))
    page.keyboard.press("Control+Enter")
    shown = page.locator("#shown")
    shown.get_by_text("1–50 of 260").wait_for()
    rows = page.locator("#answers tbody tr")
    assert rows.count() == 50
    for later in ("51–100", "101–150", "151–200", "201–250", "251–260"):
        page.get_by_role("button", name="Later").click()
        assert shown.inner_text() == f"{later} of 260"
    assert page.get_by_role("button", name="Later").is_disabled()
    assert rows.first.locator("td").all_inner_texts()[:3] == ["251", UNKNOWN_TEXT, "no known words"]
    assert rows.count() == 10
    assert rows.nth(6).locator("td").nth(1).inner_text() == f"={GOOD_TEXT}"
    assert rows.nth(7).get_by_role("button").count() == 0
    # the buttons of a row that was made here know its place in the answer
    rows.nth(1).get_by_role("button", name="Wrong").click()
    page.get_by_text("Kept: it is").wait_for()
    (frame,) = log.read(sources=["page"])
    (its,) = frame[frame["true_label"].notna() & (frame["position"] == 251)].to_dict("records")
    assert its["text"] == texts[251] and its["true_label"] == 1 - its["label"]
    page.get_by_label("Show").select_option("negative")
    assert "of " in shown.inner_text() and shown.inner_text().startswith("1–50")
    assert set(rows.locator(".chip").all_inner_texts()) == {"− Negative"}
    page.get_by_label("Show").select_option("neither")
    assert shown.inner_text() == "1–50 of 66"
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Order").select_option("low")
    shares = [
        float(each.strip("<>%")) for each in rows.locator("td:nth-child(4)").all_inner_texts()
    ]
    assert shares == sorted(shares) and len(set(shares)) == 1
    page.get_by_label("Order").select_option("high")
    assert rows.first.locator("td").nth(1).inner_text() == GOOD_TEXT
    page.get_by_label("from").fill("99.99999")
    assert shown.inner_text() == "None is like that"
    assert rows.count() == 0
