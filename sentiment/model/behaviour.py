"""Test how a model behaves: plain sentences, changes that must move it, changes that must not.

    behaviour = behaviour_of(pipeline)                # all CASES in one batch
    behaviour.sentence()                              # "10 of 116 failed: 5 of 40 minimum, …"
    compare_behaviour(behaviour, other).newly_failed  # what the other model passes

Three kinds of test (Ribeiro, Wu, Guestrin & Singh 2020, "Beyond accuracy: behavioral testing of NLP
models with CheckList"): *minimum*, plain sentences that have to get their label; *direction*, an
addition that has to move the probability of positive one way; *invariance*, a change that says
nothing about the product. The sentences are ours, in English, about everyday products. They say
nothing of a model that knows few of their words: then they do not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sentiment.data.labels import CLASS_NAMES, GUIDES, LabelRule
from sentiment.metrics import Bools, Floats, Labels

MINIMUM, DIRECTION, INVARIANCE = KINDS = ("minimum", "direction", "invariance")
# What a case expects: a label, or how the probability of positive differs from that of `text`
POSITIVE, NEGATIVE = CLASS_NAMES[1], CLASS_NAMES[0]
FALLS, RISES = "falls", "rises"
NOT_LOWER, NOT_HIGHER, SAME = "not lower", "not higher", "same"

TOLERANCE = 0.1  # of probability: how far a change may move what it should not; CheckList's own
STEP = 0.01  # of probability: a move of less is none
KNOWN_WORDS = 0.4  # share of the cases' words that a model has to know for them to apply
PLAIN = (2, 3)  # rules (stars up to which is negative) by which plain praise is surely positive
# Of `BehaviourChange.chance`. Models retrained on other nine tenths of the reviews are called worse
# in up to 2 % by it (`tools/simulate_behaviour.py`): the cases are alike, but so are their answers.
MAX_CHANCE = 0.05


@dataclass(frozen=True)
class Case:
    """One test: `text`, and for all but the minimum the same `changed`, with what is expected."""

    kind: str
    capability: str
    text: str
    expected: str
    changed: str = ""

    def __str__(self) -> str:
        if not self.changed:
            return f"“{self.text}” should be {self.expected}"
        wanted = (
            "the probability of positive "
            + {
                FALLS: "should fall",
                RISES: "should rise",
                NOT_LOWER: f"should not fall by more than {TOLERANCE}",
                NOT_HIGHER: f"should not rise by more than {TOLERANCE}",
                SAME: f"should stay within {TOLERANCE}",
            }[self.expected]
        )
        return f"“{self.text}” → “{self.changed}”: {wanted}"


# --- the cases ---------------------------------------------------------------------------------

THINGS = ("kettle", "phone cover", "backpack", "lamp", "shirt", "pair of headphones", "racket")
PRAISE = ("good", "great", "excellent", "perfect", "amazing", "nice", "awesome")
BLAME = ("bad", "terrible", "useless", "poor", "horrible", "pathetic", "disappointing")
PRAISING = (
    "I love this backpack.",
    "Very happy with the lamp, it works perfectly.",
    "Best headphones I have bought so far.",
    "Good quality and value for money.",
    "Nice shirt at this price, fast delivery.",
    "The kettle is worth every penny.",
    "Excellent product, I would recommend it to everyone.",
    "Satisfied with this purchase, thank you.",
    "Super quality, I really like it.",
    "These shoes are comfortable, durable and look great.",
)
BLAMING = (
    "Waste of money, please do not buy this kettle.",
    "Worst headphones I have ever bought.",
    "Very disappointed with the lamp.",
    "The backpack broke after two days.",
    "Very poor quality, I am returning it.",
    "I received a damaged shirt.",
    "Cheap material and bad quality.",
    "Fake product, I want my money back.",
    "It stopped working after one week, useless.",
    "Do not waste your money on this phone cover.",
)
NEGATED = (
    "The kettle is not good.",
    "I am not happy with this lamp.",
    "Not worth the money.",
    "I would not recommend this backpack.",
    "The shirt is not good quality.",
    "I don't like these shoes.",
)
# a sentence, and the same with a negation
NEGATIONS = (
    ("I am happy with the lamp.", "I am not happy with the lamp."),
    ("The backpack is worth the money.", "The backpack is not worth the money."),
    ("I would recommend this kettle.", "I would never recommend this kettle."),
    ("I like this shirt.", "I don't like this shirt."),
    ("The quality of the shoes is good.", "The quality of the shoes isn't good."),
    ("Good for daily use.", "Not good for daily use."),
)
BROKE = (
    " But it broke after one week.",
    " But the quality is poor.",
    " But it stopped working, waste of money.",
)
MENDED = (
    " But the new one is excellent, I love it.",
    " But at this price it is good value for money.",
)
# two of a kind: nothing about the product differs
NAMES = (
    ("Anna likes it, good quality.", "Priya likes it, good quality."),
    ("Bought it for my son Tom, he is happy.", "Bought it for my son Arjun, he is happy."),
    ("Delivered to Berlin in time, nice lamp.", "Delivered to Mumbai in time, nice lamp."),
    ("Mr Smith sold me a damaged kettle.", "Mr Gupta sold me a damaged kettle."),
    ("Maria says that the shirt is bad quality.", "Fatima says that the shirt is bad quality."),
)
NUMBERS = (
    ("Bought 2 of them, very good.", "Bought 15 of them, very good."),
    ("Paid 499 for this backpack, nice product.", "Paid 1299 for this backpack, nice product."),
    ("Broke after 3 days, poor quality.", "Broke after 9 days, poor quality."),
    ("Arrived in 4 days, good packaging.", "Arrived in 11 days, good packaging."),
    ("The lamp is 30 cm high and looks bad.", "The lamp is 45 cm high and looks bad."),
)
PUNCTUATION = (
    ("Good quality, fast delivery.", "Good quality,fast delivery."),
    ("Bad quality. Do not buy.", "Bad quality.Do not buy."),
    ("Nice lamp - very happy.", "Nice lamp-very happy."),
    ("Poor quality! Waste of money!", "Poor quality!!!Waste of money!!!"),
)
UNCHANGED = (*PRAISING[1:5], *BLAMING[2:6])  # for what can be done to any sentence


def _is(thing: str, word: str) -> str:
    return f"The {thing} is {word}."


# Those of a template take the things in turn.


def _minimum() -> Iterator[Case]:
    for label, words, sentences in ((POSITIVE, PRAISE, PRAISING), (NEGATIVE, BLAME, BLAMING)):
        what = "praise" if label == POSITIVE else "complaint"
        for thing, word in zip(THINGS, words, strict=True):
            yield Case(MINIMUM, what, _is(thing, word), label)
        for text in sentences:
            yield Case(MINIMUM, what, text, label)
    for text in NEGATED:
        yield Case(MINIMUM, "negation", text, NEGATIVE)


def _direction() -> Iterator[Case]:
    for thing, word in zip(THINGS, PRAISE, strict=True):
        yield Case(DIRECTION, "negation", _is(thing, word), FALLS, _is(thing, f"not {word}"))
    for text, changed in NEGATIONS:
        yield Case(DIRECTION, "negation", text, FALLS, changed)
    for thing, word in zip(THINGS[:3], BLAME, strict=False):
        yield Case(
            DIRECTION, "negated complaint", _is(thing, word), RISES, _is(thing, f"not {word}")
        )
    for words, expected in ((PRAISE, NOT_LOWER), (BLAME, NOT_HIGHER)):
        for thing, word in zip(THINGS[::2], words, strict=False):
            changed = _is(thing, f"very {word}")
            yield Case(DIRECTION, "very", _is(thing, word), expected, changed)
    for number, text in enumerate(PRAISING[:6]):
        changed = text + BROKE[number % len(BROKE)]
        yield Case(DIRECTION, "bad news added", text, FALLS, changed)
    for number, text in enumerate(BLAMING[1:5]):
        changed = text + MENDED[number % len(MENDED)]
        yield Case(DIRECTION, "good news added", text, RISES, changed)


def _invariance() -> Iterator[Case]:
    for what, pairs in (("names", NAMES), ("numbers", NUMBERS), ("punctuation", PUNCTUATION)):
        for text, changed in pairs:
            yield Case(INVARIANCE, what, text, SAME, changed)
    for text in UNCHANGED:
        yield Case(INVARIANCE, "case", text, SAME, text.upper())
        yield Case(INVARIANCE, "READ MORE", text, SAME, f"{text}READ MORE")
    for number, thing in enumerate(THINGS[1:]):
        for word in (PRAISE[number % 3], BLAME[number % 2]):
            yield Case(INVARIANCE, "product", _is(THINGS[0], word), SAME, _is(thing, word))


CASES: tuple[Case, ...] = (*_minimum(), *_direction(), *_invariance())


# --- running them ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Behaviour:
    """What a model did with `CASES`; all arrays have shape (cases,).

    `asked` is which cases apply to it, `passed` which of these it passed. `before` and `after` are
    its probabilities of positive for `text` and `changed` (for `text` again where there is none).
    `why_not` says why cases do not apply; empty when all do.
    """

    asked: Bools
    passed: Bools
    before: Floats
    after: Floats
    why_not: str = ""

    @property
    def failed(self) -> list[Case]:
        """The cases that were failed, in order."""
        return [case for case, bad in zip(CASES, self.asked & ~self.passed, strict=True) if bad]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many cases of each kind failed, and how many were asked."""
        of_kind = {kind: np.array([case.kind == kind for case in CASES]) for kind in KINDS}
        return {
            kind: (int((rows & self.asked & ~self.passed).sum()), int((rows & self.asked).sum()))
            for kind, rows in of_kind.items()
        }

    def sentence(self) -> str:
        """Return the counts as a clause: `10 of 116 failed: 5 of 40 minimum, …`."""
        if not self.asked.any():
            return self.why_not
        parts = [f"{bad} of {asked} {kind}" for kind, (bad, asked) in self.counts().items()]
        total = f"{len(self.failed)} of {int(self.asked.sum())} failed: {', '.join(parts)}"
        return f"{total}; {self.why_not}" if self.why_not else total

    def metrics(self) -> dict[str, float]:
        """Return the counts by name, for a run; only `behaviour_cases` where none apply."""
        found = {"behaviour_cases": float(self.asked.sum())}
        if self.asked.any():
            found["behaviour_failed"] = float(len(self.failed))
            for kind, (bad, _) in self.counts().items():
                found[f"behaviour_{kind}_failed"] = float(bad)
        return found

    def table(self) -> pd.DataFrame:
        """Return a row a case: kind, capability, texts, what is expected, probabilities, outcome.

        The outcome is `passed`, `failed` or `does not apply`.
        """
        frame = pd.DataFrame([vars(case) for case in CASES])
        frame["probability"], frame["probability_changed"] = self.before, self.after
        frame.loc[frame["changed"] == "", "probability_changed"] = np.nan
        outcome = np.where(self.passed, "passed", "failed")
        frame["outcome"] = np.where(self.asked, outcome, "does not apply")
        return frame


