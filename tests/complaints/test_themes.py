"""Planted complaints are found with their counts; the statistics equal independent ones."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from support.complaint_reviews import COUNTS, complaint_rows

from sentiment.complaints.reviews import NO_MONTH, NO_STARS, Reviews, month_of
from sentiment.complaints.statistics import odds_ratio, trend_test
from sentiment.complaints.themes import (
    PRIOR,
    Complaints,
    Theme,
    find_complaints,
    weight_against,
)


def reviews_of(
    rows: Sequence[tuple[str, int, str]], *, dated: bool = True, starred: bool = True
) -> Reviews:
    stars = np.array([star for _, star, _ in rows], dtype=np.int64)
    return Reviews(
        texts=[text for text, _, _ in rows],
        negative=stars <= 2,
        stars=stars if starred else np.full_like(stars, NO_STARS),
        months=np.array(
            [month_of(month) if dated else NO_MONTH for _, _, month in rows], dtype=int
        ),
        source="made up",
        judged="stars",
    )


def theme_with(found: Complaints, word: str) -> Theme:
    (theme,) = (theme for theme in found.themes if word in theme.name)
    return theme


@pytest.fixture(scope="module")
def found() -> Complaints:
    return find_complaints(reviews_of(complaint_rows()))


def test_planted_complaints_are_themes_with_their_counts(found: Complaints) -> None:
    counts = {word: theme_with(found, word).reviews for word in ("leak", "smell", "courier")}
    assert counts == {name: COUNTS[name] for name in counts}
    general = found.themes[-1]
    assert general.is_general and general.reviews == COUNTS["blunt"]
    assert len(found.themes) == 4 and found.without == 0
    assert found.negative == sum(COUNTS.values())
    low = COUNTS["leak"] / found.negative
    assert theme_with(found, "leak").share.value == pytest.approx(low)
    assert found.months == ("2020-01", "2021-12")


def test_what_rises_is_told_from_what_does_not(found: Complaints) -> None:
    changes = {
        name: trend.change
        for name in ("leak", "smell", "courier")
        if (trend := theme_with(found, name).trend)
    }
    assert changes["courier"] == "rising" and changes["smell"] == "no clear change"
    courier = theme_with(found, "courier").trend
    assert courier is not None
    assert sum(part.hits for part in courier.periods) == COUNTS["courier"]
    assert sum(part.reviews for part in courier.periods) == found.reviews
    assert all(part.share.low <= part.share.value <= part.share.high for part in courier.periods)


def test_stars_tell_complaints_apart(found: Complaints) -> None:
    leak, smell = theme_with(found, "leak").odds, theme_with(found, "smell").odds
    assert leak is not None and smell is not None
    assert leak.separates and leak.odds_ratio.low > 1
    assert smell.separates and smell.odds_ratio.high < 1
    assert smell.neutral.value == 60 / 120 and leak.neutral.value == 0


def test_examples_are_the_customers_own_words_marked(found: Complaints) -> None:
    texts = {text for text, _, _ in complaint_rows()}
    for theme in found.themes:
        assert len(theme.examples) == 3
        assert len({example.text for example in theme.examples}) == 3
        for example in theme.examples:
            assert example.text in texts and example.stars in (1, 2)
            assert example.places
    marked = {
        example.text[start:end]
        for example in theme_with(found, "courier").examples
        for start, end in example.places
    }
    assert marked & {"courier", "rude", "parcel", "crushed"}


def test_it_is_the_same_each_time_and_in_any_order_of_rows(found: Complaints) -> None:
    rows = complaint_rows()
    again = find_complaints(reviews_of(rows))
    assert again == found
    turned = find_complaints(reviews_of(rows[::-1]))
    assert {(one.name, one.reviews) for one in turned.themes} == {
        (one.name, one.reviews) for one in found.themes
    }


def test_nobodys_own_words_name_a_theme() -> None:
    rows = [*complaint_rows(), ("the zyxwv broke my qponm", 1, "2020-05")]
    names = " ".join(theme.name for theme in find_complaints(reviews_of(rows)).themes)
    assert "zyxwv" not in names and "qponm" not in names


def test_each_phrase_was_written_in_three_reviews() -> None:
    # the same but for the number, which is each customer's own; one says it thrice
    rows = [*complaint_rows(), *[("call 5550000001, call 5550000001, call 5550000001", 1, "")]]
    rows += [(f"refund order 98765432{at}0 cancelled", 1, "2020-05") for at in range(8)]
    rows += [(f"Hinge-pin {2 * 'snapped '}after <b> 2 days", 1, "") for _ in range(2)]
    rows += [("hinge  PIN snapped", 2, ""), *[("hinge pin snapping, in 40 pieces", 1, "")] * 2]
    reviews = reviews_of(rows)
    found = find_complaints(reviews)
    phrases = [phrase for theme in found.themes for phrase in theme.phrases]
    assert any("refund" in one for one in phrases) and any("hinge" in one for one in phrases)
    texts = [" ".join(re.findall(r"[a-z0-9]+", text.lower())) for text in reviews.texts]
    for phrase in phrases:
        assert sum(f" {phrase} " in f" {text} " for text in texts) >= 3, phrase


def test_signs_between_words_are_not_shown_and_joiners_within_them_are() -> None:
    ruined = "\u0916\u0930\u093e\u092c \u0915\u094d\u200d\u092f"  # with a zero-width joiner
    bad = {"cancelled <|> the\u202e refund": "cancelled the refund", ruined: ruined}
    rows = [(f"lovely kettle {at}", 5, "") for at in range(300)]
    rows += [(f"{text} {at}", 1, "") for text in bad for at in range(9)]
    names = [theme.name for theme in find_complaints(reviews_of(rows)).themes]
    assert sorted(names) == sorted(bad.values())


def test_why_stars_are_not_compared() -> None:
    praise, middling = ("good kettle", 5, ""), ("it leaks", 3, "")
    for rows, said in (([praise], "3 stars"), ([praise, middling], "1 or 2 stars")):
        assert said in find_complaints(reviews_of(rows)).no_stars


def test_without_months_and_stars_there_are_counts_alone() -> None:
    found = find_complaints(reviews_of(complaint_rows(), dated=False, starred=False))
    assert theme_with(found, "leak").reviews == COUNTS["leak"]
    assert found.months is None and found.no_stars
    assert all(theme.trend is None and theme.odds is None for theme in found.themes)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("good", 5, "2020-01")],
        [("broke", 1, "2020-01")],
        [("broke", 1, "2020-01"), ("broke again", 1, "2020-02"), ("!!!", 1, ""), ("it", 2, "x")],
        [("", 1, "")] * 3,
    ],
    ids=["none", "no negative", "one", "few", "empty"],
)
def test_tiny_input_is_no_failure(rows: list[tuple[str, int, str]]) -> None:
    found = find_complaints(reviews_of(rows))
    assert found.reviews == len(rows)
    assert found.negative == sum(star <= 2 for _, star, _ in rows)
    assert found.without <= found.negative


def test_a_file_of_complaints_alone_has_themes_too() -> None:
    rows = [row for row in complaint_rows() if row[1] <= 2]
    names = " ".join(theme.name for theme in find_complaints(reviews_of(rows)).themes)
    assert "leak" in names and "courier" in names


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        ("ऊत्पाद बहुत अच्छा है {}", "डिलीवरी देर से आई {}", "डिलीवरी"),
        ("schönes Gerät, gerne wieder {}", "der Schlauch tropft ständig {}", "schlauch"),
        ("很好很喜欢 {}", "包装破损严重 {}", "破损"),
        ("очень доволен покупкой {}", "сломался через неделю {}", "сломался"),
    ],
)
def test_any_language_has_themes(good: str, bad: str, word: str) -> None:
    rows = [(good.format(at), 5, "2020-01") for at in range(60)]
    rows += [(bad.format(at), 1, "2020-01") for at in range(20)]
    rows += [(f"{at}", 5, "2020-01") for at in range(300)]
    themes = find_complaints(reviews_of(rows)).themes
    assert any(word in theme.name and theme.reviews == 20 for theme in themes)


# --- statistics -------------------------------------------------------------------------------


def test_the_trend_is_the_correlation_of_hits_and_time() -> None:
    # Cochran–Armitage: z² is N r², with r over the N single reviews
    hits, reviews, at = np.array([1, 3, 9]), np.array([20, 25, 30]), np.array([0.0, 1.0, 4.0])
    single = np.concatenate([np.arange(n) < k for k, n in zip(hits, reviews, strict=True)])
    r = np.corrcoef(single, np.repeat(at, reviews))[0, 1]
    z, p_value = trend_test(hits, reviews, at)
    assert z == pytest.approx(math.sqrt(75) * r)
    assert p_value == pytest.approx(2 * (1 - stats.norm.cdf(z)))


def test_two_groups_are_a_chi_square_test() -> None:
    hits, reviews = np.array([10, 20]), np.array([50, 50])
    z, _ = trend_test(hits, reviews, np.array([0.0, 1.0]))
    chi2 = stats.chi2_contingency([[10, 20], [40, 30]], correction=False).statistic
    assert z == pytest.approx(math.sqrt(chi2))


@pytest.mark.parametrize(
    ("hits", "reviews", "at"), [([0, 0], [5, 5], [0, 1]), ([5, 5], [5, 5], [0, 1]), ([2], [5], [3])]
)
def test_no_trend_where_there_can_be_none(
    hits: list[int], reviews: list[int], at: list[float]
) -> None:
    assert trend_test(np.array(hits), np.array(reviews), np.array(at, dtype=float)) == (0.0, 1.0)


def test_odds_ratios_by_hand() -> None:
    # 10.5 · 15.5 / (10.5 · 5.5), and Woolf's error √(2/10.5 + 1/5.5 + 1/15.5)
    ratio, p_value = odds_ratio(10, 20, 5, 20)
    assert ratio.value == pytest.approx(15.5 / 5.5)
    error = math.sqrt(2 / 10.5 + 1 / 5.5 + 1 / 15.5)
    assert ratio.low == pytest.approx(15.5 / 5.5 * math.exp(-1.96 * error), rel=1e-3)
    assert ratio.high == pytest.approx(15.5 / 5.5 * math.exp(1.96 * error), rel=1e-3)
    # Fisher: tables as unlikely or more, of 15 hits among 20 and 20
    weights = [math.comb(20, k) * math.comb(20, 15 - k) for k in range(16)]
    rare = sum(weight for weight in weights if weight <= weights[10]) / sum(weights)
    assert p_value == pytest.approx(rare)
    assert math.isfinite(odds_ratio(0, 20, 5, 20)[0].value)


def test_weights_are_those_of_monroe_and_others() -> None:
    negative, positive = np.array([30, 5, 0]), np.array([10, 40, 15])
    for at, z in enumerate(weight_against(negative, positive)):
        prior = (negative[at] + positive[at]) / 100 * PRIOR
        a, b = negative[at] + prior, positive[at] + prior
        delta = math.log(a / (35 + PRIOR - a)) - math.log(b / (65 + PRIOR - b))
        assert z == pytest.approx(delta / math.sqrt(1 / a + 1 / b))
