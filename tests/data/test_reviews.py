"""Reviews: what is read, what is dropped and said, and each way a file can be bad."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from sentiment.data import reviews
from sentiment.data.labels import GUIDES
from sentiment.data.reviews import data_digest, load_reviews
from sentiment.errors import ReviewDataError
from text_cleaning import undo_scraping

HEADER = "Reviewer Name,Review text,Ratings\n"


def write(folder: Path, text: str, name: str = "reviews.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def frame_of(positives: int, negatives: int) -> pd.DataFrame:
    """Reviews of one word, of letters that no stemming makes alike."""
    ratings = [5] * positives + [1] * negatives
    words = [
        "q" + "".join("bcdfghjklm"[int(digit)] for digit in str(i)) for i in range(len(ratings))
    ]
    return pd.DataFrame(
        {"text": words, "rating": ratings, "label": reviews.to_labels(ratings, GUIDES)}
    )


# --- reading -------------------------------------------------------------------------------


def test_rows_are_checked_cleaned_of_the_marker_and_counted(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        HEADER
        + 'A,"Fine, really",4\n'  # no marker
        + "B,goodREAD MORE,5\n"
        + "C,good READ MORE ,5\n"  # the same review once the marker is gone
        + "D,goodREAD MORE,4\n"  # same text, other rating: kept
        + "E,,3\n"
        + "F,READ MORE,2\n"  # nothing but the marker
        + "G,   ,1\n",
    )
    loaded = load_reviews(file)
    assert loaded.frame.to_dict("list") == {
        "text": ["Fine, really", "good", "good"],
        "rating": [4, 5, 4],
        "label": [1, 1, 1],
        "copies": [1, 2, 1],
    }
    assert (loaded.rows_read, loaded.without_text, loaded.exact_duplicates) == (7, 3, 1)
    assert loaded.marker_removed == 4
    assert loaded.dropped() == (
        "7 rows read (texts from 'Review text', ratings from 'Ratings'): "
        "3 without text and 1 exact duplicates dropped, 3 left"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("good. Read More", "good."),
        ("goodREAD MORE READ MORERead More  ", "good"),
        ("READ MORE reviews before you buy", "READ MORE reviews before you buy"),
        ("I want to read more", "I want to read more"),
        ("READ MORE", ""),
    ],
)
def test_only_the_trailing_marker_goes(text: str, expected: str) -> None:
    assert undo_scraping(text) == expected


@pytest.mark.parametrize("kind", ["csv.gz", "tsv", "parquet", "bom"])
def test_every_format_gives_the_same_frame(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame(
        {
            "Review text": ["NA", 'said, "fine"', "très bien 👍", None],
            "Ratings": [5, 4, 3, 1],
        }
    )
    file = tmp_path / f"reviews.{'csv' if kind == 'bom' else kind}"
    if kind == "parquet":
        table.to_parquet(file)
    else:
        separator = "\t" if kind.startswith("tsv") else ","
        encoding = "utf-8-sig" if kind == "bom" else "utf-8"
        table.to_csv(file, sep=separator, index=False, encoding=encoding)
    loaded = load_reviews(file)
    # a word that pandas takes for missing is a review
    assert loaded.frame["text"].tolist() == ["NA", 'said, "fine"', "très bien 👍"]
    assert loaded.frame["rating"].tolist() == [5, 4, 3] and loaded.without_text == 1


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("id,review,rating", {}),
        ("id,body,stars", {}),
        ("review,what,mark", {"text_column": "What", "rating_column": "mark"}),
    ],
)
def test_columns_are_found_by_their_usual_names_or_named(
    tmp_path: Path, header: str, options: dict[str, Any]
) -> None:
    loaded = load_reviews(write(tmp_path, f"{header}\n1,fine,5\n"), **options)
    assert loaded.frame[["text", "rating"]].to_numpy().tolist() == [["fine", 5]]


def test_rows_that_cannot_be_used_are_dropped_counted_and_named(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        HEADER
        + 'A,"first\nsecond",5\n'  # lines 2 and 3
        + 'B,"never closed,5\n'
        + "C,too,many,5\n"
        + "D,d,\n"
        + 'E,"e, really",1\n'
        + "F,,\n"
        + "G,g,6,\n",  # its rating does not matter
    )
    loaded = load_reviews(file)
    assert loaded.frame["text"].tolist() == ["first\nsecond", "e, really"]
    assert (loaded.rows_read, loaded.unreadable) == (7, 3)
    assert (loaded.without_text, loaded.without_rating) == (1, 1)
    said = loaded.dropped()
    assert "3 that cannot be read (line 4: a quote" in said
    assert "line 5: 4 fields, expected 3; line 9: 4 fields" in said
    assert "1 without a rating and 0 exact duplicates dropped, 2 left" in said


# --- bad files -----------------------------------------------------------------------------


def message(file: Path, **options: Any) -> str:
    with pytest.raises(ReviewDataError) as caught:
        load_reviews(file, **options)
    text = str(caught.value).replace(f"{file.parent}/", "")
    assert "\n" not in text and len(text) <= 300
    return text


def test_files_without_usable_rows(tmp_path: Path) -> None:
    assert "no such file; give one with --data" in message(tmp_path / "none.csv")
    assert "is empty" in message(write(tmp_path, ""))
    assert "no rows" in message(write(tmp_path, HEADER))
    assert "no row has a text and a rating" in message(write(tmp_path, HEADER + "A,,5\nB,b,\n"))
    text = message(write(tmp_path, "Review text,zzz\nfine,5\n"))
    assert "no column of ratings such as 'ratings'" in text and "--rating-column" in text
    # a comma too many in every row is not read as another column
    text = message(write(tmp_path, HEADER + "A,nice, fine,5\nB,bad, no,1\n"))
    assert "2 that cannot be read (line 2: 4 fields, expected 3; line 3: 4 fields" in text


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes(gzip.compress(HEADER.encode() + b"A,fine,5\nA,caf\xe9,5\n"))
    assert "line 3: byte 0xe9 is not UTF-8; name its encoding with --encoding" in message(file)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("4.3", "'4.3'"),
        ("0", "'0'"),
        ("6", "'6'"),
        ("-1", "'-1'"),
        ("inf", "no number"),
        ("so good", "no number"),  # which may be a customer's words
        ("x" * 10_000, "no number"),
        ("9" * 10_000, "no number"),
        ("\x01\U000e0001" * 5_000, "no number"),
    ],
)
def test_wrong_ratings_are_refused_and_the_first_three_shown(
    tmp_path: Path, value: str, shown: str
) -> None:
    said = message(write(tmp_path, HEADER + 'A,"a\na",5\n' + f"B,b,{value}\n" * 4 + "C,c,5\n" * 40))
    assert "4 ratings are not stars from 1 to 5, whole or half (line 4: " in said
    assert f"(line 4: {shown}; line 5: {shown}; line 6: {shown}; and 1 more)" in said


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [([5, 4, None], [5, 4]), ([5.0, 4.0, float("nan")], [5, 4]), (["5", " 4.0 ", " "], [5, 4])],
)
def test_ratings_may_be_numbers_or_text(
    tmp_path: Path, ratings: list[object], expected: list[int]
) -> None:
    pd.DataFrame({"text": list("abc"), "stars": ratings}).to_parquet(tmp_path / "in.parquet")
    loaded = load_reviews(tmp_path / "in.parquet")
    assert loaded.frame["rating"].tolist() == expected and loaded.without_rating == 1


def test_an_index_of_pandas_is_a_column_like_another(tmp_path: Path) -> None:
    frame = pd.DataFrame({"rating": [5]}, index=pd.Index(["fine"], name="review"))
    frame.to_parquet(tmp_path / "in.parquet")
    assert load_reviews(tmp_path / "in.parquet").frame["text"].tolist() == ["fine"]


# --- labels, split, audit ------------------------------------------------------------------


def test_split_is_70_30_and_keeps_the_class_shares() -> None:
    assert reviews.to_labels([1, 2, 3, 4, 5], GUIDES).tolist() == [0, 0, 1, 1, 1]
    split = reviews.split_reviews(frame_of(80, 20))
    assert (len(split.train_texts), len(split.test_texts)) == (70, 30)
    assert (split.y_train == 0).sum() == 14 and (split.y_test == 0).sum() == 6
    assert not set(split.train_texts) & set(split.test_texts)
    assert reviews.split_reviews(frame_of(80, 20)).test_texts == split.test_texts
    frame = frame_of(80, 20)
    for part, rows in ((split.train_texts, split.train_rows), (split.test_texts, split.test_rows)):
        assert frame["text"].iloc[rows].tolist() == part


def test_the_published_split_is_scikit_learns() -> None:
    frame = frame_of(80, 20)
    split = reviews.split_reviews(frame, method="published")
    train, test = train_test_split(
        frame, test_size=0.3, random_state=42, stratify=frame["rating"] > 2
    )
    assert split.train_texts == train["text"].tolist()
    assert split.test_texts == test["text"].tolist()


def test_the_order_of_rows_changes_neither_split_nor_digest() -> None:
    frame = frame_of(80, 20)
    turned = frame.iloc[::-1].reset_index(drop=True)
    split, other = reviews.split_reviews(frame), reviews.split_reviews(turned)
    assert split.test_texts == other.test_texts
    assert split.train_texts == other.train_texts  # in this order, so the folds are the same too
    assert split.y_train.tolist() == other.y_train.tolist()
    assert reviews.data_digest(frame) == reviews.data_digest(turned)


@pytest.mark.parametrize("added", [1, 50, 250])
def test_the_holdout_stays_when_rows_are_added(added: int) -> None:
    frame = frame_of(800, 200)
    new = frame_of(added - added // 5, added // 5).assign(text=lambda rows: "new " + rows["text"])
    held_out = set(reviews.split_reviews(frame).test_texts)
    grown = set(reviews.split_reviews(pd.concat([new, frame], ignore_index=True)).test_texts)
    # a boundary moves by the chance in a hash: sd √(n · 0.3 · 0.7) reviews of a class's n new ones
    assert len(held_out - grown) <= 4 * np.sqrt(0.21 * added) + 1


def test_equal_cleaned_texts_are_on_one_side() -> None:
    frame = frame_of(80, 20)
    again = pd.concat([frame, frame.assign(text=frame["text"] + "!!")], ignore_index=True)
    split = reviews.split_reviews(again)
    known = {text.rstrip("!") for text in split.train_texts}
    shared = [text for text in split.test_texts if text.rstrip("!") in known]
    assert len(shared) <= 2  # at the boundary, one a class


def test_another_seed_is_another_split() -> None:
    frame = frame_of(80, 20)
    assert reviews.split_reviews(frame, seed=1).test_texts != (
        reviews.split_reviews(frame, seed=2).test_texts
    )


def test_texts_of_another_script_are_refused_and_some_are_said(tmp_path: Path) -> None:
    frame = frame_of(80, 20)
    hindi = frame.assign(text="बढ़िया " + frame.index.astype(str))
    with pytest.raises(ReviewDataError, match="51% of these texts have no a–z word; the cleaning"):
        reviews.split_reviews(pd.concat([hindi[:51], frame[:49]], ignore_index=True))
    mixed = pd.concat([hindi[:3], frame[3:]], ignore_index=True)
    mixed.to_csv(tmp_path / "in.csv", index=False)
    loaded = load_reviews(tmp_path / "in.csv")
    assert "3.0% of these texts have no a–z word" in loaded.dropped()
    split = reviews.split_reviews(loaded.frame)
    audit = reviews.audit_reviews(loaded, split, [""] * 70, [""] * 30).set_index("check")
    removed = audit.loc["letters other than a–z, removed"]
    # by Unicode's categories: ब ढ य of each word; its other three signs are marks, not letters
    assert removed["count"] == 9 and 0 < removed["share"] < 0.1
    mixed[2:].to_csv(tmp_path / "in.csv", index=False)
    assert "a–z" not in load_reviews(tmp_path / "in.csv").dropped()


@pytest.mark.parametrize(
    ("positives", "negatives", "said"), [(50, 0, "0 negative"), (7, 50, "7 positive")]
)
def test_a_class_too_small_for_the_folds_is_refused(
    positives: int, negatives: int, said: str
) -> None:
    with pytest.raises(ReviewDataError, match=f"{said} reviews left, expected at least 8"):
        reviews.split_reviews(frame_of(positives, negatives))
    assert (reviews.split_reviews(frame_of(41, 8)).y_train == 0).sum() >= 5


def test_digest_changes_with_text_and_rating() -> None:
    frame = frame_of(3, 2)
    digest = reviews.data_digest(frame)
    assert digest == reviews.data_digest(frame.copy()) and len(digest) == 16
    others = [
        frame.assign(rating=[5, 5, 4, 1, 1]),
        frame.assign(label=[1, 1, 0, 0, 0]),
        frame.assign(text=frame["text"] + "!"),
        frame.iloc[:-1],
    ]
    assert len({digest, *(reviews.data_digest(other) for other in others)}) == 5


def test_text_hashes_are_sorted_distinct_and_stable() -> None:
    hashes = reviews.text_hashes(["good", "bad", "good"])
    assert hashes.dtype == np.uint64 and len(hashes) == 2 and hashes[0] < hashes[1]
    # by `b2sum --length 64` of the four letters
    assert int.from_bytes(bytes.fromhex("07878fd8745bb530"), "little") in hashes.tolist()


def test_audit_counts_by_hand(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + 'A,a,5\nA,a,5\nB,,3\nC,"b,\nb",1\nD,c,2\nE,d,5\nF,f,\nG,g\n')
    loaded = load_reviews(file)
    rows = np.array([0, 1]), np.array([2, 3])
    split = reviews.Split(["a", "b"], ["c", "d"], np.array([1, 0]), np.array([0, 1]), *rows)
    table = reviews.audit_reviews(loaded, split, ["x", "x"], ["x", ""])
    assert dict(zip(table["check"], table["count"], strict=True)) == {
        "rows that cannot be read": 1,
        "rows with several lines and delimiters": 1,
        "rows without text": 1,
        "rows without a rating": 1,
        "neither negative nor positive": 0,
        "exact duplicates": 1,
        "reviews left": 4,
        "duplicates after cleaning": 2,
        "cleaned texts with both labels": 1,
        "letters other than a–z, removed": 0,
        "empty after cleaning": 1,
        "holdout texts also in training": 1,
        "negative reviews": 2,
        "positive reviews": 2,
    }
    shares = dict(zip(table["check"], table["share"], strict=True))
    assert shares["rows without text"] == pytest.approx(1 / 8)
    assert shares["holdout texts also in training"] == pytest.approx(1 / 2)


def test_a_folder_of_parts_is_read_as_one_file(tmp_path: Path) -> None:
    """Each part is read by its own rules; duplicates in two parts are duplicates."""
    rows = pd.DataFrame(
        {"Review text": ["good", "bad", "fine", "good", "late"], "Ratings": [5, 1, 4, 5, 2]}
    )
    whole = tmp_path / "whole.csv"
    rows.to_csv(whole, index=False)
    folder = tmp_path / "parts"
    (folder / "day=2").mkdir(parents=True)
    rows[:2].to_csv(folder / "a.csv", sep=";", index=False)
    rows[2:4].to_parquet(folder / "b.parquet")
    rows[4:].rename(columns={"Ratings": "stars"}).to_csv(folder / "day=2" / "c.csv", index=False)
    (folder / "_SUCCESS").touch()
    one, many = load_reviews(whole), load_reviews(folder)
    assert many.frame.equals(one.frame) and data_digest(many.frame) == data_digest(one.frame)
    assert (many.rows_read, many.exact_duplicates) == (5, 1)
    (folder / "b.parquet").unlink()
    (folder / "b.csv").write_text("text,rating\ngood,5\nbad,x9\n")
    with pytest.raises(ReviewDataError, match=r"1 ratings are not .*b.csv line 3"):
        load_reviews(folder)
    (folder / "b.csv").write_text("words,rating\ngood,5\n")
    with pytest.raises(ReviewDataError, match=r"b.csv: no column of reviews"):
        load_reviews(folder)