def run_behaviour(
    answer: Callable[[list[str]], tuple[Labels, Floats, float]], rule: LabelRule = GUIDES
) -> Behaviour:
    """Run all cases in one batch.

    `answer` gives labels (0 or 1) and probabilities of positive (0–1) of raw texts, in order, and
    which share of their words the model knows: below `KNOWN_WORDS` no case applies. Where `rule`
    takes 2 stars for positive or 4 for negative, plain complaints or plain praise may rightly get
    the other label: then the minimum does not apply.
    """
    texts = [case.text for case in CASES] + [case.changed or case.text for case in CASES]
    labels, probabilities, known_words = answer(texts)
    before, after = np.asarray(probabilities, dtype=np.float64).reshape(2, len(CASES))
    each = zip(CASES, labels[: len(CASES)], before, after, strict=True)
    passed, why_not = np.array([_passes(*one) for one in each]), ""
    asked = np.full(len(CASES), fill_value=True)
    if known_words < KNOWN_WORDS:
        asked[:] = False
        why_not = (
            f"they do not apply: the model knows {known_words:.0%} of their English words, fewer "
            f"than {KNOWN_WORDS:.0%}"
        )
    elif not rule.negative and rule.negative_up_to not in PLAIN:
        asked = np.array([case.kind != MINIMUM for case in CASES])
        why_not = f"the minimum does not apply to '{rule}'"
    return Behaviour(asked, passed, before, after, why_not)


