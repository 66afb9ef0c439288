"""Review markup: what each word weighs, worked out by hand, and the marked text as HTML."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.model.explanation import Contribution
from sentiment.serving.markup import mark_words, signed, weigh_words


def weights(text: str, *contributions: Contribution) -> dict[str, float]:
    return {text[w.start : w.end]: w.weight for w in weigh_words(text, contributions)}


def test_a_term_shares_its_weight_among_its_occurrences() -> None:
    found = weigh_words("good, really good", [Contribution("good", 0.6, ((0, 4), (13, 17)))])
    assert [(word.start, word.end, word.weight) for word in found] == [(0, 4, 0.3), (13, 17, 0.3)]


def test_a_pair_of_words_shares_it_among_both_and_adds_to_what_each_has() -> None:
    text = "not good at all"
    found = weights(
        text, Contribution("not good", -1.0, ((0, 8),)), Contribution("good", 0.25, ((4, 8),))
    )
    assert found == {"not": -0.5, "good": -0.25}


def test_words_that_the_cleaning_drops_get_no_share() -> None:
    # "out of the" are stop words: cleaned, the text is "fell box"
    found = weights("fell out of the box!", Contribution("fell box", 0.5, ((0, 19),)))
    assert found == {"fell": 0.25, "box": 0.25}


def test_a_term_whose_place_is_not_known_marks_nothing() -> None:
    assert weights("good", Contribution("good", 1.0, ())) == {}
    assert mark_words("a < b", [Contribution("b", 1.0, ())]) == "a &lt; b"


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


def test_numbers_have_a_true_minus() -> None:
    assert (signed(0.844), signed(-1.2), signed(0.0)) == ("+0.84", "−1.20", "+0.00")
