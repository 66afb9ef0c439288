"""Comparisons of made-up windows that are like the reference, or not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support.drift_reviews import KETTLE, fitted, kettles, made_up, reference, window_of

from sentiment.drift.compare import compare_reviews
from sentiment.drift.features import COLUMNS, NO_LABEL, WindowFeatures, counted_values, row_features
from sentiment.drift.performance import estimated_f1
from sentiment.drift.reference import Reference
from sentiment.drift.report import DriftReport, Signal
from sentiment.drift.signals import NEED_TEXT, SIGNALS
from text_cleaning import clean_texts


def signal(report: DriftReport, name: str) -> Signal:
    return next(signal for signal in report.signals if signal.name == name)


def without_text(window: WindowFeatures) -> WindowFeatures:
    return WindowFeatures(**{name: getattr(window, name) for name in COLUMNS}, text=None)


def test_like_reviews_are_steady_and_every_signal_is_there() -> None:
    window, true = window_of(400, 50)
    report = compare_reviews(reference(), window, true)
    assert report.verdict == "steady"
    assert report.performance.note == ""
    assert [found.name for found in report.signals] == list(SIGNALS)
    assert report.not_computed == {}
    assert (report.reviews, report.reference_reviews) == (400, 600)
    assert report.new_words == ()  # words of one review each are not named
    assert report == compare_reviews(reference(), window, true)


def test_another_product_is_a_moved_input_and_its_words_are_named() -> None:
    report = compare_reviews(reference(), row_features(kettles(300, 51)[0], fitted()))
    assert report.verdict == "drifted"
    assert report.state("input") == "drifted"
    drifted = {found.name for found in report.signals if found.state == "drifted"}
    assert {"unknown_words", "terms"} <= drifted
    assert {word.word for word in report.new_words} <= {*clean_texts(KETTLE)} | {"caf"}
    assert "(an unknown word)" in {term.term for term in report.moved_terms}
    assert "words" in report.performance.note  # CBPE is not to be trusted then


def test_fewer_unknown_words_and_emoji_are_no_alarm() -> None:
    """Reviews whose words are all known, as the model's own training reviews have them."""
    texts, _ = made_up(600, 66)
    kept = [" ".join(word for word in text.split() if "zz" not in word) for text in texts]
    plain = [text.replace(" \N{THUMBS UP SIGN}", "").replace("café", "caf") for text in kept]
    report = compare_reviews(reference(), row_features(plain, fitted()))
    for name in ("unknown_words", "no_known_words", "emoji", "non_ascii", "terms"):
        found = signal(report, name)
        assert found.state == "steady" and found.above
    unknown = signal(report, "unknown_words")
    assert unknown.value == 0 and unknown.reference is not None and unknown.reference > 0.01
    assert "(an unknown word)" not in {term.term for term in report.moved_terms}


def test_more_discontent_is_a_moved_score() -> None:
    window, true = window_of(500, 52, negative=0.5)
    report = compare_reviews(reference(), window)
    assert report.state("score") == "drifted"
    share = signal(report, "positive_share")
    assert share.value == pytest.approx(window.label[window.answered].mean())
    assert share.reference is not None
    assert not share.above and share.value < share.limit < share.watch_limit < share.reference
    # the estimate allows for the new share, and says so; it is the value of its signal as well
    answered = window.answered
    probability, label = window.probability[answered], window.label[answered]
    score = f1_score(true[answered], label, average="macro")
    found, trusting = report.performance.estimated, estimated_f1(probability, label)
    assert found is not None and trusting is not None
    assert abs(found.value - score) < abs(trusting.value - score)
    assert report.performance.note and signal(report, "estimated_f1").value == found.value
    labelled = compare_reviews(reference(), window, true).performance
    assert labelled.estimated_on_labelled == labelled.estimated == found


def test_values_are_scipys() -> None:
    window, _ = window_of(300, 53, negative=0.4)
    report = compare_reviews(reference(), window)
    before, _ = window_of(600, 3)
    values, own = counted_values(window), counted_values(before)
    for name in ("characters", "words", "score"):
        expected = stats.ks_2samp(own[name], values[name]).statistic
        assert signal(report, f"{name}_ks").value == pytest.approx(expected, abs=1e-9)
    unknown = (window.words - window.known_words).sum() / window.words.sum()
    assert signal(report, "unknown_words").value == pytest.approx(unknown)
    words = [set(row.split()) for row in clean_texts(made_up(300, 53, negative=0.4)[0])]
    for term in report.moved_terms:
        if not term.term.startswith("("):
            share = sum(term.term in row for row in words) / 300
            assert term.window == pytest.approx(share)
            assert term.p_value <= 0.05


def test_turned_labels_are_seen_by_the_true_labels_alone() -> None:
    """Same texts, but what was praise of the cork now is blame."""
    texts, true = made_up(500, 54)
    has_topic = np.array(["cork" in text for text in texts])
    turned = np.where(has_topic, 1 - true, true)
    window = row_features(texts, fitted())
    assert compare_reviews(reference(), window).verdict == "steady"
    report = compare_reviews(reference(), window, turned)
    drifted = [found.name for found in report.signals if found.state == "drifted"]
    assert drifted == ["measured_f1"]
    assert "retrain" in report.advice
    measured = report.performance.measured
    assert measured is not None
    answered = window.answered
    assert measured.value == pytest.approx(
        f1_score(turned[answered], window.label[answered], average="macro")
    )
    assert report.performance.estimated_on_labelled == report.performance.estimated
    estimated = report.performance.estimated
    assert estimated is not None and estimated.low > measured.high


