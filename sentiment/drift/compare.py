"""Compare a window of reviews with the reference of a model.

    report = compare_reviews(reference, row_features(texts, pipeline))
    report.verdict, report.reasons, report.advice

Nothing is read or written here; `window` and `reference` know where reviews come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from sentiment.drift import MIN_WINDOW
from sentiment.drift.features import (
    NO_LABEL,
    OTHER_WORD,
    SHARES,
    TRUE,
    UNKNOWN_WORD,
    Tally,
    WindowFeatures,
    counted_values,
    tally_window,
)
from sentiment.drift.limits import LEVELS
from sentiment.drift.performance import (
    MIN_CLASS,
    MIN_LABELLED,
    Performance,
    enough_labels,
    estimated_f1,
    f1_of_confusion,
    measured_f1,
)
from sentiment.drift.reference import Reference
from sentiment.drift.report import DriftReport, MovedTerm, NewWord, Signal
from sentiment.drift.signals import (
    MEASURED,
    NEED_TEXT,
    SIGNALS,
    distances,
    effective_size,
    f1,
    limit_value,
    term_chi_square,
)
from sentiment.metrics import Floats, Ints, confusion, f1_macro

LISTED = 10  # words of each kind in a report
MIN_NAMED = 5  # reviews that must have an unknown word before a report names it
FALSE_DISCOVERIES = 0.05  # at most this share of the listed terms moved by chance


def compare_reviews(
    reference: Reference,
    window: WindowFeatures,
    true: Ints | None = None,
    *,
    labelled: tuple[WindowFeatures, Ints] | None = None,
    min_reviews: int = MIN_WINDOW,
) -> DriftReport:
    """Compare a window with the reference; the same input gives the same report.

    Parameters
    ----------
    reference : Reference
        Of the model that made the window's features.
    window : WindowFeatures
        Of n reviews. Without texts, the signals that need them are named as not computed.
    true : array of int of shape (n,), optional
        True labels of these reviews, 0 or 1, `NO_LABEL` where unknown.
    labelled : tuple of WindowFeatures and array of int, optional
        Other reviews with their true labels, to measure the score on instead: where the window is
        a sample, all that have a true label.
    min_reviews : int
        With fewer reviews the verdict is "not enough yet".

    """
    if true is None:
        true = np.full(len(window), NO_LABEL)
    if len(true) != len(window):
        raise ValueError(f"{len(true)} true labels for {len(window)} reviews; expected one each")
    measured_on, labels = labelled or (window, true)
    rows = measured_on.answered & (labels != NO_LABEL)
    true_labels, own_labels = labels[rows], measured_on.label[rows]
    report = DriftReport(
        len(window),
        reference.reviews,
        min_reviews,
        _performance(reference, window, true_labels, own_labels, measured_on.probability[rows]),
    )
    if len(window) < max(min_reviews, 1) or not reference.limits.signals:
        return report
    supports = {
        name: np.union1d(values, reference.counts[name][0])
        for name, values in counted_values(window).items()
    }
    now = tally_window(window, true, supports, reference.score_edges, reference.terms)
    before = reference.tally(supports)
    signals, missing = _signals(reference, before, now)
    measured = _measured_signal(reference, before, true_labels, own_labels)
    return replace(
        report,
        signals=(*signals, measured) if isinstance(measured, Signal) else signals,
        not_computed=missing if isinstance(measured, Signal) else {**missing, MEASURED: measured},
        moved_terms=_moved_terms(reference.terms, before, now),
        new_words=_new_words(window),
    )


def _performance(
    reference: Reference, window: WindowFeatures, true: Ints, own: Ints, probability: Floats
) -> Performance:
    """Return the scores; `true`, `own` label and `probability` are of the labelled reviews."""
    answered, measured = window.answered, measured_f1(true, own)
    return Performance(
        answered=int(answered.sum()),
        labelled=len(true),
        reference=f1_of_confusion(reference.tally({}).confusion(TRUE)),
        estimated=estimated_f1(window.probability[answered], window.label[answered]),
        measured=measured,
        estimated_on_labelled=None if measured is None else estimated_f1(probability, own),
    )


def _signals(
    reference: Reference, before: Tally, now: Tally
) -> tuple[tuple[Signal, ...], dict[str, str]]:
    """Return all signals but the measured score, and the reasons why others are missing."""
    distance_of = distances(before, now)
    reviews = int(now.total("reviews"))
    size = float(effective_size(now.total("reviews"), before.total("reviews")))
    signals, missing = [], {}
    for name, kind in SIGNALS.items():
        limits = reference.limits.at(name, reviews)
        if name == MEASURED:
            continue
        if name in NEED_TEXT and now.terms is None:
            missing[name] = "the texts of some of these reviews were not kept"
        elif limits is None:
            missing[name] = _no_limits(reference)
        elif name in SHARES:
            values = float(now.share(name)), float(before.share(name))
            signals.append(_signal(name, *values, limits, size, reviews))
        elif kind.scale == "f1":
            values = float(f1(now, name)), float(f1(before, name))
            signals.append(_signal(name, *values, limits, size, reviews))
        else:
            value = limit_value(kind.scale, float(distance_of[name]), 0.0, size, above=True)
            signals.append(_signal(name, value, None, limits, size, reviews))
    return tuple(signals), missing


def _measured_signal(reference: Reference, before: Tally, true: Ints, own: Ints) -> Signal | str:
    """Return the signal of the score by true labels, or the reason why it is missing."""
    limits = reference.limits.at(MEASURED, max(len(true), 1))
    if not enough_labels(true):
        return (
            f"{len(true):,} reviews have a true label; expected at least {MIN_LABELLED}, and "
            f"{MIN_CLASS} of each class"
        )
    if limits is None:
        return _no_limits(reference)
    value = float(f1_macro(confusion(true, own)))
    size = float(effective_size(np.asarray(float(len(true))), before.total("answered")))
    return _signal(MEASURED, value, float(f1(before, MEASURED)), limits, size, len(true))


def _no_limits(reference: Reference) -> str:
    return f"the reference of {reference.reviews:,} reviews is too small for it"


def _signal(
    name: str,
    value: float,
    before: float | None,
    limits: Mapping[str, float],
    size: float,
    reviews: int,
) -> Signal:
    """Return a signal with its limits in its own units; `before` is the reference's own value."""
    kind = SIGNALS[name]
    above = kind.scale != "f1" and (before is None or value >= before)
    watch, limit = (
        limit_value(kind.scale, limits[level], before or 0.0, size, above=above) for level in LEVELS
    )
    return Signal(name, kind.group, value, before, watch, limit, above, reviews)


