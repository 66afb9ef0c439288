"""Simulated retrainings: the answers are as good as they should be; the smallest real run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import simulate_gate
from conftest import write_reviews
from simulate_gate import ERRORS, run_chain, thresholds, true_f1


def worse(_: int, production: float) -> float:
    return production - 0.003


def test_the_true_score_by_hand() -> None:
    # of 100 reviews 18 negative, a quarter of them missed, and 82 positive, .075 of them missed:
    # F1 of negative 2 · 13.5 / (2 · 13.5 + 4.5 + 6.15), of positive 2 · 75.85 / (151.7 + 10.65)
    assert true_f1(1.0) == pytest.approx((27 / 37.65 + 151.7 / 162.35) / 2)
    rates = [NormalDist().cdf(value) for value in thresholds(0.8)]
    assert rates[0] / rates[1] == pytest.approx(ERRORS[0] / ERRORS[1])
    assert true_f1(rates[0] / ERRORS[0]) == pytest.approx(0.8, abs=1e-4)


def test_production_follows_what_is_true() -> None:
    rng = np.random.default_rng(1)
    bad = run_chain(lambda *_: 0.7, 4_000, rng, steps=4)
    assert (bad.promoted, bad.lost) == (0, 0.0)
    good = run_chain(lambda number, _: 0.82 + 0.03 * number, 4_000, rng, steps=4)
    assert good.promoted == 4 and good.lost == pytest.approx(-0.12) and good.gained
    assert 0.02 < good.disagree < 0.06


def test_the_floor_ends_a_chain_of_small_steps_down() -> None:
    """With 10,000 reviews most steps of .003 pass the gate, where only production counts."""
    lost = [
        run_chain(worse, 10_000, np.random.default_rng(seed), floor=floor).lost
        for floor in (True, False)
        for seed in (1, 2)
    ]
    assert max(lost[:2]) < 0.015 < min(lost[2:])


def test_the_smallest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_gate, "run_chain", partial(run_chain, steps=2))
    file = write_reviews(tmp_path / "reviews.csv", rows=600)
    assert simulate_gate.main(["--data", str(file), "--pairs", "3", "--chains", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:16].strip(): line[16:].split() for line in lines if line[16:].strip()}
    assert rows["the same file"][1] == rows["reordered"][1] == "0.0%"  # whatever the order
    assert rows["the same file"][0] == rows["reordered"][0]
    assert {len(rows[name]) for name in ("the same file", "reordered", "0.1% new")} == {7}
    assert sum("below" in line or "as good as the first" in line for line in lines) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--pairs", "0"], "--pairs and --chains must be 1 or more"),
        (["--seed", "-1"], "--seed 0 or more"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate_gate.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("simulate_gate: ") and said in error and error.count("\n") == 1
