"""Steps, bars and tables on a terminal and in a pipe."""

from __future__ import annotations

import pytest

from sentiment.console import Terminal


def test_a_step_in_a_pipe_is_one_line_and_only_where_it_is_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for options, said in (({"lines": True}, 1), ({}, 0), ({"lines": True, "quiet": True}, 0)):
        with Terminal(**options) as terminal:
            terminal.step("reading")
        assert capsys.readouterr().out.count("\n") == said


def test_a_step_on_a_terminal_is_gone_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any output for a terminal then
    monkeypatch.setenv("TERM", "xterm")
    with Terminal() as terminal:
        terminal.step("reading [1/2]")
        terminal.say("said meanwhile")
        terminal.step("opening")
        with terminal.search("LinearSVM", 4) as progress:  # has a bar of its own
            progress.advance(0.8, 4)
        terminal.say("said at last")
    shown = capsys.readouterr().out
    assert "reading [1/2] …" in shown and "opening …" in shown and "said meanwhile" in shown
    assert "4/4" in shown and "best CV F1 0.8000" in shown
    assert shown.endswith("said at last\n")


def test_columns_and_groups_fit_80_characters(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    row = {"model": "NBLogisticRegression", "test [95 %]": "0.8249 [0.8009, 0.8475]", "n": 3}
    terminal.columns([row], right=("n",))
    terminal.groups({"Scores": [("test_f1", "0.8249 [0.8009, 0.8475]")], "Nothing": []})
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "Scores" in shown and "[0.8009, 0.8475]" in shown and "Nothing" not in shown
