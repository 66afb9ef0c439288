"""The page: escaped, self-contained, marked; the Markdown has nobody's review."""

from __future__ import annotations

import base64
import hashlib
import re

import numpy as np
import pytest
from support.complaint_reviews import COUNTS, complaint_rows
from support.html import EVIL, words_of

from sentiment.complaints.page import LONGEST_TEXT, markdown, marked, render_file
from sentiment.complaints.reviews import Reviews, month_of
from sentiment.complaints.themes import Complaints, Example, find_complaints


def reviews_with(ending: str = "", *, only_praise: bool = False) -> Reviews:
    rows = [row for row in complaint_rows() if row[1] > 3 or not only_praise]
    stars = np.array([star for _, star, _ in rows], dtype=np.int64)
    return Reviews(
        texts=[text + (ending if "courier" in text else "") for text, _, _ in rows],
        negative=stars <= 2,
        stars=stars,
        months=np.array([month_of(month) for _, _, month in rows]),
        source="kettles <b>.csv",
        judged="stars",
        notes=(f"a column named {EVIL}",),
    )


@pytest.fixture(scope="module")
def evil() -> Complaints:
    return find_complaints(reviews_with(f" {EVIL}"))


def test_the_page_needs_nothing_else_and_escapes(evil: Complaints) -> None:
    page = render_file(evil)
    assert "<script" not in page and "<b>.csv" not in page
    assert not re.search(r"(src|href|action)=\"(?!#)", page) and "url(" not in page
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.replace("&#39;", "'") == f"default-src 'none'; style-src 'sha256-{digest}'"
    words = words_of(page)
    assert "<script>alert(1)</script>" in words and "{{ 7*7 }}" in words
    assert f"{COUNTS['leak']} negative reviews" in words and "Rising" in words
    linked = set(re.findall(r'href="#([^"]*)"', page))
    assert linked and linked <= set(re.findall(r'id="([^"]*)"', page))


def test_nothing_negative_is_one_line() -> None:
    found = find_complaints(reviews_with(only_praise=True))
    assert not found.themes and found.summary.startswith("None of 600")
    assert "None of 600" in words_of(render_file(found))
    assert "|" not in markdown(found)


def test_markdown_has_counts_and_no_text(evil: Complaints) -> None:
    shown = markdown(evil)
    assert f"| {COUNTS['smell']} |" in shown
    assert not [one.text for theme in evil.themes for one in theme.examples if one.text in shown]
    cells = [line.count("|") for line in shown.splitlines() if line.startswith("|")]
    assert set(cells) == {5}


def test_json_has_no_text(evil: Complaints) -> None:
    assert "examples" not in evil.as_dict()["themes"][0]


def test_words_are_marked_and_long_texts_cut() -> None:
    shown = marked(Example("a <b> leak", ((6, 10),), 1))
    assert shown.startswith("a &lt;b&gt; <mark") and shown.endswith(">leak</mark>")
    text = "x" * 5_000 + " leak " + "y" * 5_000
    cut = marked(Example(text, ((5_001, 5_005),), 1))
    assert ">leak</mark>" in cut and cut.startswith("…x") and cut.endswith("y…")
    assert len(words_of(cut)) < LONGEST_TEXT + 10
