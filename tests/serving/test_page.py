"""The page: the form and its answers through Flask's client, and which words are marked."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import REGISTERED_MODEL
from support.html import EVIL, Checker, words_of
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, running_app, served_probabilities
from werkzeug.test import TestResponse

from sentiment.model.explanation import Contribution
from sentiment.serving.config import Limits
from sentiment.serving.page import (
    ROWS_A_PAGE,
    ROWS_MARKED,
    SCORED_COLUMNS,
    mark_words,
    percents,
    weigh_words,
)
from sentiment.tracking.artifact import load_pipeline
from sentiment.tracking.store import Store
from text_cleaning import TextCleaner

pytestmark = pytest.mark.xdist_group("serving")
SMALL = Limits(max_body=300_000, max_texts=300, max_characters=500)
# Texts that say both, so that the probabilities are nowhere near 0 or 1
MIXED = {"positive": "Good and sturdy, but late!", "negative": "Late and broken, the price is fine"}


@pytest.fixture(scope="module")
def app(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with running_app(store, tmp_path_factory.mktemp("log"), limits=SMALL) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def probability(store: Store) -> Callable[[str], float]:
    """The probability of a text by the pipeline itself."""
    pipeline = load_pipeline(store, f"models:/{REGISTERED_MODEL}/1")
    return lambda text: served_probabilities(pipeline, [text])[0]


def page_of(response: TestResponse, status: int = 200) -> str:
    assert response.status_code == status, response.text
    assert response.mimetype == "text/html"
    Checker(response.text)
    return response.text


def post(client: FlaskClient, **form: Any) -> TestResponse:
    return client.post("/", data=form, content_type="multipart/form-data")


def upload(text: str | bytes, name: str = "reviews.csv") -> tuple[io.BytesIO, str]:
    return io.BytesIO(text if isinstance(text, bytes) else text.encode()), name


def table_of(page: str) -> str:
    """The CSV that the page offers to download."""
    link = re.search(r'download="scored.csv" href="data:text/csv;base64,([^"]+)"', page)
    assert link, page
    return base64.b64decode(link[1]).decode("utf-8-sig")


def rows_of(page: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table_of(page), newline="")))


def problem_of(response: TestResponse, status: int) -> str:
    found = re.search(r'<p class="problem"[^>]*>(.*?)</p>', page_of(response, status), re.DOTALL)
    assert found, response.text
    return html.unescape(found[1]).strip()


# --- one review ----------------------------------------------------------------------------


def test_the_empty_page_has_a_form_and_no_answer(client: FlaskClient) -> None:
    page = page_of(client.get("/"))
    assert 'name="text"' in page and 'name="file"' in page and "verdict" not in page
    assert 'value="one" checked' in page
    assert re.findall(r'<a href="/(\w+)">', page) == ["ab", "drift", "complaints", "model", "api"]


@pytest.mark.parametrize("label", MIXED)
def test_one_review_is_answered_with_its_probability_and_its_words(
    client: FlaskClient, probability: Callable[[str], float], label: str
) -> None:
    text = MIXED[label]
    page = page_of(post(client, text=text))
    answer = client.post("/predict", json={"text": text, "explain": True}).get_json()
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
    start = f"{answer['intercept']:+.2f}".replace("-", "−")
    about = "most reviews are positive" if answer["intercept"] > 0 else "before any word"
    assert f"Starting point {about} {start}" in words_of(page)
    rows = re.findall(r'<th scope="row">(.*?)(?:<small>|</th>)', page)
    assert rows[0] == "Starting point" and rows[1] == text[start_of(answer) : end_of(answer)]


def start_of(answer: Any) -> int:
    return int(answer["predictions"][0]["words"][0]["at"][0][0])


def end_of(answer: Any) -> int:
    return int(answer["predictions"][0]["words"][0]["at"][0][1])


def test_a_review_without_known_words_gets_neither_label_nor_probability(
    client: FlaskClient,
) -> None:
    page = page_of(post(client, text=UNKNOWN_TEXT))
    assert "No known words The model knows no word of this review" in words_of(page)
    assert "<mark" not in page and "chip positive" not in page and "chip negative" not in page
    assert "%" not in re.sub('width="100%"', "", page)


def test_review_text_is_escaped_everywhere(client: FlaskClient) -> None:
    for form in ({"text": EVIL}, {"text": EVIL, "split": "lines"}, {"text": "", "column": EVIL}):
        response = post(client, **form)
        page = page_of(response, 200 if form["text"] else 400)
        assert "<script>alert" not in page and "49" not in words_of(page).split()
        assert "&lt;script&gt;alert" in page
    page = page_of(post(client, file=upload(f"text\n{EVIL}\n", name=f"{EVIL}.csv")))
    assert "<script>alert" not in page


# --- many reviews --------------------------------------------------------------------------


def test_lines_are_reviews(client: FlaskClient, probability: Callable[[str], float]) -> None:
    texts = [MIXED["positive"], MIXED["negative"], UNKNOWN_TEXT]
    page = page_of(post(client, split="lines", text="\r\n\r\n".join(texts) + "\r\n"))
    words = words_of(page)
    assert "<title>3 reviews: 1 positive, 1 negative</title>" in page
    assert "1 without known words." in words and "could not be read" not in words
    assert "1 Good and sturdy , but late ! + Positive" in words  # marks end before punctuation
    for text in texts[:2]:
        assert f"{probability(text):.1%}" in words
    assert f"{probability(UNKNOWN_TEXT):.1%}" not in words
    widths = re.findall(r'<rect class="(\w+)" x="[\d.]+%" width="([\d.]+)%" height="10"/>', page)
    assert [name for name, _ in widths] == ["positive", "negative", "neither"]
    assert {round(float(width), 9) for _, width in widths} == {round(100 / 3, 9)}


def test_a_file_is_read_by_the_name_of_its_column(client: FlaskClient) -> None:
    table = f'id,Review text\n1,"{GOOD_TEXT}"\n2,{BAD_TEXT}\n'
    words = words_of(page_of(post(client, file=upload(table))))
    assert "2 reviews: 1 positive, 1 negative" in words
    assert "Texts from 'Review text', of 2 columns." in words
    table = f"id\tsaid\n1\t{GOOD_TEXT}\n2\t{BAD_TEXT}\n"
    page = page_of(post(client, file=upload(table, "in.tsv"), column="Said", text="not looked at"))
    assert "2 reviews: 1 positive, 1 negative" in words_of(page)
    assert 'value="Said"' in page


def test_rows_that_cannot_be_read_are_shown_and_left_unscored(client: FlaskClient) -> None:
    table = b'id,text\n1,good\n2,\n3,a,b\n4,"open\n6,' + b"x" * 501 + b"\n7,bad\n"
    page = page_of(post(client, file=upload(table)))
    assert "6 reviews: 1 positive, 1 negative" in words_of(page)
    assert "4 could not be read." in words_of(page)
    reasons = re.findall(r'<span class="chip neither" title="([^"]*)">', page)
    assert reasons == [
        "no text",
        "3 fields, expected 2",
        "a quote is not closed or not doubled",
        "is too long",
    ]
    rows = rows_of(page)
    assert [row["label"] for row in rows] == ["positive", *[""] * 4, "negative"]
    assert [row["reason"] for row in rows[1:5]] == reasons
    # what could not be read does not come back
    assert [row["review"] for row in rows] == ["good", *[""] * 4, "bad"]


def test_no_more_rows_are_shown_than_can_be_read(client: FlaskClient) -> None:
    page = page_of(post(client, split="lines", text="\n".join(["good"] * (ROWS_MARKED + 7))))
    lists = re.sub("<template.*?</template>", "", page, flags=re.DOTALL)
    assert lists.count('<td class="review">') == ROWS_MARKED
    assert lists.count("<tr hidden>") == ROWS_MARKED - ROWS_A_PAGE
    assert f"The first 50 are shown; {ROWS_MARKED - 43} more are in the download" in words_of(page)


def test_what_is_shown_is_logged_once(app: Flask) -> None:
    service = app.extensions["serving"]
    assert service.writer.flush(5)
    before = service.log.counts()["predictions"]
    post(app.test_client(), split="lines", text="good\nbad")
    app.test_client().post("/predict", json={"text": "good"})
    assert service.writer.flush(5)
    assert service.log.counts()["predictions"] == before + 3
    (frame,) = service.log.read()
    assert frame.source.tolist()[-3:] == ["page", "page", "api"]


# --- "Was this right?" ---------------------------------------------------------------------


def buttons_of(page: str) -> dict[str, str]:
    """The form of the page's buttons, with the last of them pressed."""
    request_id = re.search('name="request_id" value="([0-9a-f]{32})"', page)
    assert request_id, page
    said = re.findall('name="said" value="([^"]+)"', page)
    return {"request_id": request_id[1], "said": said[-1]}