def _moved_terms(terms: tuple[str, ...], before: Tally, now: Tally) -> tuple[MovedTerm, ...]:
    """Return the terms whose share of reviews moved, the most certain first.

    Their chi-square is corrected for testing many terms by Benjamini & Hochberg 1995, "Controlling
    the false discovery rate".
    """
    if now.terms is None or before.terms is None:
        return ()
    chi_square = term_chi_square(before, now)
    tested = np.flatnonzero(chi_square > 0)
    if not len(tested):
        return ()
    corrected = stats.false_discovery_control(stats.chi2.sf(chi_square[tested], df=1))
    share_before = before.terms / before.total("reviews")
    share_now = now.terms / now.total("reviews")
    names = (*terms, OTHER_WORD, UNKNOWN_WORD)
    order = np.argsort(-chi_square[tested], kind="stable")[:LISTED]
    return tuple(
        MovedTerm(names[term], float(share_before[term]), float(share_now[term]), float(p_value))
        for term, p_value in zip(tested[order], corrected[order], strict=True)
        if p_value <= FALSE_DISCOVERIES
    )


def _new_words(window: WindowFeatures) -> tuple[NewWord, ...]:
    """Return the commonest words that the model does not know; rare ones are not named."""
    if window.text is None:
        return ()
    return tuple(
        NewWord(word, reviews / len(window))
        for word, reviews in window.text.new_words.most_common(LISTED)
        if reviews >= MIN_NAMED
    )
