"""Drift signals: against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support.drift_reviews import window_of

from sentiment.drift.features import SHARES, ReviewRows, Tally, WindowFeatures, counted_values
from sentiment.drift.signals import (
    NEED_TEXT,
    SIGNALS,
    Scale,
    distances,
    limit_value,
    stability_index,
    term_chi_square,
)
from sentiment.metrics import Floats, Ints

TERMS = ("bad", "box", "cork", "good", "grip")
EDGES = np.array([300, 600, 900])
SIZE = 400 * 150 / 550  # effective
Labelled = tuple[WindowFeatures, Ints]


def tallies(first: Labelled, second: Labelled) -> list[Tally]:
    """Of both windows on the supports of both."""
    values = [counted_values(window) for window, _ in (first, second)]
    supports = {name: np.union1d(values[0][name], values[1][name]) for name in values[0]}
    return [
        ReviewRows.of(window, true, supports, EDGES, TERMS).tally()
        for window, true in (first, second)
    ]


@pytest.fixture(scope="module")
def both() -> list[Labelled]:
    """A reference of 400 reviews, and 150 with more discontent."""
    return [window_of(400, 30), window_of(150, 31, negative=0.5)]


def test_stability_index_by_hand(both: list[Labelled]) -> None:
    # with half a review more in each bin: 10/40 and 30/40 against 25/50 and 25/50
    found = stability_index(np.array([9.5, 29.5]), np.array([24.5, 24.5]))
    expected = (0.5 - 0.25) * np.log(0.5 / 0.25) + (0.5 - 0.75) * np.log(0.5 / 0.75)
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.isfinite(stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))
    before, now = (
        np.histogram(counted_values(window)["score"], [0, 300, 600, 900, 1001])[0]
        for window, _ in both
    )
    psi = distances(*tallies(*both))["score_psi"]
    assert psi == pytest.approx(SIZE * stability_index(before, now), abs=1e-9)


def test_chi_square_is_scipys(both: list[Labelled]) -> None:
    reference, now = tallies(*both)
    assert reference.terms is not None and now.terms is not None
    found = term_chi_square(reference, now)
    tables = np.array(
        [[reference.terms, 400 - reference.terms], [now.terms, 150 - now.terms]]
    ).transpose(2, 0, 1)
    tested = tables.sum(axis=1).min(axis=1) * 150 / 550 >= 5
    assert tested.sum() >= 4
    expected = [stats.chi2_contingency(table, correction=False)[0] for table in tables[tested]]
    assert found[tested].tolist() == pytest.approx(expected, rel=1e-10)
    assert not found[~tested].any()
    assert distances(reference, now)["terms"] == found.max()


def counts_of(reviews: float, terms: list[float]) -> Tally:
    return Tally(np.array([reviews, *[0.0] * 15]), {}, np.array(terms, float))


def test_rare_terms_are_not_tested() -> None:
    """Cochran's rule: 20 of 200 + 50 reviews are 4 expected among the 50; 25 are 5."""
    other = [0.0, 0.0]
    found = term_chi_square(
        counts_of(200, [0, 0, 190, *other]), counts_of(50, [20, 25, 40, *other])
    )
    expected = stats.chi2_contingency([[0, 200], [25, 25]], correction=False).statistic
    # of the third all but 20 have it: as rare the other way round
    assert found.tolist() == [0, pytest.approx(expected), 0, 0, 0]


def test_that_more_words_are_known_is_no_alarm() -> None:
    """The last two columns are any other known word and any unknown word."""
    few, many = [100.0, 100.0, 100.0], [150.0, 150.0, 150.0]
    expected = stats.chi2_contingency([[100, 100], [150, 50]], correction=False).statistic
    rise = term_chi_square(counts_of(200, few), counts_of(200, many))
    assert rise.tolist() == pytest.approx([expected, 0, expected])
    fall = term_chi_square(counts_of(200, many), counts_of(200, few))
    assert fall.tolist() == pytest.approx([expected, expected, 0])


