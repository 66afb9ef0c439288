"""Bench drift: the smallest real run, and bad input."""

from __future__ import annotations

from pathlib import Path

import bench_drift
import pytest
from conftest import write_reviews


@pytest.mark.slow
def test_every_shift_has_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_reviews(tmp_path / "reviews.csv", rows=1_800)
    arguments = ["--data", str(file), "--halves", "2", "--repeats", "1", "--jobs", "1"]
    assert bench_drift.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for size in bench_drift.WINDOWS:
        assert any(line.split()[:2] == [str(size), "2"] for line in lines)
    rows = [line for line in lines if line.startswith(tuple(bench_drift.SHIFTS))]
    strengths = sum(map(len, bench_drift.SHIFTS.values()))
    assert len(rows) == strengths * len(bench_drift.WINDOWS)
    # half of the reviews from another product are not to be overlooked
    strongest = [row.split() for row in rows if row.startswith("another") and " 50% " in row]
    assert [row[-9] for row in strongest] == ["100%", "100%"]
    assert lines[-1].startswith("28 checks, ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--repeats", "3", "--halves", "2"], "expected 1 <= repeats <= halves"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_drift.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench_drift: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_small_file_is_refused(small_reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_drift.main(["--data", str(small_reviews)]) == 2
    assert "400 reviews, expected at least 1,667" in capsys.readouterr().err
