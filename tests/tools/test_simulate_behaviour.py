"""Simulated behaviour tests: the smallest real run, and bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import simulate_behaviour
from conftest import write_reviews


def test_the_smallest_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """These made-up reviews have few of the cases' words, so nothing applies or is refused."""
    file = write_reviews(tmp_path / "reviews.csv")
    assert simulate_behaviour.main(["--data", str(file), "--models", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[-3:] for row in rows] == [["0.0", "0.0", "0.0%"]] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--models", "1"], "--models must be 2 or more"),
        (["--seed", "-1"], "--seed 0 or more"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate_behaviour.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("simulate_behaviour: ") and said in error and error.count("\n") == 1