def test_shares_are_compared_by_the_angle(both: list[Labelled]) -> None:
    found = distances(*tallies(*both))["positive_share"]
    p, q = (window.label[window.answered].mean() for window, _ in both)
    h = abs(2 * np.arcsin(np.sqrt(p)) - 2 * np.arcsin(np.sqrt(q)))
    assert found == pytest.approx(np.sqrt(SIZE) * h, abs=1e-12)


@pytest.mark.parametrize(
    ("scale", "limit", "reference", "size", "above", "expected"),
    [
        # 2 arcsin √.5 = π/2; a limit of 3 at size 36 is half a radian to either side
        ("share", 3.0, 0.5, 36.0, True, np.sin((np.pi / 2 + 0.5) / 2) ** 2),
        ("share", 3.0, 0.5, 36.0, False, np.sin((np.pi / 2 - 0.5) / 2) ** 2),
        ("share", 3.0, 0.0, 36.0, True, np.sin(0.25) ** 2),
        ("share", 3.0, 0.0, 36.0, False, 0.0),  # no share lies below
        ("share", 3.0, 1.0, 36.0, True, 1.0),
        ("psi", 20.0, 0, 200.0, True, 0.1),
        ("chi2", 17.5, 0, 200.0, True, 17.5),
        ("f1", 1.2, 0.83, 400.0, False, 0.83 - 0.06),
        ("ks", 3.0, 0, 36.0, True, 0.5),
    ],
)
def test_limits_in_their_own_units_by_hand(
    scale: Scale, limit: float, reference: float, size: float, above: bool, expected: float
) -> None:
    assert limit_value(scale, limit, reference, size, above=above) == pytest.approx(expected)


def test_what_is_bad_in_one_direction_is_below_0_in_the_other(both: list[Labelled]) -> None:
    found, back = distances(*tallies(*both)), distances(*tallies(both[1], both[0]))
    for name in ("unknown_words", "no_known_words", "emoji", "non_ascii"):
        assert found[name] == pytest.approx(-back[name])
    assert any(found[name] < 0 for name in SHARES) and any(back[name] < 0 for name in SHARES)
    for name in ("positive_share", "words_ks", "characters_ks", "score_ks"):
        assert found[name] == pytest.approx(back[name]) and found[name] >= 0


def test_macro_f1_counts_only_where_it_falls(both: list[Labelled]) -> None:
    found, back = distances(*tallies(*both)), distances(*tallies(both[1], both[0]))
    before, now = (
        f1_score(true[window.answered], window.label[window.answered], average="macro")
        for window, true in both
    )
    answered = [window.answered.sum() for window, _ in both]
    size = answered[0] * answered[1] / sum(answered)
    assert found["measured_f1"] == pytest.approx(np.sqrt(size) * (before - now), abs=1e-9)
    for name in ("measured_f1", "estimated_f1"):
        assert back[name] == pytest.approx(-found[name])


def test_without_texts_or_labels_their_signals_are_left_out(both: list[Labelled]) -> None:
    window, _ = both[1]
    columns = (window.characters, window.words, window.known_words)
    bare = WindowFeatures(*columns, window.probability, window.label, None)
    found = distances(*tallies(both[0], (bare, np.full(len(bare), -1))))
    assert set(SIGNALS) - set(found) == {*NEED_TEXT, "measured_f1"}
    every = distances(*tallies(*both))
    assert set(every) == set(SIGNALS)
    assert all(found[name] == every[name] for name in found)


def test_many_at_once_are_the_same_as_one_by_one(both: list[Labelled]) -> None:
    reference, now = tallies(*both)

    def stacked(first: Floats, second: Floats) -> Floats:
        return np.stack([first, second])

    assert reference.terms is not None and now.terms is not None
    pair = Tally(
        stacked(now.totals, reference.totals),
        {name: stacked(now.counts[name], reference.counts[name]) for name in now.counts},
        stacked(now.terms, reference.terms),
    )
    found = distances(reference, pair)
    apart, itself = distances(reference, now), distances(reference, reference)
    assert set(found) == set(apart)
    for name, values in found.items():
        assert values.tolist() == pytest.approx([float(apart[name]), float(itself[name])])
        assert itself[name] == pytest.approx(0, abs=1e-9)
