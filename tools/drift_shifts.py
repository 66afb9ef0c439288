"""Shift reviews in known ways and strengths, to measure whether drift monitoring notices.

A shift takes texts and labels and returns as many, changed; the same generator gives the same
result. The other product is kettles and phone cases, in sentences of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sentiment.metrics import Labels
from text_cleaning import clean_texts

Changed = tuple[list[str], Labels]
Shift = Callable[[Sequence[str], Labels, float, np.random.Generator], Changed]

# Two products and what is said of them; {part}, {praise} and {blame} are drawn from the lists.
PARTS = tuple(
    """
kettle lid spout handle element thermostat switch water scale boil steam case cover phone camera
cutout bumper corner screen button silicone edges magnet stand charger
""".split()  # noqa: SIM905
)
PRAISE = ("lovely", "sleek", "quiet", "snug", "shiny", "slim", "tough", "tidy", "good", "nice")
BLAME = (
    "leaky",
    "rusty",
    "noisy",
    "loose",
    "yellowed",
    "sticky",
    "cracked",
    "bulky",
    "bad",
    "poor",
)
CONTENT = (
    "The {part} is {praise} and the {part} heats fast",
    "{praise} {part}, boils in two minutes",
    "Fits my mobile like a glove, {praise} {part}",
    "Pours well, {part} stays cool, {praise} overall",
    "{praise} grip, the {part} does not slip from the hand",
    "Very {praise}",
)
DISCONTENT = (
    "The {part} is {blame} after a week of tea",
    "{blame} {part}, trips the fuse",
    "Does not fit my mobile, {blame} {part}",
    "{blame} smell of plastic and the {part} came off",
    "The {part} gets hot and {blame}, returned it",
    "Very {blame}",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def other_product(
    texts: Sequence[str], labels: Labels, share: float, generator: np.random.Generator
) -> Changed:
    """Replace a share of the reviews by reviews of kettles and phone cases with the same labels."""
    changed = list(texts)
    for row in _some(len(texts), share, generator):
        sentences = CONTENT if labels[row] else DISCONTENT
        changed[row] = str(generator.choice(sentences)).format(
            part=generator.choice(PARTS),
            praise=generator.choice(PRAISE),
            blame=generator.choice(BLAME),
        )
    return changed, labels


def misspelling(
    texts: Sequence[str], labels: Labels, share: float, generator: np.random.Generator
) -> Changed:
    """Change one letter of a share of the words: left out, doubled, swapped or another."""
    changed = []
    for text in texts:
        words = text.split(" ")
        for at in _some(len(words), share, generator):
            words[at] = _misspelt(words[at], generator)
        changed.append(" ".join(words))
    return changed, labels


def turned_topic(
    texts: Sequence[str], labels: Labels, share: float, generator: np.random.Generator
) -> Changed:
    """Turn the labels of the reviews with a certain word, as if its meaning had changed.

    The word is the stem whose share of the reviews is nearest to `share`.
    """
    words = [set(cleaned.split()) for cleaned in clean_texts(texts)]
    counts: dict[str, int] = {}
    for found in words:
        for word in found:
            counts[word] = counts.get(word, 0) + 1
    topic = min(sorted(counts), key=lambda word: abs(counts[word] - share * len(texts)))
    has_topic = np.array([topic in found for found in words])
    return list(texts), np.where(has_topic, 1 - labels, labels)


def rows_of_share(
    labels: Labels, size: int, share: float, generator: np.random.Generator
) -> Labels:
    """Return `size` random rows with a share of positive ones; rows repeat if there are too few."""
    positive = round(share * size)
    chosen = []
    for label, wanted in ((0, size - positive), (1, positive)):
        rows = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(np.resize(rows, wanted))
    return generator.permutation(np.concatenate(chosen))


def _some(size: int, share: float, generator: np.random.Generator) -> Labels:
    return generator.permutation(size)[: generator.binomial(size, share)]


def _misspelt(word: str, generator: np.random.Generator) -> str:
    at = int(generator.integers(max(len(word), 1)))
    before, letter, after = word[:at], word[at : at + 1], word[at + 1 :]
    ways = (
        before + after,
        before + letter * 2 + after,
        before + after[:1] + letter + after[1:],
        before + LETTERS[generator.integers(len(LETTERS))] + after,
    )
    return ways[generator.integers(len(ways))]
