"""Behaviour tests of a model: counts worked out by hand for predictors made by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from sentiment.data.labels import LabelRule
from sentiment.metrics import Floats, Labels
from sentiment.model.behaviour import (
    CASES,
    KINDS,
    TOLERANCE,
    Behaviour,
    BehaviourChange,
    behaviour_of,
    compare_behaviour,
    run_behaviour,
)
from text_cleaning import TextCleaner

BAD = re.compile(
    r"\b(bad|terrible|useless|poor|horrible|pathetic|disappoint\w+|waste|worst|broke|damaged|fake"
    r"|stopped|returning)\b"
)
NEGATION = re.compile(r"\b(not|never|\w+n't)\b")
Answer = Callable[[list[str]], tuple[Labels, Floats, float]]


def reader(
    probability: Callable[[str], float], threshold: float = 0.5, known: float = 1.0
) -> Answer:
    """Return what answers with the probability that a function gives each text."""

    def answer(texts: Sequence[str]) -> tuple[Labels, Floats, float]:
        found = np.array([probability(text) for text in texts])
        return (found >= threshold).astype(np.int64), found, known

    return answer


def understands(text: str, negation: re.Pattern[str] = NEGATION) -> float:
    """The last word on a product counts; a negation turns it, but in `do not buy`."""
    last = text.lower().rsplit(" but ", 1)[-1].replace("do not", "")
    bad, negated = BAD.search(last) is not None, negation.search(last) is not None
    return 0.1 if bad != negated else 0.9


def overlooks_negation(text: str) -> float:
    return understands(text, re.compile("(?!)"))


PERFECT = run_behaviour(reader(understands))
DEAF = run_behaviour(reader(overlooks_negation))


def test_the_table_is_of_readable_size_and_says_nothing_twice() -> None:
    assert 60 <= len(CASES) <= 150
    assert len({(case.text, case.changed) for case in CASES}) == len(CASES)
    assert {case.kind for case in CASES} == set(KINDS)
    # 2 · (7 adjectives + 10 sentences) + 6; 7 + 6 + 3 + 2 · 4 + 6 + 4; 5 + 5 + 4 + 2 · 8 + 6 · 2
    assert [PERFECT.counts()[kind][1] for kind in KINDS] == [40, 34, 42]
    assert all(len(case.text) <= 90 and str(case).startswith(f"“{case.text}”") for case in CASES)


def test_who_understands_all_fails_nothing() -> None:
    assert PERFECT.failed == []
    assert PERFECT.metrics()["behaviour_failed"] == 0
    assert set(PERFECT.table()["outcome"]) == {"passed"}


def test_who_overlooks_negations_fails_what_has_one() -> None:
    """All 6 plain sentences with one, 7 + 6 that it should lower, and 3 that it should raise."""
    assert DEAF.counts() == {"minimum": (6, 40), "direction": (16, 34), "invariance": (0, 42)}
    assert {case.capability for case in DEAF.failed} == {"negation", "negated complaint"}
    assert DEAF.sentence().startswith("22 of 116 failed: 6 of 40 minimum, 16 of 34 direction, 0 of")
    table = DEAF.table()
    assert (table["outcome"] == "failed").sum() == 22 and table["probability"].between(0, 1).all()
    change = compare_behaviour(DEAF, PERFECT)
    assert list(change.newly_failed) == DEAF.failed and change.mended == ()
    assert change.chance == 0.5**22 and change.worse
    back = compare_behaviour(PERFECT, DEAF)
    assert back.newly_failed == () and back.chance == 1 and not back.worse


def test_who_always_says_the_same_fails_what_should_differ() -> None:
    """17 complaints and 6 negations are called positive; 13 + 6 do not fall, 3 + 4 do not rise."""
    found = run_behaviour(reader(lambda _: 0.9))
    assert found.counts() == {"minimum": (23, 40), "direction": (26, 34), "invariance": (0, 42)}


@pytest.mark.parametrize(("moves", "failed"), [(TOLERANCE - 0.01, 0), (TOLERANCE + 0.01, 8)])
def test_what_says_nothing_may_move_the_probability_within_the_tolerance(
    moves: float, failed: int
) -> None:
    def marked(text: str) -> float:
        return understands(text) + (moves if text.endswith("READ MORE") else 0)

    found = run_behaviour(reader(marked))
    assert [case.capability for case in found.failed] == ["READ MORE"] * failed


def test_labels_are_those_that_are_served() -> None:
    """With a threshold above every probability, the 17 that praise are called negative."""
    found = run_behaviour(reader(understands, threshold=0.95))
    assert {case.capability for case in found.failed} == {"praise"} and len(found.failed) == 17


def test_they_do_not_apply_to_who_knows_few_of_their_words() -> None:
    foreign = run_behaviour(reader(lambda _: 0.9, known=0.39))
    assert foreign.failed == [] and "do not apply" in foreign.sentence()
    assert "39%" in foreign.sentence() and foreign.metrics() == {"behaviour_cases": 0}
    assert set(foreign.table()["outcome"]) == {"does not apply"}
    for pair in ((foreign, PERFECT), (PERFECT, foreign)):
        change = compare_behaviour(*pair)
        assert (change.newly_failed, change.mended, change.worse) == ((), (), False)


@pytest.mark.parametrize(("up_to", "asked"), [(1, 0), (2, 40), (3, 40), (4, 0)])
def test_the_minimum_needs_a_rule_by_which_plain_praise_is_positive(up_to: int, asked: int) -> None:
    found = run_behaviour(reader(overlooks_negation), LabelRule(up_to))
    assert found.counts()["minimum"][1] == asked
    assert found.counts()["direction"] == (16, 34)
    assert ("minimum does not apply" in found.sentence()) is (asked == 0)


@pytest.mark.parametrize(
    ("new", "mended", "chance", "worse"),
    [
        (0, 0, 1, False),
        (4, 0, 1 / 16, False),
        (5, 0, 1 / 32, True),
        (6, 1, 8 / 128, False),
        (7, 1, 9 / 256, True),
        (1, 7, 255 / 256, False),
    ],
)
def test_how_many_new_failures_are_more_than_chance(
    new: int, mended: int, chance: float, worse: bool
) -> None:
    change = BehaviourChange(CASES[:new], CASES[new : new + mended])
    assert change.chance == pytest.approx(chance) and change.worse is worse


def fitted(texts: Sequence[str], labels: Sequence[int]) -> Pipeline:
    steps = [("clean", TextCleaner()), ("tfidf", TfidfVectorizer()), ("m", LogisticRegression())]
    return Pipeline(steps).fit(list(texts), list(labels))


def test_a_pipeline_is_asked_as_it_answers() -> None:
    plain = [case for case in CASES if case.kind == "minimum"]
    labels = [int(case.expected == "positive") for case in plain]
    pipeline = fitted([case.text for case in plain], labels)
    found: Behaviour = behaviour_of(pipeline)
    assert found.asked.all()
    texts = [case.text for case in CASES]
    np.testing.assert_allclose(found.before, pipeline.predict_proba(texts)[:, 1])
    changed = [case.changed or case.text for case in CASES]
    np.testing.assert_allclose(found.after, pipeline.predict_proba(changed)[:, 1])
    right = pipeline.predict(texts[:40]) == labels  # the minimum comes first
    assert found.passed[:40].tolist() == right.tolist()


def test_a_model_of_another_language_is_not_failed() -> None:
    good = ["sehr gute Ware, schnell geliefert", "tolles Produkt, ich bin zufrieden"]
    bad = ["leider kaputt angekommen", "schlechte Ware, nie wieder"]
    found = behaviour_of(fitted([*good, *bad] * 5, [1, 1, 0, 0] * 5))
    assert not found.asked.any() and found.failed == []
