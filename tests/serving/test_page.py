"""Web page: the form and its answers through Flask's client; the A/B test as a page."""

from __future__ import annotations

import csv
import html
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, shared_store
from werkzeug.test import TestResponse

from sentiment.ab import comparison as ab_test
from sentiment.metrics import Interval
from sentiment.serving.ab_page import comparison_view, round_axis
from sentiment.serving.ab_results import RunningComparison
from sentiment.serving.app import create_app
from sentiment.serving.page import ROWS_SHOWN, SCORED_COLUMNS, percents, render_ab
from sentiment.serving.schemas import Limits
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import REGISTERED_MODEL, Store

pytestmark = pytest.mark.xdist_group("serving")
SMALL = Limits(max_body=300_000, max_texts=300, max_characters=500)
EVIL = "<script>alert(1)</script> good \"quality\" & 'more' {{ 7*7 }}"
# Texts that say both, so that the probabilities are nowhere near 0 or 1
MIXED = {"positive": "Good and sturdy, but late!", "negative": "Late and broken, the price is fine"}
VOID = {"meta", "link", "input", "br"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shared_store(tmp_path_factory)


@pytest.fixture(scope="module")
def app(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'log.db'}"
    made = create_app({"store": str(store.folder), "log_url": url, "limits": SMALL, "token": None})
    yield made
    made.extensions["serving"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def probability(store: Store) -> Callable[[str], float]:
    """The probability of a text by the pipeline itself."""
    pipeline = load_pipeline(store, f"models:/{REGISTERED_MODEL}/1")
    return lambda text: float(pipeline.predict_proba([text])[0, 1])


class Checker(HTMLParser):
    """Well-formed, and nothing that the content security policy would refuse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str | None] = []
        self.feed(page)
        self.close()
        assert self.open == [] and len(self.ids) == len(set(self.ids))
        assert set(self.labels) <= {None, *self.ids}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every opening tag."""
        given = dict(attrs)
        assert len(given) == len(attrs), (tag, attrs)
        assert "style" not in given and not [name for name in given if name.startswith("on")]
        assert tag != "style" and (tag != "script" or given.get("src", "").startswith("/static/"))  # type: ignore[union-attr]
        for name in ("href", "src", "action"):
            assert (given.get(name) or "/").startswith(("/", "#")), (tag, attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.labels += [given["for"]] if "for" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<line …/>` and the like."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Every closing tag."""
        assert self.open.pop() == tag


def page_of(response: TestResponse, status: int = 200) -> str:
    assert response.status_code == status, response.text
    assert response.mimetype == "text/html"
    Checker(response.text)
    return response.text


def words_of(page: str) -> str:
    """The page's text, white space as one blank."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def post(client: FlaskClient, path: str = "/", **form: Any) -> TestResponse:
    return client.post(path, data=form, content_type="multipart/form-data")


def upload(text: str | bytes, name: str = "reviews.csv") -> tuple[io.BytesIO, str]:
    return io.BytesIO(text if isinstance(text, bytes) else text.encode()), name


def rows_of(response: TestResponse) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/csv"
    assert 'filename="scored.csv"' in response.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(response.data.decode("utf-8-sig"), newline="")))


def problem_of(response: TestResponse, status: int) -> str:
    found = re.search(r'<p class="problem"[^>]*>(.*?)</p>', page_of(response, status), re.DOTALL)
    assert found, response.text
    return html.unescape(found[1]).strip()


# --- one review ----------------------------------------------------------------------------


def test_the_empty_page_has_a_form_and_no_answer(client: FlaskClient) -> None:
    page = page_of(client.get("/"))
    assert 'name="text"' in page and 'name="file"' in page and "verdict" not in page
    assert 'value="one" checked' in page
    assert "/ab" not in page  # no test is configured
    assert 'href="/model"' in page and 'href="/openapi.json"' in page


@pytest.mark.parametrize("label", MIXED)
def test_one_review_is_answered_with_its_probability_and_its_words(
    client: FlaskClient, probability: Callable[[str], float], label: str
) -> None:
    text = MIXED[label]
    page = page_of(post(client, text=text))
    answer = client.post("/predict", json={"text": text}).get_json()
    share, threshold = f"{probability(text):.1%}", f"{answer['threshold']:.1%}"
    sign = {"positive": "+ Positive", "negative": "− Negative"}[label]
    assert f"{sign} {share} probability of positive positive from {threshold} up" in words_of(page)
    assert f"<title>{label.capitalize()}, {share}</title>" in page
    heaviest = answer["predictions"][0]["words"][0]
    start, end = heaviest["at"][0]
    assert f"{text[start:end]} {heaviest['weight']:+.2f}".replace("-", "−") in words_of(page)
    assert f'<mark class="{label} strength-3"' in page
    assert f"Version {answer['version']} Model LogisticRegression Arm champion" in words_of(page)
    assert f">\n{text}</textarea>" in page


def test_the_sum_on_the_page_is_the_decision(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"text": BAD_TEXT}).get_json()
    found = answer["predictions"][0]
    total = sum(word["weight"] for word in found["words"])
    expected = (
        f"All terms {total:+.2f} and the intercept {answer['intercept']:+.2f} make a decision "
        f"value of {found['decision']:+.2f}; above 0 is positive."
    )
    assert expected.replace("-", "−") in words_of(page_of(post(client, text=BAD_TEXT)))


def test_a_review_without_known_words_gets_the_prior_and_no_label(
    client: FlaskClient, store: Store
) -> None:
    page = page_of(post(client, text=UNKNOWN_TEXT))
    prior = load_pipeline(store, f"models:/{REGISTERED_MODEL}/1").named_steps["model"].prior
    assert (
        "No known words The model knows no word of this review. Of those it learnt from, "
        f"{prior:.1%} were positive." in words_of(page)
    )
    assert "<mark" not in page and "Positive" not in page and "Negative" not in page


def test_review_text_is_escaped_everywhere(client: FlaskClient) -> None:
    for form in ({"text": EVIL}, {"text": EVIL, "split": "lines"}, {"text": "", "column": EVIL}):
        response = post(client, **form)
        page = page_of(response, 200 if form["text"] else 400)
        assert "<script>alert" not in page and "49" not in words_of(page).split()
        assert "&lt;script&gt;alert" in page
    page = page_of(post(client, file=upload(f"text\n{EVIL}\n", name=f"{EVIL}.csv")))
    assert "<script>alert" not in page


def test_line_ends_of_a_browser_are_one_character(client: FlaskClient) -> None:
    assert ">\ngood\nbad</textarea>" in page_of(post(client, text="good\r\nbad"))


# --- many reviews --------------------------------------------------------------------------


def test_lines_are_reviews(client: FlaskClient, probability: Callable[[str], float]) -> None:
    texts = [MIXED["positive"], MIXED["negative"], UNKNOWN_TEXT]
    page = page_of(post(client, split="lines", text="\r\n\r\n".join(texts) + "\r\n"))
    words = words_of(page)
    assert "<title>3 reviews: 1 positive, 1 negative</title>" in page
    assert "1 without known words." in words and "could not be read" not in words
    assert "1 Good and sturdy , but late ! + Positive" in words  # marks end before punctuation
    for text in texts:
        assert f"{probability(text):.1%}" in words
    widths = re.findall(r'<rect class="(\w+)" x="[\d.]+%" width="([\d.]+)%" height="10"/>', page)
    assert [name for name, _ in widths] == ["positive", "negative", "neither"]
    assert {round(float(width), 9) for _, width in widths} == {round(100 / 3, 9)}


def test_a_file_is_read_by_the_name_of_its_column(client: FlaskClient) -> None:
    table = f'id,Review text\n1,"{GOOD_TEXT}"\n2,{BAD_TEXT}\n'
    assert "2 reviews: 1 positive, 1 negative" in words_of(
        page_of(post(client, file=upload(table)))
    )
    table = f"id\tsaid\n1\t{GOOD_TEXT}\n2\t{BAD_TEXT}\n"
    page = page_of(post(client, file=upload(table, "in.tsv"), column="Said", text="not looked at"))
    assert "2 reviews: 1 positive, 1 negative" in words_of(page)
    assert 'value="Said"' in page
    page = page_of(post(client, file=upload("text\ngood\n")))
    assert "1 review: 1 positive, 0 negative" in words_of(page)


def test_rows_that_cannot_be_read_are_shown_and_left_unscored(client: FlaskClient) -> None:
    table = b'id,text\n1,good\n2,\n3,a,b\n4,"open\n5,caf\xe9 good\n6,' + b"x" * 501 + b"\n7,bad\n"
    page = page_of(post(client, file=upload(table)))
    assert "7 reviews: 1 positive, 1 negative" in words_of(page)
    assert "5 could not be read." in words_of(page)
    reasons = re.findall(r'<span class="chip neither" title="([^"]*)">', page)
    assert reasons == [
        "no text",
        "3 fields, expected 2",
        "a quote is not closed or not doubled",
        "byte 0xe9 is not UTF-8",
        "has 501 characters",
    ]
    given = re.search(r'name="reviews" value="([^"]*)"', page)
    assert given
    rows = rows_of(post(client, "/scored.csv", reviews=html.unescape(given[1])))
    assert [row["label"] for row in rows] == ["positive", *[""] * 5, "negative"]
    assert [row["reason"] for row in rows[1:6]] == reasons
    assert rows[4]["review"] == "caf\ufffd good"


def test_a_download_is_the_same_answer_and_is_not_logged_again(client: FlaskClient) -> None:
    writer = client.application.extensions["serving"].writer
    page = page_of(post(client, split="lines", text="good\nbad\ngreat"))
    given = re.search(r'name="reviews" value="([^"]*)"', page)
    request_id = re.search(r'name="request_id" value="([0-9a-f]{32})"', page)
    assert given and request_id and writer.flush(10)
    before = writer.written
    response = post(
        client, "/scored.csv", reviews=html.unescape(given[1]), request_id=request_id[1]
    )
    assert len(rows_of(response)) == 3 and writer.flush(10)
    assert writer.written == before


def test_no_more_rows_are_shown_than_can_be_read(client: FlaskClient) -> None:
    page = page_of(post(client, split="lines", text="\n".join(["good"] * (ROWS_SHOWN + 7))))
    assert page.count('<td class="review">') == ROWS_SHOWN
    assert "7 more are in the download" in words_of(page)


def test_what_is_shown_again_is_not_logged_again(app: Flask) -> None:
    serving = app.extensions["serving"]
    serving.writer.flush(5)
    before = serving.log.counts()
    post(app.test_client(), split="lines", text="good\nbad")
    assert serving.writer.flush(5)
    after = serving.log.counts()
    assert {name: after[name] - before[name] for name in after} == {
        name: 2 if name == "predictions" else 0 for name in after
    }


# --- the download --------------------------------------------------------------------------


def test_the_download_has_the_bits_of_the_answers(
    client: FlaskClient, probability: Callable[[str], float]
) -> None:
    texts = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, 'two\nlines, "quoted" 👍 good']
    given = json.dumps([[text, None] for text in texts])
    rows = rows_of(post(client, "/scored.csv", reviews=given))
    assert tuple(rows[0]) == SCORED_COLUMNS
    assert [row["review"] for row in rows] == texts
    assert [float(row["probability"]) for row in rows] == [probability(text) for text in texts]
    assert [row["label"] for row in rows] == ["positive", "negative", "", "positive"]
    assert [row["reason"] for row in rows] == ["", "", "no known words", ""]
    assert {row["version"] for row in rows} == {"1"}
    # the same inputs as the page takes
    assert rows_of(post(client, "/scored.csv", text=BAD_TEXT))[0] == rows[1]
    assert rows_of(post(client, "/scored.csv", file=upload(f"text\n{BAD_TEXT}\n")))[0] == rows[1]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_the_download_holds_no_formula(client: FlaskClient, start: str) -> None:
    given = json.dumps([[f"{start}1+cmd|good", None]])
    rows = rows_of(post(client, "/scored.csv", reviews=given))
    assert rows[0]["review"] == f"'{start}1+cmd|good"


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"text": ""}, 400, "The text is empty; expected a review of 1 to 500 characters, not al"),
        ({"text": " \n "}, 400, "The text is empty; expected a review of 1 to 500 characters, n"),
        ({"text": "x" * 501}, 422, "The text has 501 characters; expected a review of 1 to 500"),
        ({"text": "a\0b"}, 400, "The text has a NUL character; expected text."),
        ({"text": "\n \n", "split": "lines"}, 400, "What was sent has no review that can be read;"),
        ({"text": "a\n" * 301, "split": "lines"}, 422, "What was sent has more than 300 reviews; "),
        ({"text": "x" * 300_001}, 413, "What was sent is too large; expected at most 300,000"),
        ({"reviews": "[["}, 400, "The field 'reviews' is damaged; expected what the page put the"),
        ({"reviews": "[1]"}, 400, "The field 'reviews' is damaged; "),
        ({"reviews": '[["a", 1]]'}, 400, "The field 'reviews' is damaged; "),
        ({"reviews": "[" * 100_000}, 400, "The field 'reviews' is damaged; "),
        ({"reviews": '[["\\ud800", null]]'}, 400, "What was sent has no review that can be read ("),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_on_the_page(
    client: FlaskClient, form: dict[str, str], status: int, said: str
) -> None:
    for path in ("/", "/scored.csv"):
        assert problem_of(post(client, path, **form), status).startswith(said)


@pytest.mark.parametrize(
    ("table", "name", "said"),
    [
        (b"", "a.csv", "The file cannot be used: is empty, expected a header and one row per rev"),
        (b"id,stars\n1,5\n", "a.csv", "The file cannot be used: no column of reviews such as "),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.csv", "The file cannot be used: line 1: the header cannot "),
        (b"text\n", "a.csv", "What was sent has no review that can be read; expected one review "),
        (b"text,id\n,1\n", "a.csv", "What was sent has no review that can be read (no text); exp"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_said(
    client: FlaskClient, table: bytes, name: str, said: str
) -> None:
    response = post(client, file=upload(table, name), text="kept <here>", column="")
    assert problem_of(response, 400).startswith(said)
    assert problem_of(response, 400).endswith("Choose the file again: a browser does not keep it.")
    assert "kept &lt;here&gt;</textarea>" in response.text


def test_what_was_typed_stays_in_the_form(client: FlaskClient) -> None:
    page = page_of(post(client, text="x" * 501, split="one", column="body"), 422)
    assert "x" * 501 + "</textarea>" in page and 'value="body"' in page
    assert 'value="lines" checked' in page_of(post(client, text="", split="lines"), 400)


def test_a_large_text_field_is_no_error_of_flask(store: Store, tmp_path: Path) -> None:
    """Flask itself refuses a field of more than 500,000 bytes."""
    settings = {"store": str(store.folder), "log_url": f"sqlite:///{tmp_path / 'log.db'}"}
    app = create_app({**settings, "token": None})
    try:
        line = "good " + "x" * 800
        page = page_of(post(app.test_client(), split="lines", text="\n".join([line] * 700)))
        table = "text\n" + "\n".join([line] * 700)
        assert "700 reviews: 700 positive" in words_of(page)
        page = page_of(post(app.test_client(), file=upload(table)))
        assert "700 reviews: 700 positive" in words_of(page)
    finally:
        app.extensions["serving"].close()


def test_without_a_model_the_page_says_so(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = app.extensions["serving"].watcher
    monkeypatch.setattr(
        app.extensions["serving"].service,
        "watcher",
        SimpleNamespace(arms=None, problem="nothing is in production"),
    )
    client = app.test_client()
    assert 'name="text"' in page_of(client.get("/"))
    response = post(client, text="kept")
    assert problem_of(response, 503) == (
        "The model does not answer (nothing is in production); expected a version in production."
    )
    assert "kept</textarea>" in response.text
    assert watcher.arms is not None


def test_no_bad_request_is_the_servers_fault(client: FlaskClient) -> None:
    rng = random.Random(4)
    head = b"\r\n--x\r\nContent-Disposition: form-data; name="
    pieces = {
        "application/x-www-form-urlencoded": [
            *(
                b"text=%FFgood",
                b"text=",
                b"split=lines",
                b"%00",
                b"reviews=[[null,1]]",
                b"column=a",
            ),
            *(b'reviews=[["good",null]]', b"%", b"=", b"&&", b"text=%0D%0Agood"),
        ],
        "multipart/form-data; boundary=x": [
            *(head + b'"text"\r\n\r\ngood', head + b'"split"\r\n\r\nlines', head, b"\r\n--x--\r\n"),
            head + b'"file"; filename="a.csv"\r\n\r\ntext\ngood\n\xff\n"open',
            head + b'"file"; filename="a\0.tsv"\r\n\r\n\x1f\x8b',
            head + b'"reviews"\r\nContent-Type: text/plain; charset=no\r\n\r\n[["good", "x"]]',
        ],
    }
    seen = set()
    for _ in range(400):
        kind = rng.choice(list(pieces))
        glue = b"&" if "urlencoded" in kind else b""
        body = glue.join(rng.choices(pieces[kind], k=rng.randrange(1, 6)))
        body += rng.randbytes(rng.choice([0, 0, 5])) + rng.choice([b"", b"\r\n--x--\r\n"])
        if rng.random() < 0.2:
            kind = rng.choice(
                ["multipart/form-data", "application/json", "text/plain", "", "\xe9;="]
            )
        path = rng.choice(["/", "/scored.csv"])
        status = client.post(path, data=body, content_type=kind).status_code
        seen.add(status)
        assert status in (200, 400), (kind, body, status)
    assert seen == {200, 400}


# --- numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        (0.8642, 0.5, ("86.4%", "50.0%")),
        (0.76871, 0.76874, ("76.871%", "76.874%")),  # told apart by as many digits as it takes
        (0.5, 0.5, ("50.0%", "50.0%")),
        (0.99996, 0.5, (">99.9%", "50.0%")),
        (0.0001, 0.5, ("<0.1%", "50.0%")),
        (1.0, 0.0, ("100.0%", "0.0%")),
    ],
)
def test_shares_in_per_cent(
    probability: float, threshold: float, expected: tuple[str, str]
) -> None:
    assert percents(probability, threshold) == expected


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.71, 0.89], [0.7, 0.8, 0.9]),
        ([-0.031, 0.052, 0.0], [-0.05, 0.0, 0.05, 0.1]),
        ([0.5], [0.4, 0.6]),
        ([0.0], [0.0, 0.5]),
        ([0.812, 0.838], [0.81, 0.82, 0.83, 0.84]),
    ],
)
def test_an_axis_has_round_ticks_around_its_values(values: list[float], ticks: list[float]) -> None:
    axis = round_axis(values)
    assert [tick for _, tick in axis.ticks] == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx((ticks[0], ticks[-1]))
    places = [place for place, _ in axis.ticks]
    assert places == pytest.approx([100 * at / (len(ticks) - 1) for at in range(len(ticks))])
    assert all(axis.low <= value <= axis.high for value in values)


def test_places_on_an_axis_stay_within_it() -> None:
    axis = round_axis([0.7, 0.9])
    assert axis.place(0.75) == pytest.approx(25)
    assert (axis.place(-1.0), axis.place(2.0)) == (0, 100)


# --- the A/B test --------------------------------------------------------------------------


def answers_of(right: dict[str, int], wrong: dict[str, int]) -> pd.DataFrame:
    """One answer a user, arms in turn: so many right and wrong, half of them truly positive."""
    rows = []
    for arm, count in right.items():
        for at in range(count + wrong[arm]):
            true = at % 2
            label = true if at < count else 1 - true
            rows.append((at, f"{arm}{at}", arm, label, true))
    rows.sort(key=lambda row: row[0])
    frame = pd.DataFrame(rows, columns=["at", "unit", "arm", "label", "true_label"])
    return frame.assign(at=1_700_000_000.0 + frame["at"] * 60)


def running(answers: pd.DataFrame, **more: Any) -> RunningComparison:
    return RunningComparison(
        "1-vs-<3>", "1", "3", len(answers), True,
        comparison=ab_test.compare_arms(answers, share=0.5),
        history=ab_test.history(answers), **more,
    )  # fmt: skip


def ab_page(app: Flask, comparison: RunningComparison) -> str:
    with app.test_request_context("/ab"):
        page = render_ab(comparison)
    Checker(page)
    return page


def test_the_two_arms_are_shown_with_intervals_and_verdict(app: Flask) -> None:
    answers = answers_of({"champion": 700, "challenger": 900}, {"champion": 300, "challenger": 100})
    found = running(answers)
    page = ab_page(app, found)
    words = words_of(page)
    assert "Challenger better Accuracy +0.2" in words
    assert "Experiment 1-vs-<3>" in words and "<3>" not in page
    assert "Champion version 1 Challenger version 3 Answers 1,000 1,000" in words
    assert "With a true label 1,000 (100%) 1,000 (100%)" in words
    # Wilson's intervals of 700 and 900 of 1,000, from a table
    assert "Champion 70.0% (67.1% to 72.8%)" in words
    assert "Challenger 90.0% (88.0% to 91.7%)" in words
    assert "Accuracy 95% interval, valid however often one looks +20.0 points (+" in words
    assert (
        "50.0% of 2,000 users came to the challenger, 50.0% should have: p = 1.0000, as conf"
        in words
    )
    # 67.1 % and 91.7 % are on an axis from 60 % to 100 %
    dots = re.findall(r'<circle class="(\w+)" cx="([\d.]+)%" cy="8"', page)
    assert [name for name, _ in dots] == ["champion", "challenger"] * 2
    assert [float(place) for _, place in dots[:2]] == pytest.approx([25, 75])


def test_the_history_is_a_line_within_a_band(app: Flask) -> None:
    answers = answers_of({"champion": 700, "challenger": 900}, {"champion": 300, "challenger": 100})
    history = pd.DataFrame(
        {
            "at": [0.0, 86_400.0, 172_800.0],
            "labelled_units": [100, 1_100, 2_100],
            "difference": [0.0, 0.1, 0.05],
            "low": [-0.1, 0.0, 0.0],
            "high": [0.1, 0.2, 0.1],
        }
    )
    page = ab_page(app, replace(running(answers), history=history))
    # the axis goes from −10 to +20 points
    assert (
        'd="M0.00 33.33 L50.00 0.00 L100.00 33.33 L100.00 66.67 L50.00 66.67 L0.00 100.00 Z"'
        in page
    )
    assert 'd="M0.00 66.67 L50.00 33.33 L100.00 50.00"' in page
    words = words_of(page)
    assert "100 users 2,100 users" in words
    assert "1970-01-01 00:00 UTC to 1970-01-03 00:00 UTC" in words
    assert "after 2,100 users: +5.0 points (+0.0 to +10.0)" in page
    ab_page(app, replace(running(answers), history=history.head(1)))


def test_a_wrong_split_and_missing_labels_are_said(app: Flask) -> None:
    answers = answers_of({"champion": 400, "challenger": 100}, {"champion": 100, "challenger": 20})
    words = words_of(ab_page(app, running(answers)))
    assert "The split is not as configured" in words and "p < 0.0001, not as configured." in words
    words = words_of(ab_page(app, running(answers.head(0))))
    assert "Not enough labels yet" in words and "Too few users yet to check the split." in words
    assert "Answers 0 0" in words and "–" in words


def test_a_shadow_is_shown_with_what_it_would_have_said_otherwise(app: Flask) -> None:
    rows = pd.DataFrame(
        {
            "request_id": ["a", "a", "b", "b", "c", "c"],
            "position": 0,
            "unit": ["a", "a", "b", "b", "c", "c"],
            "arm": ["champion", "shadow"] * 3,
            "label": [1, 0, 1, 1, 0, 1],
            "probability": [0.9, 0.2, 0.8, 0.7, 0.4, 0.6],
            "true_label": [0, 0, None, None, None, None],
            "text": [EVIL, EVIL, "fine", "fine", None, None],
            "at": range(6),
        }
    )
    found = RunningComparison(
        "1-vs-2", "1", "2", 6, False,
        agreement=ab_test.shadow_agreement(rows), disagreements=ab_test.disagreements(rows),
    )  # fmt: skip
    page = ab_page(app, found)
    words = words_of(page)
    assert "Shadow comparison The same label for 33.3% of 3 users" in words
    assert "{{ 7*7 }} champion + Positive 90.0% shadow − Negative 20.0% true − Negative" in words
    assert "text not stored champion − Negative 40.0% shadow + Positive 60.0%" in words
    assert "fine" not in words.split() and "<script>alert" not in page
    assert "6 answers read from the prediction log, the oldest; there are more." in words


def test_intervals_beyond_what_is_known_are_dashes() -> None:
    answers = answers_of({"champion": 60, "challenger": 3}, {"champion": 2, "challenger": 1})
    view = comparison_view(running(answers))
    assert [words for _, words, _ in view["differences"]] == ["–", "–"]
    assert view["intervals"][1][1][1]["words"] == "–"  # macro-F1 of the challenger
    assert "history" not in view
    assert isinstance(running(answers).comparison.champion.accuracy, Interval)  # type: ignore[union-attr]