@pytest.mark.parametrize("labelled", [0, 49])
def test_few_true_labels_are_named_and_not_used(labelled: int) -> None:
    window, true = window_of(300, 56)
    order = np.flatnonzero(window.answered)
    some = np.full(300, NO_LABEL)
    some[order[:labelled]] = true[order[:labelled]]
    report = compare_reviews(reference(), window, some)
    assert list(report.not_computed) == ["measured_f1"]
    assert len(report.signals) == len(SIGNALS) - 1
    assert report.not_computed["measured_f1"].startswith(f"{labelled} reviews have a true label")


def test_without_texts_the_rest_is_computed_and_the_missing_named() -> None:
    window, _ = window_of(400, 57, negative=0.6)
    whole = compare_reviews(reference(), window)
    report = compare_reviews(reference(), without_text(window))
    assert set(report.not_computed) == {*NEED_TEXT, "measured_f1"}
    assert set(SIGNALS) == {found.name for found in report.signals} | set(report.not_computed)
    for found in report.signals:
        assert found == signal(whole, found.name)
    assert not (report.moved_terms or report.new_words)
    assert report.verdict == "drifted"


@pytest.mark.parametrize("count", [0, 99])
def test_a_short_window_is_not_enough(count: int) -> None:
    window, true = window_of(100, 58)
    rows = np.arange(count)
    report = compare_reviews(reference(), window.take(rows), true[rows])
    assert report.verdict == "not enough yet"
    assert report.signals == ()
    assert compare_reviews(reference(), window, true).verdict != "not enough yet"
    assert compare_reviews(reference(), window.take(rows), min_reviews=count).signals or count == 0


def test_a_reference_of_a_few_reviews_has_no_verdict() -> None:
    small = Reference.build(fitted(), *made_up(99, 59))
    window, true = window_of(200, 60)
    report = compare_reviews(small, window, true)
    assert report.verdict == "not enough yet"
    assert "the reference has only 99 reviews" in report.reasons[0]
    assert report.performance.measured is not None  # needs no limits
    enough = Reference.build(fitted(), *made_up(100, 59))
    assert len(compare_reviews(enough, window, true).signals) == len(SIGNALS)


def test_of_a_sample_all_true_labels_count() -> None:
    """The window is 200 of 500 reviews; the score is measured on the 300 that have a label."""
    window, true = window_of(500, 64)
    rows = np.arange(300)
    report = compare_reviews(
        reference(), window.take(rows[:200]), true[:200], labelled=(window.take(rows), true[rows])
    )
    answered = window.answered[:300]
    expected = f1_score(true[:300][answered], window.label[:300][answered], average="macro")
    found = signal(report, "measured_f1")
    assert found.value == pytest.approx(expected)
    assert found.reviews == report.performance.labelled == answered.sum()
    assert report.performance.measured is not None
    assert report.performance.measured.value == pytest.approx(expected)
    assert signal(report, "positive_share").reviews == 200
    few = compare_reviews(reference(), window, true, labelled=(window.take(rows[:20]), true[:20]))
    assert list(few.not_computed) == ["measured_f1"]


def test_limits_are_those_of_the_size_of_the_window() -> None:
    """Of 150 reviews, 50 of them with a label: the second and the first size of the grid."""
    window, true = window_of(150, 65)
    some = np.full(150, NO_LABEL)
    rows = np.flatnonzero(window.answered)[:50]
    some[rows] = true[rows]
    report, limits = compare_reviews(reference(), window, some), reference().limits
    words, psi = signal(report, "words_ks"), signal(report, "score_psi")
    size = 150 * 600 / 750
    assert [words.watch_limit, words.limit] == pytest.approx(limits["words_ks"][1] / np.sqrt(size))
    assert [psi.watch_limit, psi.limit] == pytest.approx(limits["score_psi"][1] / size)
    measured, answered = signal(report, "measured_f1"), window_of(600, 3)[0].answered.sum()
    assert measured.reference is not None and measured.reviews == 50
    below = measured.reference - np.array([measured.watch_limit, measured.limit])
    expected = limits["measured_f1"][0] / np.sqrt(50 * answered / (50 + answered))
    assert below == pytest.approx(expected, rel=1e-9)


def test_true_labels_must_fit_the_window() -> None:
    window, true = window_of(120, 61)
    with pytest.raises(ValueError, match="119 true labels for 120 reviews"):
        compare_reviews(reference(), window, true[:-1])


def test_windows_nobody_can_answer_are_compared_all_the_same() -> None:
    window = row_features([f"qqq{at} www" for at in range(150)], fitted())
    report = compare_reviews(reference(), window)
    assert report.verdict == "drifted"
    assert report.performance.estimated is None
    assert signal(report, "no_known_words").value == 1
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.slow
def test_unchanged_reviews_are_rarely_called_drifted() -> None:
    """20 references, each against two new windows: at most 5 in 100 drifted, as promised."""
    alarms = 0
    for seed in range(20):
        small = Reference.build(fitted(), *made_up(300, 1_000 + seed))
        for size in (150, 400):
            window, true = window_of(size, 2_000 + 10 * seed + size)
            alarms += compare_reviews(small, window, true).verdict == "drifted"
    # at 5 % each, more than 6 of 40 come up in one of 300 cases
    assert alarms <= 6
