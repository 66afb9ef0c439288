"""Review markup: what each word of a review weighs, and the review as HTML with its words marked.

A term can be two words or occur twice; a reader looks at words. So each contribution is shared
out evenly among its occurrences and the words that each of them covers.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sentiment.model.explanation import Contribution, Range
from text_cleaning import clean_text

# Shares of the review's heaviest word from which a word is marked faintly, clearly and strongly
STRENGTHS = (0.05, 1 / 3, 2 / 3)

_WORD = re.compile(r"\S+")
_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)  # without the punctuation around it


@dataclass(frozen=True)
class WeighedWord:
    """A word of a review: its characters, and its part of the decision value."""

    start: int
    end: int
    weight: float


def weigh_words(text: str, contributions: Sequence[Contribution]) -> list[WeighedWord]:
    """The words of the text that weigh something, in order.

    The weights add up to those of the contributions whose places are known. Words that the
    cleaning drops, such as "the" within "out of the box", get no share of a term that spans them.
    """
    words = [found.span() for found in _WORD.finditer(text) if clean_text(found[0])]
    starts, ends = [start for start, _ in words], [end for _, end in words]
    shares: dict[Range, list[tuple[int, int, float]]] = {}
    for contribution in contributions:
        for first, last in contribution.at:
            # a place without a word of its own, as between the parts of a tag, is its own word
            covered = words[bisect_right(ends, first) : bisect_left(starts, last)] or [
                (first, last)
            ]
            weight = contribution.weight / len(contribution.at) / len(covered)
            for start, end in covered:
                place = (max(start, first), min(end, last), weight)
                shares.setdefault((start, end), []).append(place)
    return [
        WeighedWord(min(start), max(end), sum(weight))
        for start, end, weight in (zip(*shares[word], strict=True) for word in sorted(shares))
    ]


def mark_words(text: str, contributions: Sequence[Contribution]) -> Markup:
    """The text, escaped, with `<mark>` around the words that weigh, by sign and strength.

    The classes are `positive` or `negative`, and `strength-1` to `strength-3`, relative to the
    review's heaviest word; `title` is the weight.
    """
    words = weigh_words(text, contributions)
    heaviest = max((abs(word.weight) for word in words), default=0.0)
    parts, done = [], 0
    for word in words:
        strength = sum(abs(word.weight) >= heaviest * share for share in STRENGTHS)
        if word.weight == 0.0 or strength == 0 or word.start < done:
            continue
        core = _CORE.search(text, word.start, word.end)
        start, end = core.span() if core else (word.start, word.end)
        sign = "positive" if word.weight > 0 else "negative"
        mark = Markup('<mark class="{} strength-{}" title="{}">{}</mark>')
        parts += [escape(text[done:start])]
        parts += [mark.format(sign, strength, signed(word.weight), text[start:end])]
        done = end
    return Markup("").join([*parts, escape(text[done:])])


def signed(weight: float) -> str:
    """The number with its sign and two decimals, with a true minus: `+0.84`, `−1.20`."""
    return f"{weight:+.2f}".replace("-", "−")
