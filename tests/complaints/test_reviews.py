"""Reviews of files and of the log: what is negative, when it was written, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.prediction_logs import ROW

from sentiment.complaints.reviews import (
    NO_MONTH,
    NO_STARS,
    Reviews,
    month_of,
    reviews_of_file,
    reviews_of_log,
)
from sentiment.data.labels import Labelling
from sentiment.drift.window import FileWindow
from sentiment.errors import ReviewDataError, WindowError
from sentiment.predictions.log import open_log

JANUARY_2021 = 12 * 2021


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Jan 2021", JANUARY_2021),
        ("2021-01-31", JANUARY_2021),
        ("1609459200", JANUARY_2021),  # 2021-01-01 00:00 UTC
        ("1609459199", JANUARY_2021 - 1),
        (1609459200000, JANUARY_2021),  # thousandths
        (datetime(2021, 1, 5), JANUARY_2021),
        ("", NO_MONTH),
        (None, NO_MONTH),
        ("12", NO_MONTH),
        ("soon", NO_MONTH),
        ([2021, 1], NO_MONTH),  # of Parquet: a list, a struct
        ({"year": 2021}, NO_MONTH),
    ],
)
def test_months(written: Any, expected: int) -> None:
    assert month_of(written) == expected


def read(folder: Path, text: str, **options: Any) -> Reviews:
    file = folder / "reviews.csv"
    file.write_text(text, encoding="utf-8")
    wanted = {name: options.pop(name) for name in ("labelling",) if name in options}
    return reviews_of_file(FileWindow(file, **wanted), **options)


def test_stars_months_and_what_is_left_out(tmp_path: Path) -> None:
    rows = "broke,1,2021-01-02\nbroke,1,2021-01-09\nbroke,1,2021-02-01\nfine,3,\n,5,2021-01-01\n"
    found = read(tmp_path, f"text,stars,date\n{rows}odd,,2021-01-01\n")
    assert found.texts == ["broke", "broke", "fine"]  # once a month
    assert found.negative.tolist() == [True, True, False]
    assert found.stars.tolist() == [1, 1, 3]
    assert found.months.tolist() == [JANUARY_2021, JANUARY_2021 + 1, NO_MONTH]
    assert found.positive.tolist() == [False, False, False]  # 3 stars are no praise
    notes = "; ".join(found.notes)
    for said in ("months from 'date'", "1 rows that repeat", "1 rows without a readable text"):
        assert said in notes
    assert "1 reviews have no month" in notes and "1 rows without a rating" in notes


def test_nested_dates_of_parquet_are_no_months(tmp_path: Path) -> None:
    file = tmp_path / "reviews.parquet"
    dates = [[2021, 1], [2021, 2]]
    pd.DataFrame({"text": ["broke", "works"], "stars": [1, 5], "date": dates}).to_parquet(file)
    assert not reviews_of_file(FileWindow(file)).dated


def test_labels_instead_of_stars(tmp_path: Path) -> None:
    labelling = Labelling(label_column="verdict", positive="fine", negative="poor")
    found = read(tmp_path, "text,verdict\nbroke,poor\nworks,fine\n", labelling=labelling)
    assert found.negative.tolist() == [True, False]
    assert found.stars.tolist() == [NO_STARS] * 2 and not found.dated


def test_a_model_decides_where_there_are_no_ratings(tmp_path: Path) -> None:
    asked = []

    def judge() -> tuple[str, Any]:
        def labels(texts: list[str]) -> Sequence[int | None]:
            asked.append(texts)
            return [0, 1, None]

        return "labelled by version 7", labels

    found = read(tmp_path, "text\nbroke\nworks\nzzz\n", judge=judge)
    assert asked == [["broke", "works", "zzz"]]
    assert found.negative.tolist() == [True, False, False] and "version 7" in found.judged
    assert read(tmp_path, "text,stars\nbroke,1\n", judge=judge).judged.startswith("stars")


def test_parts_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,stars\nbroke,1\n")
    (tmp_path / "b.csv").write_text("text,stars\nworks,5\n")
    found = reviews_of_file(FileWindow(tmp_path))
    assert found.texts == ["broke", "works"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text,stars\n", "no reviews"),
        ("text,stars\n,3\n", "no reviews"),
        ("text,other\nbroke,1\n", "ratings"),
        ("words,stars\nbroke,1\n", "reviews"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((ReviewDataError, WindowError)) as raised:
        read(tmp_path, text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReviewDataError, match="when"):
        read(tmp_path, "text,stars\nbroke,1\n", month_column="when")


def test_the_log_gives_the_newest_answers_of_a_version(tmp_path: Path) -> None:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    texts = ["oldest", "praise", "turned", None, "brokeREAD MORE", "uploaded", "of a shadow", "zzz"]
    rows = [
        replace(ROW, request_id=str(at), at=1_609_459_200.0 + at, text=text, label=int(at == 1))
        for at, text in enumerate(texts)
    ]
    rows[5], rows[6] = replace(rows[5], source="page"), replace(rows[6], arm="shadow")
    rows[7] = replace(rows[7], label=None)  # no known word
    log.write([*rows, replace(rows[4], request_id="x", version="2", text="of another")])
    log.add_feedback("2", 0, label=1, rating=None, at=1_609_459_300.0)
    found = reviews_of_log(log, "3", newest=5)
    log.close()
    assert found.texts == ["praise", "turned", "broke", "zzz"]
    assert found.negative.tolist() == [False, False, True, False]
    assert set(found.months.tolist()) == {JANUARY_2021}
    assert "1 whose text was not logged" in "; ".join(found.notes)