def true_labels(app: Flask, request_id: str) -> list[int | None]:
    service = app.extensions["serving"]
    assert service.writer.flush(60)
    (frame,) = service.log.read(sources=["page"])
    its = frame[frame.request_id == request_id].sort_values("position")
    return [None if label is pd.NA else int(label) for label in its.true_label]


def test_the_buttons_say_what_a_review_was(app: Flask, client: FlaskClient) -> None:
    given = buttons_of(page_of(post(client, text=MIXED["negative"])))
    assert given["said"] == "0:positive"  # "No, positive"
    browser = {"Accept": "text/html"}
    page = page_of(client.post("/right", data=given, headers=browser))
    assert "Kept: the review is + Positive" in words_of(page)
    assert true_labels(app, given["request_id"]) == [1]
    answer = client.post("/right", data={**given, "said": "0:negative"})
    assert answer.get_json() == {**answer.get_json(), "label": "negative", "position": 0}
    assert true_labels(app, given["request_id"]) == [0]
    table = "text\ngood\n\nbad\n,\n" + UNKNOWN_TEXT + "\n"
    page = page_of(post(client, file=upload(table)))
    said = re.findall('name="said" value="([^"]+)"', page)
    assert said == [
        f"{at}:{label}"
        for at, label in zip(
            "001122",
            ["positive", "negative", "negative", "positive", "positive", "negative"],
            strict=True,
        )
    ]
    given = buttons_of(page)
    assert client.post("/right", data=given).status_code == 200
    assert true_labels(app, given["request_id"]) == [None, None, 0]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"request_id": "0" * 32}, 404),
        ({"request_id": "x"}, 400),
        ({"said": "1:positive"}, 404),
        ({"said": "٣:positive"}, 400),
        ({"said": "-1:positive"}, 400),
        ({"said": "positive"}, 400),
        ({"said": "0:neither"}, 400),
        ({"said": ""}, 400),
    ],
)
def test_a_button_that_is_none_of_ours_keeps_nothing(
    client: FlaskClient, change: dict[str, str], status: int
) -> None:
    given = buttons_of(page_of(post(client, text="good")))
    response = client.post("/right", data={**given, **change})
    assert response.status_code == status
    assert sorted(response.get_json()) == ["error", "expected", "where"]
    page = page_of(
        client.post("/right", data={**given, **change}, headers={"Accept": "text/html"}), status
    )
    assert f"Error {status}" in words_of(page)


