"""Drift signals: against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support.drift_reviews import window_of

from sentiment.drift.features import Tally, WindowFeatures, counted_values, tally_window
from sentiment.drift.signals import (
    NEED_TEXT,
    SIGNALS,
    distances,
    effective_size,
    limit_value,
    stability_index,
    term_chi_square,
)
from sentiment.metrics import Floats, Ints

TERMS = ("bad", "box", "cork", "good", "grip")
EDGES = np.array([300, 600, 900])


def tallies(first: tuple[WindowFeatures, Ints], second: tuple[WindowFeatures, Ints]) -> list[Tally]:
    """Of both windows on the supports of both."""
    values = [counted_values(window) for window, _ in (first, second)]
    supports = {name: np.union1d(values[0][name], values[1][name]) for name in values[0]}
    return [tally_window(window, true, supports, EDGES, TERMS) for window, true in (first, second)]


@pytest.fixture(scope="module")
def both() -> list[tuple[WindowFeatures, Ints]]:
    """A reference of 400 reviews, and 150 with more discontent."""
    return [window_of(400, 30), window_of(150, 31, negative=0.5)]


def test_kolmogorov_smirnov_is_scipys(both: list[tuple[WindowFeatures, Ints]]) -> None:
    found = distances(*tallies(*both))
    root = np.sqrt(400 * 150 / 550)
    columns = {"characters_ks": "characters", "words_ks": "words", "score_ks": "score"}
    for signal, name in columns.items():
        before, now = (counted_values(window)[name] for window, _ in both)
        expected = stats.ks_2samp(before, now).statistic
        assert found[signal] / root == pytest.approx(expected, abs=1e-12)
        assert limit_value("ks", float(found[signal]), 0, 400 * 150 / 550, above=True) == (
            pytest.approx(expected, abs=1e-12)
        )


def test_stability_index_by_hand() -> None:
    # with half a review more in each bin: 10/40 and 30/40 against 25/50 and 25/50
    found = stability_index(np.array([9.5, 29.5]), np.array([24.5, 24.5]))
    expected = (0.5 - 0.25) * np.log(0.5 / 0.25) + (0.5 - 0.75) * np.log(0.5 / 0.75)
    assert found == pytest.approx(expected, abs=1e-12)
    assert stability_index(np.array([8.0, 2.0]), np.array([80.0, 20.0])) < 0.01
    assert np.isfinite(stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))


def test_chi_square_is_scipys(both: list[tuple[WindowFeatures, Ints]]) -> None:
    reference, now = tallies(*both)
    assert reference.terms is not None and now.terms is not None
    found = term_chi_square(reference, now)
    compared = 0
    for before, after, value in zip(reference.terms, now.terms, found, strict=True):
        table = np.array([[before, 400 - before], [after, 150 - after]])
        if table.sum(axis=0).min() * 150 / 550 >= 5:
            expected = stats.chi2_contingency(table, correction=False).statistic
            assert value == pytest.approx(expected, rel=1e-10)
            compared += 1
        else:
            assert value == 0
    assert compared >= 4
    assert distances(reference, now)["terms"] == found.max()


def test_rare_terms_are_not_tested() -> None:
    """Cochran's rule: 20 of 200 + 50 reviews are 4 expected among the 50; 25 are 5."""

    def of(reviews: float, terms: list[float]) -> Tally:
        totals = np.zeros(16)
        totals[0] = reviews
        return Tally(totals, {}, np.zeros(1), np.array(terms))

    found = term_chi_square(of(200, [0, 0, 190]), of(50, [20, 25, 40]))
    assert found[0] == 0
    assert found[1] == pytest.approx(
        stats.chi2_contingency([[0, 200], [25, 25]], correction=False).statistic
    )
    assert found[2] == 0  # all but 20 have it: as rare the other way round


def test_shares_are_compared_by_the_angle(both: list[tuple[WindowFeatures, Ints]]) -> None:
    reference, now = tallies(*both)
    found = distances(reference, now)
    p, q = (
        window.label[window.answered].mean() for window, _ in both
    )  # answers are 0 or 1: the share of positive ones
    h = abs(2 * np.arcsin(np.sqrt(p)) - 2 * np.arcsin(np.sqrt(q)))
    assert found["positive_share"] == pytest.approx(np.sqrt(400 * 150 / 550) * h, abs=1e-12)