def behaviour_of(pipeline: Any, rule: LabelRule = GUIDES) -> Behaviour:
    """Run all cases on a fitted pipeline of cleaning, vectorizer and classifier.

    `rule` is what its training reviews took for negative.
    """

    def answer(texts: list[str]) -> tuple[Labels, Floats, float]:
        cleaned = pipeline[:1].transform(texts)
        matrix, model = pipeline[1:-1].transform(cleaned), pipeline[-1]
        known = _known_share(cleaned, pipeline[1])
        return model.predict(matrix), model.predict_proba(matrix)[:, 1], known

    return run_behaviour(answer, rule)


def _known_share(cleaned: Iterable[str], vectorizer: Any) -> float:
    """Return the share of the words of cleaned texts that are in the vocabulary."""
    tokenize, stop_words = vectorizer.build_tokenizer(), vectorizer.get_stop_words() or ()
    words = [word for text in cleaned for word in tokenize(text) if word not in stop_words]
    return float(np.mean([word in vectorizer.vocabulary_ for word in words])) if words else 0.0


def _passes(case: Case, label: int, before: float, after: float) -> bool:
    moved = after - before
    return {
        POSITIVE: label == 1,
        NEGATIVE: label == 0,
        FALLS: moved <= -STEP,
        RISES: moved >= STEP,
        NOT_LOWER: moved >= -TOLERANCE,
        NOT_HIGHER: moved <= TOLERANCE,
        SAME: abs(moved) <= TOLERANCE,
    }[case.expected]


