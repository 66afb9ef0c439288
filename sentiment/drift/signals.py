"""Drift signals: how far a window of reviews is from the reference, one number a signal.

A distance is scaled so that its distribution, while nothing changes, hardly depends on how many
reviews were compared: by the effective size nm / (n + m) of n reviews against m. Limits are kept on
that scale, and turned back into a signal's own units by `limit_value`. Samples of the reference
(`drift_limits`) are measured by the same `distances` as a window (`drift_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sentiment.drift.features import Floats
from sentiment.drift.tally import EXPECTED, SHARES, TRUE, Tally
from sentiment.metrics import f1_macro

Group = Literal["input", "score", "performance"]
Scale = Literal["ks", "share", "psi", "chi2", "auc", "f1"]


@dataclass(frozen=True)
class Kind:
    """What a signal is called, what it says something about, and how it is measured."""

    title: str
    group: Group
    scale: Scale


SIGNALS: dict[str, Kind] = {
    "characters_ks": Kind("characters per review (KS)", "input", "ks"),
    "words_ks": Kind("words per review (KS)", "input", "ks"),
    "unknown_words": Kind("unknown words", "input", "share"),
    "no_known_words": Kind("reviews without a known word", "input", "share"),
    "emoji": Kind("reviews with emoji", "input", "share"),
    "non_ascii": Kind("reviews with non-ASCII characters", "input", "share"),
    "terms": Kind("the term that moved most (chi-square)", "input", "chi2"),
    "domain_auc": Kind("domain classifier (ROC AUC)", "input", "auc"),
    "score_psi": Kind("probability of positive (PSI)", "score", "psi"),
    "score_ks": Kind("probability of positive (KS)", "score", "ks"),
    "positive_share": Kind("positive answers", "score", "share"),
    "estimated_f1": Kind("estimated macro-F1", "performance", "f1"),
    "measured_f1": Kind("macro-F1 by true labels", "performance", "f1"),
}
NEED_TEXT = ("emoji", "non_ascii", "terms", "domain_auc")

# Cochran's rule (1954): below it, chi-square of a two by two table is not to be believed
MIN_EXPECTED = 5.0


def effective_size(window: Floats, reference: Floats) -> Floats:
    """Return nm / (n + m): the variance of a difference of two means is that of one of so many."""
    return window * reference / (window + reference)


def distances(reference: Tally, window: Tally) -> dict[str, Floats]:
    """The distance of each signal but `domain_auc`, above 0 for further apart, of shape (...).

    Both tallies have the same supports. The two macro-F1 are below 0 where the window does better;
    `measured_f1` is there where the window has true labels. Signals that need texts are left out
    where the window has none.
    """
    size = effective_size(window.total("reviews"), reference.total("reviews"))
    root = np.sqrt(size)
    found = {
        "characters_ks": root * kolmogorov_smirnov(reference, window, "characters"),
        "words_ks": root * kolmogorov_smirnov(reference, window, "words"),
        "score_psi": size * stability_index(reference.bins, window.bins),
        "score_ks": root * kolmogorov_smirnov(reference, window, "score"),
        "estimated_f1": root * (f1(reference, "estimated_f1") - f1(window, "estimated_f1")),
    }
    for name in SHARES:
        found[name] = root * np.abs(_angle(window.share(name)) - _angle(reference.share(name)))
    if window.terms is None or reference.terms is None:
        del found["emoji"], found["non_ascii"]
    else:
        found["terms"] = term_chi_square(reference, window).max(axis=-1, initial=0.0)
    labelled = sum(window.total(name) for name in TRUE)
    if np.all(labelled > 0):
        of_labelled = effective_size(np.asarray(labelled), reference.total("answered"))
        fall = f1(reference, "measured_f1") - f1(window, "measured_f1")
        found["measured_f1"] = np.sqrt(of_labelled) * fall
    return found


def kolmogorov_smirnov(reference: Tally, window: Tally, name: str) -> Floats:
    """The largest difference between the two distribution functions, 0–1."""
    difference: Floats = np.zeros(1)
    for sign, tally in ((1, window), (-1, reference)):
        cumulated = tally.counts[name].cumsum(axis=-1)
        whole = np.maximum(cumulated[..., -1:], 1)
        difference = difference + sign * (cumulated / whole)
    return np.asarray(np.abs(difference).max(axis=-1, initial=0.0))


def stability_index(reference: Floats, window: Floats) -> Floats:
    """Population stability index of counts by bin (Siddiqi 2006, "Credit risk scorecards").

    Half a review is added to each bin, so that an empty one is not infinitely far.
    """
    shares = [
        (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
        for counts in (reference, window)
    ]
    return np.asarray(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(axis=-1))


def term_chi_square(reference: Tally, window: Tally) -> Floats:
    """Pearson's chi-square of each term's reviews in window and reference, 1 degree of freedom.

    0 for terms that fall short of `MIN_EXPECTED`. Shape (..., terms).
    """
    if reference.terms is None or window.terms is None:
        raise ValueError("terms are compared only where both sides have texts")
    n, m = (tally.total("reviews")[..., None] for tally in (window, reference))
    with_term = window.terms + reference.terms
    without = n + m - with_term
    enough = np.minimum(with_term, without) * np.minimum(n, m) / (n + m) >= MIN_EXPECTED
    cross = window.terms * (m - reference.terms) - reference.terms * (n - window.terms)
    return np.divide(
        (n + m) * cross**2, n * m * with_term * without, out=np.zeros_like(cross), where=enough
    )


def f1(tally: Tally, signal: str) -> Floats:
    """Macro-F1, 0–1: `estimated_f1` by the expected confusion matrix, `measured_f1` by the true."""
    return f1_macro(tally.confusion(EXPECTED if signal == "estimated_f1" else TRUE))


def limit_value(scale: Scale, limit: float, reference: float, size: float, *, above: bool) -> float:
    """A limit on a distance in the signal's own units.

    Parameters
    ----------
    scale : Scale
        Of the signal's `Kind`, but not `auc`.
    limit : float
        On the distance.
    reference : float
        The reference's value of a share or a macro-F1; not used for the others.
    size : float
        `effective_size` of the comparison.
    above : bool
        Of a share, whether the limit above the reference is meant, or the one below.

    """
    if scale == "share":
        angle = _angle(np.asarray(reference)) + (1 if above else -1) * limit / np.sqrt(size)
        return float(np.sin(np.clip(angle, 0, np.pi) / 2) ** 2)
    if scale == "f1":
        return reference - limit / float(np.sqrt(size))
    return limit / {"ks": float(np.sqrt(size)), "psi": size, "chi2": 1.0}[scale]


def _angle(share: Floats) -> Floats:
    """2 arcsin √share, whose variance does not depend on the share.

    The difference of two is h of Cohen 1988, "Statistical power analysis", ch. 6.
    """
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(share, 0, 1))))
