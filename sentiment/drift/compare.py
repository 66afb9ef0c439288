"""Compare a window of reviews with the reference of a model; nothing is read or written here.

report = compare_reviews(reference, row_features(texts, pipeline))
report.verdict, report.reasons, report.advice
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from sentiment.drift import MIN_WINDOW
from sentiment.drift.features import (
    EXPECTED,
    NO_LABEL,
    OTHER_WORD,
    SHARES,
    TOTALS,
    TRUE,
    UNKNOWN_WORD,
    ReviewRows,
    Tally,
    WindowFeatures,
    counted_values,
)
from sentiment.drift.limits import LEVELS, limits_at
from sentiment.drift.performance import (
    MIN_CLASS,
    MIN_LABELLED,
    Performance,
    at_new_share,
    enough_labels,
    estimated_f1,
    f1_of_confusion,
    measured_f1,
)
from sentiment.drift.reference import Reference
from sentiment.drift.report import DriftReport, MovedTerm, NewWord, Signal
from sentiment.drift.signals import (
    ESTIMATED,
    MEASURED,
    NEED_TEXT,
    POSITIVE,
    SIGNALS,
    WORDS,
    distances,
    effective_size,
    f1,
    limit_value,
    term_chi_square,
)
from sentiment.metrics import Interval, Ints, confusion
from text_cleaning import readable

LISTED = 10  # words of each kind in a report
MIN_NAMED = 5  # reviews that must have an unknown word before a report names it
FALSE_DISCOVERIES = 0.05  # at most this share of the listed terms moved by chance
CORRECTED = (  # notes on the estimate
    "the share of positive answers moved: the estimate is corrected for that, which is right where "
    "nothing else has changed"
)
OTHER_WORDS = (
    "the words changed: the estimate may be further off than its interval says; only true labels "
    "tell"
)


def compare_reviews(
    reference: Reference,
    window: WindowFeatures,
    true: Ints | None = None,
    *,
    labelled: tuple[WindowFeatures, Ints] | None = None,
    reviews: int | None = None,
    min_reviews: int = MIN_WINDOW,
) -> DriftReport:
    """Compare a window with the reference; the same input gives the same report.

    Where the share of positive answers has moved, macro-F1 is estimated with probabilities that are
    corrected for it, and the report's `performance` says so.

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
    reviews : int, optional
        How many reviews the window is a sample of; its own number unless given.
    min_reviews : int
        With fewer `reviews` the verdict is "not enough yet".

    """
    if true is None:
        true = np.full(len(window), NO_LABEL)
    if len(true) != len(window):
        raise ValueError(f"{len(true)} true labels for {len(window)} reviews; expected one each")
    scored, labels = labelled or (window, true)
    with_label = np.flatnonzero(scored.answered & (labels != NO_LABEL))
    known, scored = labels[with_label], scored.take(with_label)
    answers = window.take(np.flatnonzero(window.answered))
    performance = _performance(reference, answers, scored, known)
    report = DriftReport(len(window), reference.reviews, min_reviews, performance)
    whole = len(window) if reviews is None else reviews
    if whole < max(min_reviews, 1) or not reference.limits:
        return replace(report, reviews=whole)
    supports = {
        name: np.union1d(values, reference.counts[name][0])
        for name, values in counted_values(window).items()
    }
    before = reference.tally(supports)
    now = ReviewRows.of(window, true, supports, reference.score_edges, reference.terms).tally()
    cells = [TOTALS.index(name) for name in TRUE]
    now.totals[cells] = confusion(known, scored.label).ravel()  # of the labelled reviews
    signals, missing = _signals(reference, before, now, known)
    notes = []
    if len(answers) and any(each.name == POSITIVE and each.state != "steady" for each in signals):
        share = float(before.confusion(EXPECTED)[1].sum() / before.total("answered"))
        performance = _performance(reference, answers, scored, known, share)
        assert performance.estimated is not None
        value = performance.estimated.value
        signals = [replace(e, value=value) if e.name == ESTIMATED else e for e in signals]
        notes.append(CORRECTED)
    if any(e.state == "drifted" and SIGNALS[e.name].about == WORDS for e in signals):
        notes.append(OTHER_WORDS)
    return replace(
        report,
        performance=replace(performance, note="; ".join(notes)),
        signals=tuple(signals),
        not_computed=missing,
        moved_terms=_moved_terms(reference.terms, before, now),
        new_words=_new_words(window),
    )


def _performance(
    reference: Reference,
    answers: WindowFeatures,
    scored: WindowFeatures,
    true: Ints,
    share: float | None = None,
) -> Performance:
    """Return macro-F1 of the answers, and of `scored` reviews whose `true` labels are known.

    With `share`, the probabilities are corrected for another share of positive reviews than that.
    """

    def estimated(window: WindowFeatures) -> Interval | None:
        probability = window.probability
        if share is not None and len(window):
            probability = at_new_share(probability, share)
        return estimated_f1(probability, window.label)

    measured = measured_f1(true, scored.label)
    return Performance(
        answered=len(answers),
        labelled=len(true),
        reference=f1_of_confusion(reference.tally({}).confusion(TRUE)),
        estimated=estimated(answers),
        measured=measured,
        estimated_on_labelled=measured and estimated(scored),
    )


def _signals(
    reference: Reference, before: Tally, now: Tally, true: Ints
) -> tuple[list[Signal], dict[str, str]]:
    """Return the signals, and why others are missing; `true` are the labels that are known."""
    distance_of = distances(before, now)
    signals, missing = [], {}
    for name, kind in SIGNALS.items():
        reviews, whole = now.total("reviews"), before.total("reviews")
        if name == MEASURED:
            reviews, whole = np.asarray(float(len(true))), before.total("answered")
        size = float(effective_size(reviews, whole))
        if name == MEASURED and not enough_labels(true):
            missing[name] = (
                f"{len(true):,} reviews have a true label; expected at least {MIN_LABELLED}, and "
                f"{MIN_CLASS} of each class"
            )
            continue
        if name in NEED_TEXT and now.terms is None:
            missing[name] = "the texts of some of these reviews were not kept"
            continue
        if name not in reference.limits:
            missing[name] = f"the reference of {reference.reviews:,} reviews is too small for it"
            continue
        own: float | None = None  # of the reference
        if name in SHARES:
            value, own = float(now.share(name)), float(before.share(name))
        elif kind.scale == "f1":
            value, own = float(f1(now, name)), float(f1(before, name))
        else:
            value = limit_value(kind.scale, float(distance_of[name]), 0.0, size, above=True)
        above = kind.bad == "up" or (kind.bad == "both" and (own is None or value >= own))
        limits = limits_at(reference.limits[name], int(reviews))
        watch, limit = (
            limit_value(kind.scale, limits[level], own or 0.0, size, above=above)
            for level in LEVELS
        )
        signals.append(Signal(name, kind.group, value, own, watch, limit, above, int(reviews)))
    return signals, missing


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
        MovedTerm(
            readable(names[term]), float(share_before[term]), float(share_now[term]), float(p_value)
        )
        for term, p_value in zip(tested[order], corrected[order], strict=True)
        if p_value <= FALSE_DISCOVERIES
    )


def _new_words(window: WindowFeatures) -> tuple[NewWord, ...]:
    """Return the commonest words that the model does not know; rare ones are not named."""
    common = window.text.new_words.most_common(LISTED) if window.text else []
    return tuple(
        NewWord(readable(word), reviews / len(window))
        for word, reviews in common
        if reviews >= MIN_NAMED
    )
