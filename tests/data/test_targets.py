"""Files that appear whole or not at all; what is written is tested with batch scoring."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.data.targets import PART, FormulaGuard, appearing_whole, without_formula


def test_a_run_clears_up_after_the_dead_and_not_after_the_living(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    dead, other = tmp_path / f".out.csv.0123{PART}", tmp_path / f".another.csv.0123{PART}"
    dead.write_text("half a file")
    other.write_text("of another target")
    with appearing_whole(target) as first:
        assert not dead.exists() and other.exists()
        with appearing_whole(target) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
        first.write(b"first")
    assert target.read_bytes() == b"first" and list(tmp_path.glob(f".*{PART}")) == [other]


# --- formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\tx", "\rx", "\n=1", "  =1"),
        *(
            "\r\n\n@x",
            "＝1",
            "＋1",
            "－x",
            "＠x",
            "﹦1",
            "﹢1",
            "﹣x",
            "﹫x",
            "\ufeff=1",
            "\u3000＝1",
            "\u200b=x",
            "\0=1",
            "\xa0-x",
        ),
        *("=", "-3=", "+", "- good", "-1e", "+49 30 1234"),
    ],
)
def test_what_a_spreadsheet_would_run_is_escaped(cell: str) -> None:
    assert without_formula(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell",
    ["", "good", "good = bad", "'=1", "3", "-3.5", "+1", "-1,234.5", "-1e-9", "-5%", "\nx", " x"],
)
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert without_formula(cell) == cell


def test_a_guard_counts_what_it_escaped() -> None:
    guard = FormulaGuard()
    assert guard(["=1", None, -1.5, "good", "@x"]) == ["'=1", None, -1.5, "good", "'@x"]
    assert guard(["x"]) == ["x"] and guard.escaped == 2