def test_a_page_of_another_site_presses_no_button(client: FlaskClient) -> None:
    given = buttons_of(page_of(post(client, text="good")))
    for header in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
        assert client.post("/right", data=given, headers=header).status_code == 403


def test_with_a_token_only_who_gives_it_says_what_was_right(
    start: Callable[..., FlaskClient],
) -> None:
    client = start(token="a secret", store_text=False)
    strangers = page_of(post(client, text="good"))
    assert 'name="said"' not in strangers and "sign in" in strangers
    page = page_of(client.post("/", data={"text": "good"}, auth=("anybody", "a secret")))
    given = buttons_of(page)
    refused = client.post("/right", data=given, headers={"Accept": "text/html"})
    assert refused.status_code == 401 and "Basic" in str(refused.headers)
    assert client.post("/right", data=given, auth=("x", "wrong")).status_code == 401
    assert client.post("/right", data=given, auth=("x", "a secret")).status_code == 200
    assert true_labels(client.application, given["request_id"]) == [0]


# --- the download --------------------------------------------------------------------------


def test_the_download_has_the_bits_of_the_answers(
    client: FlaskClient, probability: Callable[[str], float]
) -> None:
    texts = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, 'two\nlines, "quoted" 👍 good']
    quoted = [text.replace('"', '""') for text in texts]
    table = "text\n" + "".join(f'"{text}"\n' for text in quoted)
    rows = rows_of(page_of(post(client, file=upload(table))))
    assert tuple(rows[0]) == SCORED_COLUMNS
    assert [row["review"] for row in rows] == texts
    assert [float(row["probability"]) for row in rows] == [probability(text) for text in texts]
    assert [row["label"] for row in rows] == ["positive", "negative", "", "positive"]
    assert [row["reason"] for row in rows] == ["", "", "no known words", ""]
    assert {row["version"] for row in rows} == {"1"}
    assert rows_of(page_of(post(client, split="lines", text=BAD_TEXT))) == [rows[1]]


