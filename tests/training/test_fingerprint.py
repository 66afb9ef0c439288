"""Training fingerprint: it changes with all that a model follows from, and with nothing else."""

from __future__ import annotations

import pytest

from sentiment.flows.retraining import published_candidate
from sentiment.model.algorithms import build_candidate, logged_parameters
from sentiment.training import fingerprint as training_fingerprint
from sentiment.training.fingerprint import training_fingerprint as fingerprint

PARAMS = {"C": 0.7431298, "max_features": 4000, "min_df": 4, "max_df": 0.8939611817674713}


def test_it_depends_on_data_parameters_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint("digest", published_candidate())
    assert first == fingerprint("digest", published_candidate())
    assert len(first) == 16 and int(first, 16) >= 0
    assert first != fingerprint("other", published_candidate())
    changed = published_candidate()
    changed.model.set_params(max_iter=2000)
    assert first != fingerprint("digest", changed)
    changed = published_candidate()
    changed.vectorizer.set_params(min_df=4)
    assert first != fingerprint("digest", changed)
    monkeypatch.setattr(training_fingerprint, "CODE", training_fingerprint.CODE[:1])
    assert first != fingerprint("digest", published_candidate())


def test_it_depends_on_the_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint("digest", published_candidate())
    monkeypatch.setattr(training_fingerprint, "cleaning_fingerprint", lambda: "another")
    assert first != fingerprint("digest", published_candidate())


def test_fitting_a_candidate_does_not_change_it() -> None:
    candidate = build_candidate("LogisticRegression", {**PARAMS, "min_df": 3})
    before = fingerprint("digest", candidate)
    texts, labels = ["good grip", "good box", "good bat", "bad bat", "bad grip", "bad box"], [1] * 3
    matrix = candidate.vectorizer.fit_transform(texts)
    candidate.model.fit(matrix, [*labels, 0, 0, 0])
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


def test_algorithms_differ_where_their_parameters_are_called_alike() -> None:
    found = {
        fingerprint("digest", build_candidate(algorithm, {**PARAMS, "alpha": 0.5}))
        for algorithm in ("LogisticRegression", "NaiveBayes", "LinearSVM")
    }
    assert len(found) == 3
