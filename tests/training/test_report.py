"""Training fingerprint: it changes with all that a model follows from, and with nothing else."""

from __future__ import annotations

import pytest

from sentiment.flows.retraining import published_candidate
from sentiment.model.algorithms import build_candidate, logged_parameters
from sentiment.training import report
from sentiment.training.report import training_fingerprint as fingerprint

PARAMS = {"C": 0.7431298, "max_features": 4000, "min_df": 4, "max_df": 0.8939611817674713}


def test_it_depends_on_data_parameters_cleaning_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint("digest", published_candidate())
    assert first == fingerprint("digest", published_candidate())
    assert len(first) == 16 and int(first, 16) >= 0
    found = {first, fingerprint("other", published_candidate())}
    changed = published_candidate()
    changed.model.set_params(max_iter=2000)
    found.add(fingerprint("digest", changed))
    changed = published_candidate()
    changed.vectorizer.set_params(min_df=4)
    found.add(fingerprint("digest", changed))
    for name, value in (("CODE", report.CODE[:1]), ("cleaning_fingerprint", lambda: "another")):
        monkeypatch.setattr(report, name, value)
        found.add(fingerprint("digest", published_candidate()))
    assert len(found) == 6


def test_fitting_a_candidate_does_not_change_it() -> None:
    candidate = build_candidate("LogisticRegression", {**PARAMS, "min_df": 3})
    before = fingerprint("digest", candidate)
    matrix = candidate.vectorizer.fit_transform(["good grip", "good box", "good bat", "bad bat"])
    candidate.model.fit(matrix, [1, 1, 1, 0])
    assert fingerprint("digest", candidate) == before


@pytest.mark.parametrize(
    ("algorithm", "params"),
    [
        ("LogisticRegression", PARAMS),
        ("NaiveBayes", {**PARAMS, "alpha": 0.1 + 0.2}),
        ("LinearSVM", {**PARAMS, "C": 1e-2}),
    ],
)
def test_a_candidate_rebuilt_from_what_was_logged_has_the_same(
    algorithm: str, params: dict[str, float]
) -> None:
    """MLflow keeps strings, and the retraining reads them in the wider space."""
    searched = build_candidate(algorithm, params, "published")
    logged = {name: str(value) for name, value in logged_parameters(algorithm, searched).items()}
    rebuilt = build_candidate(algorithm, logged, "guide")
    assert fingerprint("digest", rebuilt) == fingerprint("digest", searched)