def test_the_download_holds_no_formula(client: FlaskClient) -> None:
    texts = [f"{start}1+cmd|good" for start in ["=", "+", "-", "@", "\t", "＝", "－", " \ufeff="]]
    page = page_of(post(client, split="lines", text="\n".join(texts)))
    assert [row["review"] for row in rows_of(page)] == [f"'{text}" for text in texts]


def test_a_spreadsheet_that_separates_by_semicolons_too_cuts_no_review(
    client: FlaskClient,
) -> None:
    text = "great;=HYPERLINK(1)|=1"
    page = page_of(post(client, split="lines", text=text))
    assert f'\n"{text}","' in table_of(page)
    assert [row["review"] for row in rows_of(page)] == [text]


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"text": ""}, 400, "empty"),
        ({"text": " \n "}, 400, "empty"),
        ({"text": "x" * 501}, 422, "1 to 500 characters"),
        ({"text": "a\0b"}, 400, "not valid"),
        ({"text": "\n \n", "split": "lines"}, 400, "no review"),
        ({"text": "a\n" * 301, "split": "lines"}, 422, "more than 300 reviews"),
        ({"text": "x" * 300_001}, 413, "300,000"),
    ],
)
def test_what_is_wrong_is_said_on_the_page(
    client: FlaskClient, form: dict[str, str], status: int, said: str
) -> None:
    assert said in problem_of(post(client, **form), status)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "empty"),
        (b"id,stars\n1,5\n", "no column"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1"),
        (b"text\ngood\ncaf\xe9\n", "line 3: byte 0xe9 is not UTF-8; save"),
        (b"text\n", "no review"),
        (b"text,id\n,1\n", "no text"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(client: FlaskClient, table: bytes, said: str) -> None:
    response = post(client, file=upload(table), text="kept <here>", column="")
    assert said in problem_of(response, 400)
    assert "Choose the file again" in problem_of(response, 400)
    assert "kept &lt;here&gt;</textarea>" in response.text


def test_what_was_typed_stays_in_the_form(client: FlaskClient) -> None:
    page = page_of(post(client, text="good\r\n" + "x" * 500, split="one", column="body"), 422)
    assert ">\ngood\n" + "x" * 500 + "</textarea>" in page and 'value="body"' in page
    assert 'value="lines" checked' in page_of(post(client, text="", split="lines"), 400)


def test_a_large_text_field_is_no_error_of_flask(start: Callable[..., FlaskClient]) -> None:
    """Flask itself refuses a field of more than 500,000 bytes."""
    text = "\n".join(["good " + "x" * 18_000] * 30)
    page = page_of(post(start(), split="lines", text=text))
    assert "30 reviews: 30 positive" in words_of(page)


def test_without_a_model_the_page_says_so(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    none = SimpleNamespace(arms=None, problem="a secret", told="nothing is in production")
    monkeypatch.setattr(app.extensions["serving"], "watcher", none)
    assert 'name="text"' in page_of(app.test_client().get("/"))
    response = post(app.test_client(), text="kept")
    assert "nothing is in production" in problem_of(response, 503)
    assert "a secret" not in response.text
    assert "kept</textarea>" in response.text


HEAD = b"\r\n--x\r\nContent-Disposition: form-data; name="
PIECES = (
    *(b"text=%FFgood", b"split=lines", b"%00", b"column=a", b"&&", b"%", b"=", b"--x--\r\n"),
    *(HEAD + b'"text"\r\n\r\ngood', HEAD + b'"split"\r\n\r\nlines', HEAD),
    HEAD + b'"file"; filename="a.csv"\r\n\r\ntext\ngood\n\xff\n"open',
    HEAD + b'"file"; filename="a\0.tsv"\r\n\r\n\x1f\x8b',
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=6),
    content_type=st.sampled_from(
        [
            *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"),
            *("multipart/form-data", "text/plain", "", "\xe9;="),
        ]
    ),
)
def test_no_bad_form_is_the_servers_fault(
    client: FlaskClient, pieces: list[bytes], content_type: str
) -> None:
    glue = b"&" if "urlencoded" in content_type else b""
    response = client.post("/", data=glue.join(pieces), content_type=content_type)
    assert response.status_code in (200, 400), (pieces, content_type)


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


# --- the words that decided -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        # a term shares its weight among its occurrences
        ("good, really good", [("good", 0.6, ((0, 4), (13, 17)))], [(0, 4, 0.3), (13, 17, 0.3)]),
        # a pair shares it among both words, and adds to what each has
        (
            "not good at all",
            [("not good", -1.0, ((0, 8),)), ("good", 0.25, ((4, 8),))],
            [(0, 3, -0.5), (4, 8, -0.25)],
        ),
        # "out of the" are stop words, which get no share: cleaned, the text is "fell box"
        ("fell out of the box!", [("fell box", 0.5, ((0, 19),))], [(0, 4, 0.25), (16, 19, 0.25)]),
        # the place is not known
        ("good", [("good", 1.0, ())], []),
    ],
)
def test_words_weigh_what_their_terms_do(text: str, terms: Any, expected: Any) -> None:
    found = weigh_words(text, [Contribution(*term) for term in terms])
    assert [(word.start, word.end, word.weight) for word in found] == expected


