"""Reviews: what is read, what is dropped and said, and each way a file can be bad."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.data import reviews
from sentiment.data.reviews import load_reviews, remove_marker
from sentiment.errors import ReviewDataError

HEADER = "Reviewer Name,Review text,Ratings\n"


def write(folder: Path, text: str, name: str = "reviews.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def frame_of(positives: int, negatives: int) -> pd.DataFrame:
    ratings = [5] * positives + [1] * negatives
    return pd.DataFrame({"text": [f"text {i}" for i in range(len(ratings))], "rating": ratings})


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
        "copies": [1, 2, 1],
    }
    assert (loaded.rows_read, loaded.without_text, loaded.exact_duplicates) == (7, 3, 1)
    assert loaded.marker_removed == 4
    assert loaded.dropped() == (
        "7 rows read: 3 without text and 1 exact duplicates dropped, 3 left"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("goodREAD MORE", "good"),
        ("good. Read More", "good."),
        ("goodREAD MORE READ MORERead More  ", "good"),
        ("READ MORE reviews before you buy", "READ MORE reviews before you buy"),
        ("I want to read more", "I want to read more"),
        ("one READ MORE in the middleREAD MORE", "one READ MORE in the middle"),
        ("READ MORE", ""),
    ],
)
def test_only_the_trailing_marker_goes(text: str, expected: str) -> None:
    assert remove_marker(text) == expected


@given(st.text())
def test_removing_the_marker_undoes_adding_it(text: str) -> None:
    assert remove_marker(text + "READ MORE") == remove_marker(text)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "tsv.gz", "parquet", "bom"])
def test_every_format_gives_the_same_frame(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame(
        {
            "Review text": ["good, really", 'said "fine"', "très bien 👍", None],
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
    assert loaded.frame["text"].tolist() == ["good, really", 'said "fine"', "très bien 👍"]
    assert loaded.frame["rating"].tolist() == [5, 4, 3]
    assert loaded.without_text == 1


def test_words_that_pandas_takes_for_missing_are_reviews(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + "A,NA,5\nB,null,4\nC,None,1\n")
    assert load_reviews(file).frame["text"].tolist() == ["NA", "null", "None"]


def test_ratings_may_be_written_as_whole_floats_or_text(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + 'A,a,4.0\nB,b,"4"\nC,c, 5\n')
    assert load_reviews(file).frame["rating"].tolist() == [4, 4, 5]


def test_other_columns_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path, "body,stars\nfine,5\n")
    loaded = load_reviews(file, text_column="body", rating_column="stars")
    assert loaded.frame["text"].tolist() == ["fine"]


# --- bad files -----------------------------------------------------------------------------


def message(file: Path, **options: str) -> str:
    with pytest.raises(ReviewDataError) as caught:
        load_reviews(file, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_file_folder_empty_file_and_header_only(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "none.csv")
    assert "is a folder" in message(tmp_path)
    assert "is empty" in message(write(tmp_path, ""))
    assert "no rows" in message(write(tmp_path, HEADER))
    assert "no row has text" in message(write(tmp_path, HEADER + "A,,5\n"))


def test_missing_column_names_what_was_found_and_the_nearest(tmp_path: Path) -> None:
    text = message(write(tmp_path, "review_text,Ratings\nfine,5\n"))
    assert "no column 'Review text'" in text
    assert "'review_text', 'Ratings'" in text
    assert "--text-column 'review_text'" in text
    text = message(write(tmp_path, "Review text,zzz\nfine,5\n"))
    assert "no column 'Ratings'" in text and "--rating-column" in text


def test_undecodable_bytes_are_placed(tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    head = (HEADER + "A,caf").encode()
    file.write_bytes(head + b"\xe9,5\n")
    assert f"byte {len(head)} is not UTF-8" in message(file)
    packed = tmp_path / "latin.csv.gz"
    packed.write_bytes(gzip.compress(head + b"\xe9,5\n"))
    assert f"byte {len(head)} is not UTF-8" in message(packed)


@pytest.mark.parametrize("value", ["4.5", "0", "6", "five", "", "-1", "nan", "inf"])
def test_what_is_no_rating_is_counted_and_shown(tmp_path: Path, value: str) -> None:
    rows = "A,a,5\n" + f"B,b,{value}\n" * 4
    text = message(write(tmp_path, HEADER + rows))
    assert "4 values of 'Ratings'" in text
    shown = "nothing" if value == "" else f"'{value}'"
    assert f"(row 2: {shown}; row 3: {shown}; row 4: {shown})" in text


def test_a_bad_rating_on_a_row_without_text_does_not_matter(tmp_path: Path) -> None:
    assert len(load_reviews(write(tmp_path, HEADER + "A,a,5\nB,,\n")).frame) == 1


def test_torn_csv_names_the_line_where_the_record_begins(tmp_path: Path) -> None:
    two_lines = 'A,"first\nsecond",5\n'  # lines 2 and 3
    assert "line 4 is torn" in message(write(tmp_path, HEADER + two_lines + 'B,"never closed,5\n'))
    assert "line 4 is torn" in message(
        write(tmp_path, HEADER + two_lines + "B,too,5,many\nC,c,4\n")
    )


def test_a_comma_too_many_in_every_row_is_torn_not_shifted(tmp_path: Path) -> None:
    assert "line 2 is torn" in message(write(tmp_path, HEADER + "A,nice, fine,5\nB,bad, no,1\n"))


def test_damaged_gzip_and_parquet(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "A,a,5\n" * 1000).encode())
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(whole[: len(whole) // 2])
    assert "gzip stream is damaged" in message(torn)
    parquet = tmp_path / "torn.parquet"
    parquet.write_bytes(b"PAR1 and nothing of use")
    assert "not a readable Parquet file" in message(parquet)


# --- labels, split, audit ------------------------------------------------------------------


def test_ratings_one_and_two_are_negative() -> None:
    assert reviews.to_labels([1, 2, 3, 4, 5]).tolist() == [0, 0, 1, 1, 1]


def test_split_is_70_30_and_keeps_the_class_shares() -> None:
    split = reviews.split_reviews(frame_of(80, 20))
    assert (len(split.train_texts), len(split.test_texts)) == (70, 30)
    assert (split.y_train == 0).sum() == 14 and (split.y_test == 0).sum() == 6
    assert not set(split.train_texts) & set(split.test_texts)
    again = reviews.split_reviews(frame_of(80, 20))
    assert again.test_texts == split.test_texts


@pytest.mark.parametrize(
    ("positives", "negatives", "said"), [(50, 0, "0 negative"), (3, 50, "3 positive")]
)
def test_a_class_too_small_for_the_folds_is_refused(
    positives: int, negatives: int, said: str
) -> None:
    with pytest.raises(ReviewDataError, match=f"{said} reviews left, expected at least 8"):
        reviews.split_reviews(frame_of(positives, negatives))


def test_eight_of_a_class_are_enough_for_five_folds() -> None:
    for others in range(20, 60):
        split = reviews.split_reviews(frame_of(others, 8))
        assert (split.y_train == 0).sum() >= 5


def test_digest_changes_with_text_rating_and_order() -> None:
    frame = frame_of(3, 2)
    digest = reviews.data_digest(frame)
    assert digest == reviews.data_digest(frame.copy()) and len(digest) == 16
    others = [
        frame.iloc[::-1],
        frame.assign(rating=[5, 5, 4, 1, 1]),
        frame.assign(text=frame["text"] + "!"),
        frame.iloc[:-1],
    ]
    assert len({digest, *(reviews.data_digest(other) for other in others)}) == 5


def test_text_hashes_are_sorted_distinct_and_stable() -> None:
    hashes = reviews.text_hashes(["good", "bad", "good"])
    assert hashes.dtype == np.uint64 and len(hashes) == 2 and hashes[0] < hashes[1]
    # BLAKE2b-64 of b"good" read little-endian, from Python's own hashlib on the command line
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"good", digest_size=8).digest(), "little")
    assert expected in hashes.tolist()


def test_audit_counts_by_hand(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + "A,a,5\nA,a,5\nB,,3\nC,b,1\nD,c,2\nE,d,5\n")
    loaded = load_reviews(file)
    rows = np.array([0, 1]), np.array([2, 3])
    split = reviews.Split(["a", "b"], ["c", "d"], np.array([1, 0]), np.array([0, 1]), *rows)
    table = reviews.audit_reviews(loaded, split, ["x", "x"], ["x", ""])
    counts = dict(zip(table["check"], table["count"], strict=True))
    assert counts == {
        "rows without text": 1,
        "exact duplicates": 1,
        "reviews left": 4,
        "duplicates after cleaning": 2,
        "cleaned texts with both labels": 1,
        "empty after cleaning": 1,
        "holdout texts also in training": 1,
        "negative reviews": 2,
        "positive reviews": 2,
    }
    shares = dict(zip(table["check"], table["share"], strict=True))
    assert shares["rows without text"] == pytest.approx(1 / 6)
    assert shares["holdout texts also in training"] == pytest.approx(1 / 2)
