"""Measure how far a window of reviews is from the reference: one distance per signal.

A distance is scaled so that its distribution, while nothing changes, hardly depends on how many
reviews were compared: by the effective size nm / (n + m) of n reviews against m. Limits are kept on
that scale; `limit_value` turns one back into the signal's own units. Resamples of the reference
(`limits`) and a window (`compare`) are measured by the same `distances`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sentiment.drift.features import BINS, EXPECTED, SHARES, TRUE, Tally
from sentiment.metrics import Floats, f1_macro

Group = Literal["input", "score", "performance"]
Scale = Literal["ks", "share", "psi", "chi2", "f1"]
Side = Literal["up", "down", "both"]


@dataclass(frozen=True)
class Kind:
    """The title of a signal, its group, its scale, what it is about, and which way it may not go.

    `about` is what has changed where the signal fires. `bad` names the only direction that is an
    alarm: fewer unknown words, fewer emoji or a better score do no harm. A distance between two
    distributions has no direction.
    """

    title: str
    group: Group
    scale: Scale
    about: str
    bad: Side = "both"


LENGTHS, WORDS, SYMBOLS = "lengths", "words", "emoji and other symbols"
SCORES, ANSWERS, QUALITY = "probabilities", "the share of positive answers", "the estimated score"
SIGNALS: dict[str, Kind] = {
    "characters_ks": Kind("characters per review (KS)", "input", "ks", LENGTHS),
    "words_ks": Kind("words per review (KS)", "input", "ks", LENGTHS),
    "unknown_words": Kind("unknown words", "input", "share", WORDS, "up"),
    "no_known_words": Kind("reviews without a known word", "input", "share", WORDS, "up"),
    "emoji": Kind("reviews with emoji", "input", "share", SYMBOLS, "up"),
    "non_ascii": Kind("reviews with non-ASCII characters", "input", "share", SYMBOLS, "up"),
    "terms": Kind("the term that moved most (chi-square)", "input", "chi2", WORDS),
    "score_psi": Kind("probability of positive (PSI)", "score", "psi", SCORES),
    "score_ks": Kind("probability of positive (KS)", "score", "ks", SCORES),
    "positive_share": Kind("positive answers", "score", "share", ANSWERS),
    "estimated_f1": Kind("estimated macro-F1", "performance", "f1", QUALITY, "down"),
    "measured_f1": Kind("macro-F1 by true labels", "performance", "f1", QUALITY, "down"),
}
NEED_TEXT = ("emoji", "non_ascii", "terms")
MEASURED = "measured_f1"  # the one signal that needs true labels
ESTIMATED, POSITIVE = "estimated_f1", "positive_share"

# Cochran's rule (1954): with fewer expected, the chi-square of a 2 × 2 table is unreliable
MIN_EXPECTED = 5.0


def effective_size(window: Floats, reference: Floats) -> Floats:
    """Return nm / (n + m): a difference of two means varies like one mean of that many values."""
    return window * reference / (window + reference)


def distances(reference: Tally, window: Tally) -> dict[str, Floats]:
    """Return the distance of each signal, larger for further apart, of shape (...).

    Both tallies have the same supports. Of a signal that is bad in one direction only, the distance
    is below 0 in the other. Signals that need texts or true labels are left out where there are
    none.
    """
    size = effective_size(window.total("reviews"), reference.total("reviews"))
    root = np.sqrt(size)
    by_signal = {
        "characters_ks": root * kolmogorov_smirnov(reference, window, "characters"),
        "words_ks": root * kolmogorov_smirnov(reference, window, "words"),
        "score_psi": size * stability_index(reference.counts[BINS], window.counts[BINS]),
        "score_ks": root * kolmogorov_smirnov(reference, window, "score"),
        "estimated_f1": root * (f1(reference, "estimated_f1") - f1(window, "estimated_f1")),
    }
    for name in SHARES:
        rise = root * (_angle(window.share(name)) - _angle(reference.share(name)))
        by_signal[name] = rise if SIGNALS[name].bad == "up" else np.abs(rise)
    if window.terms is None or reference.terms is None:
        del by_signal["emoji"], by_signal["non_ascii"]
    else:
        by_signal["terms"] = term_chi_square(reference, window).max(axis=-1, initial=0.0)
    labelled = sum(window.total(name) for name in TRUE)
    if np.all(labelled > 0):
        of_labelled = effective_size(np.asarray(labelled), reference.total("answered"))
        fall = f1(reference, MEASURED) - f1(window, MEASURED)
        by_signal[MEASURED] = np.sqrt(of_labelled) * fall
    return by_signal


def kolmogorov_smirnov(reference: Tally, window: Tally, name: str) -> Floats:
    """Return the largest difference between the two distribution functions, 0–1."""
    functions = []
    for tally in (window, reference):
        cumulated = tally.counts[name].cumsum(axis=-1)
        functions.append(cumulated / np.maximum(cumulated[..., -1:], 1))
    return np.asarray(np.abs(functions[0] - functions[1]).max(axis=-1, initial=0.0))


def stability_index(reference: Floats, window: Floats) -> Floats:
    """Return the population stability index of counts by bin.

    Formula: Siddiqi 2006, "Credit risk scorecards". Half a review is added to each bin, so that an
    empty bin does not make it infinite.
    """
    before, now = (
        (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
        for counts in (reference, window)
    )
    return np.asarray(((now - before) * np.log(now / before)).sum(axis=-1))


def term_chi_square(reference: Tally, window: Tally) -> Floats:
    """Return Pearson's chi-square (1 degree of freedom) of each term's reviews, shape (..., terms).

    It compares how many reviews of window and reference have the term; it is 0 for terms that fall
    short of `MIN_EXPECTED`. Of the last two, which stand for any other known word and any unknown
    word, it is also 0 where there are more of the first or fewer of the second: that more words are
    known is no alarm. Both sides have texts.
    """
    assert reference.terms is not None and window.terms is not None
    n, m = (tally.total("reviews")[..., None] for tally in (window, reference))
    with_term = window.terms + reference.terms
    without = n + m - with_term
    enough = np.minimum(with_term, without) * np.minimum(n, m) / (n + m) >= MIN_EXPECTED
    cross = window.terms * (m - reference.terms) - reference.terms * (n - window.terms)
    enough[..., -2] &= cross[..., -2] < 0
    enough[..., -1] &= cross[..., -1] > 0
    return np.divide(
        (n + m) * cross**2, n * m * with_term * without, out=np.zeros_like(cross), where=enough
    )


def f1(tally: Tally, signal: str) -> Floats:
    """Return the macro-F1 (0–1) of the true confusion matrix, or of the expected one.

    `signal` is `measured_f1` or `estimated_f1`.
    """
    return f1_macro(tally.confusion(TRUE if signal == MEASURED else EXPECTED))


def limit_value(scale: Scale, limit: float, reference: float, size: float, *, above: bool) -> float:
    """Return a limit on a distance in the signal's own units, at an effective size.

    `reference` is the reference's value of a share or a macro-F1; it is ignored for other scales.
    For a share, the limit lies above the reference or below it.
    """
    if scale == "share":
        angle = _angle(np.asarray(reference)) + (1 if above else -1) * limit / np.sqrt(size)
        return float(np.sin(np.clip(angle, 0, np.pi) / 2) ** 2)
    if scale == "f1":
        return reference - limit / float(np.sqrt(size))
    return limit / {"ks": float(np.sqrt(size)), "psi": size, "chi2": 1.0}[scale]


def mirrored(limit: float, reference: float) -> float:
    """Return the limit on a share that is as far from the reference on its other side."""
    before, there = (float(_angle(np.asarray(share))) for share in (reference, limit))
    return float(np.sin(np.clip(2 * before - there, 0, np.pi) / 2) ** 2)


def relative(value: float, limit: float, reference: float | None) -> float:
    """Return how far a value is from the reference towards its limit, which is 1.

    On the other side of the reference it is below 0.
    """
    start = reference or 0.0
    if limit == start:
        return float("inf") if value != start else 0.0
    return (value - start) / (limit - start)


def _angle(share: Floats) -> Floats:
    """Return 2 arcsin √share, whose variance does not depend on the share.

    The difference of two is the effect size h of Cohen 1988, "Statistical power analysis", ch. 6.
    """
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(share, 0, 1))))
