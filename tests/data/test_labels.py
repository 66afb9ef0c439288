"""Labels: each way a rating or a label is written, what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sentiment.data.labels import (
    GUIDES,
    NO_RATING,
    WRONG_RATING,
    LabelCells,
    Labelling,
    LabelRule,
)
from sentiment.data.reviews import data_digest, load_reviews
from sentiment.errors import ReviewDataError

NEUTRAL_OUT = Labelling(drop_neutral=True)


def loaded(folder: Path, cells: list[Any], labelling: Labelling, column: str = "rating") -> Any:
    texts = [f"text {'q' * at}" for at in range(1, len(cells) + 1)]
    pd.DataFrame({"review": texts, column: cells}).to_csv(folder / "in.csv", index=False)
    return load_reviews(folder / "in.csv", labelling=labelling)


def refusal(folder: Path, cells: list[Any], labelling: Labelling, column: str = "rating") -> str:
    with pytest.raises(ReviewDataError) as caught:
        loaded(folder, cells, labelling, column)
    said = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in said and len(said) <= 300
    return said


@pytest.mark.parametrize(
    ("written", "scale", "stars"),
    [
        *((text, None, 4) for text in (4, 4.0, "4", " 4.0 ", "4,0", "4 stars", "4★", "4/5")),
        *(
            (text, None, 4)
            for text in ("4.0 out of 5 stars", "4 of 5", "4 / 5", "★★★★☆", "⭐⭐⭐⭐")
        ),
        *((text, None, 4) for text in ("8/10", "80/100", "★★★½☆", "⭐️ ⭐️ ⭐️ ⭐️", "⭐⭐⭐⭐")),
        ("1 star", None, 1),
        # halves count upwards
        *(("4.5", None, 5), (2.5, None, 3), ("0.5", None, 1), ("2,5", None, 3)),
        # by ten: as of 1 to 5, halves upwards
        *((number, 10, (number + 1) // 2) for number in range(1, 11)),
        *((0, 10, 1), ("8.5", 10, 4), ("4/5", 10, 4), ("★☆☆☆☆", 10, 1)),
        *((0, 100, 1), (9, 100, 1), (29, 100, 1), (30, 100, 2), (49, 100, 2), (50, 100, 3)),
        *((89, 100, 4), (90, 100, 5), (100, 100, 5)),
        *((nothing, None, NO_RATING) for nothing in (None, "", "  ", float("nan"))),
        *((wrong, None, WRONG_RATING) for wrong in (0, 6, "-1", "4.3", "5.5", "inf", "good")),
        *((wrong, None, WRONG_RATING) for wrong in ("6/5", "3/7", "0/5", "☆☆☆☆☆", "★★★★★★", "★☆")),
        *((wrong, None, WRONG_RATING) for wrong in ("9" * 5_000, True, "4 stars!", "1e0")),
        *((11, 10, WRONG_RATING), (-1, 10, WRONG_RATING), (101, 100, WRONG_RATING)),
    ],
)
def test_ratings_by_hand(written: Any, scale: int | None, stars: int) -> None:
    assert LabelCells(Labelling(scale=scale)).stars([written]) == [stars]


@pytest.mark.parametrize(
    ("labelling", "labels", "said"),
    [
        (Labelling(), [0, 0, 1, 1, 1], "1–2 negative, 3–5 positive"),
        (Labelling(negative_up_to=1), [0, 1, 1, 1, 1], "1 negative, 2–5 positive"),
        (Labelling(negative_up_to=3), [0, 0, 0, 1, 1], "1–3 negative, 4–5 positive"),
        (Labelling(negative_up_to=4), [0, 0, 0, 0, 1], "1–4 negative, 5 positive"),
        (NEUTRAL_OUT, [0, 0, None, 1, 1], "1–2 negative, 4–5 positive"),
    ],
)
def test_what_counts_as_negative_and_its_tag(
    tmp_path: Path, labelling: Labelling, labels: list[int | None], said: str
) -> None:
    rule = labelling.rule
    assert [rule.label_of(stars) for stars in (1, 2, 3, 4, 5)] == labels
    assert str(rule) == said and LabelRule.of_tags({"label_rule": said}) == rule
    found = loaded(tmp_path, [1, 2, 3, 4, 5], labelling)
    assert found.frame["label"].tolist() == [label for label in labels if label is not None]
    assert found.rule == rule and found.left_out == labels.count(None)
    assert ("1 of 3 stars" in found.dropped()) == (None in labels)


def test_a_version_without_the_tag_was_trained_by_the_guides_rule() -> None:
    assert LabelRule.of_tags({}) == LabelRule.of_tags({"label_rule": "torn"}) == GUIDES


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        (("negative", "positive"), {}),
        ((" Neg ", "POS"), {}),
        ((0, 1), {}),
        ((0.0, 1.0), {}),
        ((-1, 1), {}),
        ((False, True), {}),
        (("1", "2"), {"negative": "1", "positive": "2"}),
        (("bad", "Very good"), {"negative": "bad, awful", "positive": "very good"}),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_instead_of_ratings(
    tmp_path: Path, pair: tuple[Any, Any], named: dict[str, str], kind: str
) -> None:
    table = pd.DataFrame({"review": ["q", "qq", "qqq"], "mood": [pair[0], pair[1], pair[0]]})
    file = tmp_path / f"in.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    labelling = Labelling(label_column="mood", **named)  # type: ignore[arg-type]
    found = load_reviews(file, labelling=labelling)
    assert found.frame["label"].tolist() == [0, 1, 0]
    assert found.frame["rating"].tolist() == [1, 5, 1]
    assert LabelRule.of_tags({"label_rule": str(found.rule)}) == found.rule != GUIDES


def test_other_labels_are_dropped_counted_and_named(tmp_path: Path) -> None:
    labelling = Labelling(label_column="mood")
    cells = ["pos", "neutral", "neg", "", "neutral", "mixed"]
    found = loaded(tmp_path, cells, labelling, "mood")
    assert (found.left_out, found.without_rating, len(found.frame)) == (3, 1, 2)
    assert "1 without a label, 3 of other labels ('mixed', 'neutral')" in found.dropped()
    many = [f"said {'x' * number}" for number in range(9)]  # which may be what customers wrote
    assert (
        "9 of other labels and"
        in loaded(tmp_path, [*cells[:3:2], *many], labelling, "mood").dropped()
    )


def test_labels_that_may_mean_two_things_are_asked_about(tmp_path: Path) -> None:
    mood = Labelling(label_column="mood")
    said = refusal(tmp_path, [-1, 0, 1], mood, "mood")
    assert "-1 and 0 would both be negative" in said and "--negative=-1" in said
    found = loaded(tmp_path, [-1, 0, 1], Labelling(label_column="mood", negative="-1"), "mood")
    assert found.frame["label"].tolist() == [0, 1] and found.left_out == 1
    both = Labelling(label_column="mood", negative="-1,0")
    assert loaded(tmp_path, [-1, 0, 1], both, "mood").frame["label"].tolist() == [0, 0, 1]
    said = refusal(tmp_path, ["1", "2", "2"], mood, "mood")
    assert "no row is labelled negative" in said and "other labels ('2')" in said


def test_a_scale_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    assert "ratings go up to 10, expected 1 to 5; say their scale with --scale 10" in refusal(
        tmp_path, [8, 2, 10, 4], Labelling()
    )
    assert "with --scale 100" in refusal(tmp_path, [80, 2, 10, 4], Labelling(scale=10))
    assert loaded(tmp_path, [8, 2, 10, 4], Labelling(scale=10)).frame["rating"].tolist() == [
        *(4, 1, 5, 2)
    ]
    # one in twenty is a slip of the pen, no scale
    said = refusal(tmp_path, [*range(1, 6)] * 4 + [55], Labelling())
    assert "1 ratings are not stars from 1 to 5, whole or half (line 22: '55')" in said


@pytest.mark.parametrize(
    "given",
    [
        {"positive": "good"},
        {"label_column": "mood", "scale": 10},
        {"label_column": "mood", "negative_up_to": 3},
        {"label_column": "mood", "drop_neutral": True},
        {"label_column": "mood", "positive": "good", "negative": "Good"},
        {"label_column": "mood", "positive": "a|b"},
        {"label_column": "mood", "positive": "x" * 300},
        {"label_column": "mood", "positive": "0,-1,false,neg,negative"},
        {"scale": 7},
        {"negative_up_to": 5},
        {"negative_up_to": 3, "drop_neutral": True},
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ReviewDataError):
        Labelling(**given)


def test_a_label_column_and_a_rating_column_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("review,rating,mood\nq,5,pos\n")
    with pytest.raises(ReviewDataError, match="give one of them"):
        load_reviews(tmp_path / "in.csv", None, "rating", labelling=Labelling(label_column="mood"))


def test_a_version_s_rule_is_followed_where_nothing_else_is_said() -> None:
    three, named = LabelRule(3), Labelling("mood", "good", "bad").rule
    assert Labelling().following(three).rule == three
    assert Labelling(scale=10).following(NEUTRAL_OUT.rule).rule == NEUTRAL_OUT.rule
    assert Labelling(negative_up_to=2).following(three).rule == GUIDES
    assert Labelling("mood").following(named).rule == named
    assert Labelling("mood", "1", "0").following(named).rule == Labelling("mood", "1", "0").rule
    some = Labelling("mood", negative="-1").rule
    assert Labelling("mood").following(some).rule == some
    assert Labelling().following(named).rule == GUIDES  # stars have no names
    assert Labelling("mood").following(three).rule == Labelling("mood").rule


def test_the_digest_is_of_the_labels_too(tmp_path: Path) -> None:
    cells = [1, 2, 3, 4, 5]
    digests = [
        data_digest(loaded(tmp_path, cells, labelling).frame)
        for labelling in (Labelling(), Labelling(negative_up_to=3), NEUTRAL_OUT)
    ]
    assert len(set(digests)) == 3
