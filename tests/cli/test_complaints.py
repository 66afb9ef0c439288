"""`complaints`: output, page, JSON, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import run_command
from support.complaint_reviews import COUNTS, write_complaints

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `complaints` in this process; returns exit code, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        return run_command(capsys, "complaints", "--store", str(tmp_path / "no store"), *arguments)

    return command


def test_table_page_and_json(run: Command, tmp_path: Path) -> None:
    data, page = str(write_complaints(tmp_path / "kettles.csv")), tmp_path / "page.html"
    code, out, err = run("--data", data, "--html", str(page))
    assert (code, err) == (0, "")
    assert "leak" in out and f" {COUNTS['leak']} " in out and "rising" in out
    assert "leak" in page.read_text("utf-8")
    code, out, _ = run("--data", data, "--json")
    themes = json.loads(out)["themes"]
    counts = sorted(theme["reviews"] for theme in themes)
    assert code == 0 and counts == sorted(COUNTS.values())
    code, out, _ = run("--data", data, "--quiet")
    assert code == 0 and out.count("\n") == 1


def test_no_dates_are_said(run: Command, tmp_path: Path) -> None:
    data = write_complaints(tmp_path / "kettles.csv", month="", stars="points")
    code, out, _ = run("--data", str(data), "--rating-column", "points")
    assert code == 0 and "no months" in out and "rising" not in out.split("no months")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "{folder}/none.csv"), "none.csv"),
        (("--data", "{data}", "--month-column", "when"), "when"),
        (("--data", "{data}", "--html", "{folder}/no/page.html"), "no such folder"),
        (("--data", "{data}", "--html", "{folder}"), "is a folder"),
        (("--data", "{data}"), "--rating-column"),  # and no version that could label
    ],
)
def test_bad_input_is_one_line(
    run: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    data = write_complaints(tmp_path / "kettles.csv", stars="")
    code, _, err = run(*(one.format(folder=tmp_path, data=data) for one in arguments))
    assert code == 2 and err.count("\n") == 1 and said in err
    assert [file.name for file in tmp_path.iterdir()] == ["kettles.csv"]