# --- two models --------------------------------------------------------------------------------


@dataclass(frozen=True)
class BehaviourChange:
    """What one model fails and another passes, and the other way round."""

    newly_failed: tuple[Case, ...]
    mended: tuple[Case, ...]

    @property
    def chance(self) -> float:
        """How probable so many new failures or more are, 0–1, if either way were as likely.

        McNemar's test, exact and one-sided: of the cases on which the two differ, each is a new
        failure with probability one half (McNemar 1947, "Note on the sampling error of the
        difference between correlated proportions or percentages").
        """
        new, differ = len(self.newly_failed), len(self.newly_failed) + len(self.mended)
        tails = sum(math.comb(differ, hits) for hits in range(new, differ + 1))
        return float(tails / 2**differ)

    @property
    def worse(self) -> bool:
        """Whether more cases are newly failed than chance would explain."""
        return self.chance <= MAX_CHANCE


def compare_behaviour(candidate: Behaviour, other: Behaviour) -> BehaviourChange:
    """Compare two models on the cases that apply to both."""
    both = candidate.asked & other.asked

    def cases(rows: Bools) -> tuple[Case, ...]:
        return tuple(case for case, found in zip(CASES, both & rows, strict=True) if found)

    return BehaviourChange(
        newly_failed=cases(other.passed & ~candidate.passed),
        mended=cases(candidate.passed & ~other.passed),
    )