def test_marks_have_sign_strength_and_weight() -> None:
    text = "good but (late), slow and broken"
    found = mark_words(
        text,
        [
            Contribution("good", 0.9, ((0, 4),)),
            Contribution("late", -0.59, ((10, 14),)),  # just below two thirds of the heaviest
            Contribution("slow", -0.29, ((17, 21),)),  # just below one third
            Contribution("broken", 0.04, ((26, 32),)),  # below a twentieth
        ],
    )
    assert found == (
        '<mark class="positive strength-3" title="+0.90">good</mark> but '
        '(<mark class="negative strength-2" title="−0.59">late</mark>), '
        '<mark class="negative strength-1" title="−0.29">slow</mark> and broken'
    )


def test_text_is_escaped_within_marks_and_between_them() -> None:
    text = "<b>good</b> & \"cheap\" <script>alert('x')</script>"
    found = mark_words(text, [Contribution("good", 1.0, ((3, 7),))])
    assert '<mark class="positive strength-3" title="+1.00">good</mark>' in found
    bare = re.sub(r'<mark class="[^"<>]*" title="[^"<>]*">|</mark>', "", found)
    assert not set("<>\"'") & set(bare)
    assert html.unescape(bare) == text


@settings(max_examples=50)
@given(
    st.text(max_size=60),
    st.lists(
        st.tuples(
            st.floats(-2, 2),
            st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=3),
        ),
        max_size=4,
    ),
)
def test_any_ranges_leave_the_text_as_it_is(
    text: str, terms: list[tuple[float, list[tuple[int, int]]]]
) -> None:
    contributions = [
        Contribution(
            "x",
            weight,
            tuple((at % len(text), min(at % len(text) + size, len(text))) for at, size in places),
        )
        for weight, places in terms
        if text
    ]
    found = mark_words(text, contributions)
    assert html.unescape(re.sub(r"<[^>]*>", "", found)) == text
    total = sum(word.weight for word in weigh_words(text, contributions))
    assert total == pytest.approx(sum(weight for weight, _ in terms) if text else 0.0, abs=1e-9)


def test_words_that_the_other_cleaning_keeps_are_marked() -> None:
    """Stop words weigh there, and a word has its own mark whatever punctuation joins it to."""
    text = "the,bad isn't good"
    contributions = [
        Contribution("the bad", -1.0, ((0, 7),)),
        Contribution("not good", -2.0, ((8, 18),)),
        Contribution("is", 0.5, ((8, 13),)),
    ]
    found = weigh_words(text, contributions, TextCleaner("negation"))
    words = [(text[word.start : word.end], word.weight) for word in found]
    assert words == [("the", -0.5), ("bad", -0.5), ("isn't", -0.5), ("good", -1.0)]
    marked = mark_words(text, contributions, TextCleaner("negation"))
    assert html.unescape(re.sub("<[^>]+>", "", marked)) == text
