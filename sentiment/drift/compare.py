"""Drift check: compare a window of reviews with the reference of a model.

    report = check(profile, row_features(texts, pipeline))
    report.verdict, report.reasons, report.advice

Nothing is read or written here; where windows and profiles come from is for others to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from sentiment.drift.domain import MIN_POOLS, POOL, Separation, one_thread, pool_reviews, separate
from sentiment.drift.features import NO_LABEL, Floats, Ints, WindowFeatures
from sentiment.drift.limits import LEVELS
from sentiment.drift.performance import (
    MIN_CLASS,
    MIN_LABELLED,
    Performance,
    estimated_f1,
    from_confusion,
    measured_f1,
)
from sentiment.drift.reference import SEED, ReferenceProfile
from sentiment.drift.report import DomainWord, DriftReport, MovedTerm, NewWord, Signal
from sentiment.drift.signals import (
    NEED_TEXT,
    SIGNALS,
    distances,
    effective_size,
    f1,
    limit_value,
    term_chi_square,
)
from sentiment.drift.tally import (
    EXPECTED,
    OTHER_WORD,
    SHARES,
    TRUE,
    UNKNOWN_WORD,
    Tally,
    counted_values,
    tally_window,
    term_columns,
)
from sentiment.metrics import f1_macro

MIN_WINDOW = 100  # reviews; below, only a landslide would show
LISTED = 10  # words of each kind in a report
MIN_NAMED = 5  # reviews that must have an unknown word before a report names it
FALSE_DISCOVERIES = 0.05  # of the terms listed as moved, at most so large a share by chance


def check(
    profile: ReferenceProfile,
    window: WindowFeatures,
    true: Ints | None = None,
    *,
    min_reviews: int = MIN_WINDOW,
) -> DriftReport:
    """Compare a window with the reference.

    Parameters
    ----------
    profile : ReferenceProfile
        Of the model that made the window's features.
    window : WindowFeatures
        Without texts, the signals that need them are named as not computed.
    true : array of int of shape (n,), optional
        True labels of the window's reviews, 0 or 1, `NO_LABEL` where nobody has said.
    min_reviews : int
        Fewer are "not enough yet".

    Returns
    -------
    DriftReport
        The same for the same input.

    """
    labelled = _labelled(window, true)
    performance = _performance(profile, window, labelled)
    nothing = DriftReport(len(window), profile.reviews, min_reviews, performance)
    if len(window) < max(min_reviews, 1) or not profile.limits.signals:
        return nothing
    supports = {
        name: np.union1d(values, profile.counts[name][0])
        for name, values in counted_values(window).items()
    }
    now = tally_window(window, labelled, supports, profile.score_edges, profile.terms)
    reference = profile.tally(supports)
    with one_thread():
        separation = _separation(profile, window)
    signals, missing = _signals(profile, reference, now, separation)
    return replace(
        nothing,
        signals=signals,
        not_computed=missing,
        moved_terms=_moved_terms(profile.terms, reference, now),
        domain_words=_domain_words(profile.terms, reference, now, separation),
        new_words=_new_words(window),
    )


def _labelled(window: WindowFeatures, true: Ints | None) -> Ints:
    """True labels where the model has a label too, `NO_LABEL` elsewhere."""
    if true is None:
        return np.full(len(window), NO_LABEL)
    if len(true) != len(window):
        raise ValueError(f"{len(true)} true labels for {len(window)} reviews; expected one each")
    return np.where(window.answered, true, NO_LABEL)


def _performance(profile: ReferenceProfile, window: WindowFeatures, true: Ints) -> Performance:
    rows = true != NO_LABEL
    measured = measured_f1(true[rows], window.label[rows])
    answered, expected = window.answered, profile.confusion(EXPECTED)
    return Performance(
        answered=int(answered.sum()),
        labelled=int(rows.sum()),
        reference=from_confusion(profile.confusion()),
        estimated=estimated_f1(window.probability[answered], window.label[answered]),
        measured=measured,
        estimated_on_labelled=(
            None if measured is None else estimated_f1(window.probability[rows], window.label[rows])
        ),
        reference_estimated=float(f1_macro(expected)) if expected.any() else None,
    )


def _signals(
    profile: ReferenceProfile, reference: Tally, now: Tally, separation: Separation | None
) -> tuple[tuple[Signal, ...], dict[str, str]]:
    """The signals in the order of `SIGNALS`, and why others are missing."""
    found = distances(reference, now)
    signals, missing = [], {}
    labelled = int(sum(now.total(name) for name in TRUE))
    for name in SIGNALS:
        reviews = labelled if name == "measured_f1" else int(now.total("reviews"))
        limits = profile.limits.at(name, max(reviews, 1))
        if name in NEED_TEXT and now.terms is None:
            missing[name] = "the texts of some of these reviews were not kept"
        elif name == "measured_f1" and not _enough_labels(now):
            missing[name] = (
                f"{labelled:,} reviews have a true label; expected at least {MIN_LABELLED}, and "
                f"{MIN_CLASS} of each class"
            )
        elif limits is None:
            missing[name] = f"the reference of {profile.reviews:,} reviews is too small for it"
        elif name == "domain_auc" and separation is None:
            missing[name] = f"needs at least {MIN_POOLS * POOL} reviews"
        elif name == "domain_auc" and separation is not None:
            signals.append(_domain_signal(separation, limits, reviews))
        else:
            signals.append(_signal(name, found[name], limits, reference, now, reviews))
    return tuple(signals), missing


def _enough_labels(now: Tally) -> bool:
    by_class = now.confusion(TRUE).sum(axis=1)
    return bool(by_class.sum() >= MIN_LABELLED and by_class.min() >= MIN_CLASS)


def _signal(
    name: str,
    distance: Floats,
    limits: Mapping[str, float],
    reference: Tally,
    now: Tally,
    reviews: int,
) -> Signal:
    """A signal in its own units."""
    kind = SIGNALS[name]
    of_reference = reference.total("answered" if name == "measured_f1" else "reviews")
    size = float(effective_size(np.asarray(float(reviews)), of_reference))
    before: float | None = None
    if name in SHARES:
        before, value = float(reference.share(name)), float(now.share(name))
        above = value >= before
    elif kind.scale == "f1":
        before, value, above = float(f1(reference, name)), float(f1(now, name)), False
    else:
        value, above = limit_value(kind.scale, float(distance), 0.0, size, above=True), True
    watch, limit = (
        limit_value(kind.scale, limits[level], before or 0.0, size, above=above) for level in LEVELS
    )
    return Signal(name, kind.group, value, before, watch, limit, above, reviews)


def _separation(profile: ReferenceProfile, window: WindowFeatures) -> Separation | None:
    columns = term_columns(window, profile.terms)
    if columns is None:
        return None
    return separate(profile.pools, pool_reviews(columns, np.random.default_rng(SEED)))


def _domain_signal(separation: Separation, limits: Mapping[str, float], reviews: int) -> Signal:
    watch, limit = (0.5 + limits[level] * separation.standard_error for level in LEVELS)
    group = SIGNALS["domain_auc"].group
    return Signal("domain_auc", group, separation.auc, None, watch, limit, True, reviews)


def _moved_terms(terms: tuple[str, ...], reference: Tally, now: Tally) -> tuple[MovedTerm, ...]:
    """The terms whose share moved, by chi-square corrected for many tests, the surest first.

    Corrected by Benjamini & Hochberg 1995, "Controlling the false discovery rate".
    """
    if now.terms is None or reference.terms is None:
        return ()
    chi_square = term_chi_square(reference, now)
    tested = np.flatnonzero(chi_square > 0)
    if not len(tested):
        return ()
    corrected = stats.false_discovery_control(stats.chi2.sf(chi_square[tested], df=1))
    before, after = _term_shares(reference), _term_shares(now)
    names = (*terms, OTHER_WORD, UNKNOWN_WORD)
    surest = np.argsort(-chi_square[tested], kind="stable")[:LISTED]
    return tuple(
        MovedTerm(names[tested[at]], before[tested[at]], after[tested[at]], float(corrected[at]))
        for at in surest
        if corrected[at] <= FALSE_DISCOVERIES
    )


def _domain_words(
    terms: tuple[str, ...], reference: Tally, now: Tally, separation: Separation | None
) -> tuple[DomainWord, ...]:
    """The words that the domain classifier goes by: weight times difference of the shares."""
    if separation is None:
        return ()
    before, after = _term_shares(reference), _term_shares(now)
    names = (*terms, OTHER_WORD, UNKNOWN_WORD)
    says = separation.weights * (np.array(after) - np.array(before))
    return tuple(
        DomainWord(names[at], float(separation.weights[at]), before[at], after[at])
        for at in np.argsort(-says, kind="stable")[:LISTED]
        if says[at] > 0
    )


def _term_shares(tally: Tally) -> list[float]:
    """The share of the reviews that has each term, 0–1."""
    reviews = np.zeros(0) if tally.terms is None else tally.terms
    return [float(share) for share in reviews / tally.total("reviews")]


def _new_words(window: WindowFeatures) -> tuple[NewWord, ...]:
    """The commonest words that the model does not know; rare ones go unnamed."""
    if window.text is None:
        return ()
    return tuple(
        NewWord(word, reviews / len(window))
        for word, reviews in window.text.new_words.most_common(LISTED)
        if reviews >= MIN_NAMED
    )