@pytest.mark.parametrize(
    ("share", "above", "expected"),
    [
        # 2 arcsin √.5 = π/2; a limit of 3 at size 36 is half a radian to either side
        (0.5, True, np.sin((np.pi / 2 + 0.5) / 2) ** 2),
        (0.5, False, np.sin((np.pi / 2 - 0.5) / 2) ** 2),
        (0.0, True, np.sin(0.25) ** 2),
        (0.0, False, 0.0),  # no share lies below
        (1.0, True, 1.0),
    ],
)
def test_the_limit_of_a_share_by_hand(share: float, above: bool, expected: float) -> None:
    assert limit_value("share", 3.0, share, 36.0, above=above) == pytest.approx(expected)


def test_the_limit_is_where_the_distance_is_the_limit() -> None:
    """Turned back into a share, the distance of a share from the reference is that very share."""
    size = float(effective_size(np.array(200.0), np.array(800.0)))
    assert size == 160
    for before, now in ((0.1, 0.17), (0.8, 0.7), (0.02, 0.05)):
        h = abs(2 * np.arcsin(np.sqrt(before)) - 2 * np.arcsin(np.sqrt(now)))
        limit = limit_value("share", h * np.sqrt(size), before, size, above=now > before)
        assert limit == pytest.approx(now, abs=1e-12)


def test_other_limits_by_hand() -> None:
    assert limit_value("psi", 20.0, 0, 200.0, above=True) == pytest.approx(0.1)
    assert limit_value("chi2", 17.5, 0, 200.0, above=True) == 17.5
    assert limit_value("f1", 1.2, 0.83, 400.0, above=False) == pytest.approx(0.83 - 0.06)


def test_macro_f1_counts_only_where_it_falls(both: list[tuple[WindowFeatures, Ints]]) -> None:
    found = distances(*tallies(*both))
    before, now = (
        f1_score(true[window.answered], window.label[window.answered], average="macro")
        for window, true in both
    )
    answered = [window.answered.sum() for window, _ in both]
    size = answered[0] * answered[1] / sum(answered)
    assert found["measured_f1"] == pytest.approx(np.sqrt(size) * (before - now), abs=1e-9)
    back = distances(*tallies(both[1], both[0]))
    assert back["measured_f1"] == pytest.approx(-found["measured_f1"])
    assert back["estimated_f1"] == pytest.approx(-found["estimated_f1"])


def test_without_texts_or_labels_their_signals_are_left_out(
    both: list[tuple[WindowFeatures, Ints]],
) -> None:
    window, _ = both[1]
    columns = (window.characters, window.words, window.known_words)
    bare = WindowFeatures(*columns, window.probability, window.label, None)
    found = distances(*tallies(both[0], (bare, np.full(len(bare), -1))))
    assert set(SIGNALS) - set(found) == {*NEED_TEXT, "measured_f1"}
    every = distances(*tallies(*both))
    assert set(every) == set(SIGNALS)
    assert all(found[name] == every[name] for name in found)


def test_many_at_once_are_the_same_as_one_by_one(both: list[tuple[WindowFeatures, Ints]]) -> None:
    reference, now = tallies(*both)

    def stacked(first: Floats, second: Floats) -> Floats:
        return np.stack([first, second])

    assert reference.terms is not None and now.terms is not None
    pair = Tally(
        stacked(now.totals, reference.totals),
        {name: stacked(now.counts[name], reference.counts[name]) for name in now.counts},
        stacked(now.bins, reference.bins),
        stacked(now.terms, reference.terms),
    )
    found = distances(reference, pair)
    apart, itself = distances(reference, now), distances(reference, reference)
    assert set(found) == set(apart)
    for name, values in found.items():
        assert values.tolist() == pytest.approx([float(apart[name]), float(itself[name])])
        assert itself[name] == pytest.approx(0, abs=1e-9)
