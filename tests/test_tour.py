"""The notebook `docs/tour.ipynb`: its cells run, one after the other, on a store of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.drift_store import copy_of, shared_drift_store

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.xdist_group("drift")
def test_every_cell_runs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copy_of(shared_drift_store(tmp_path_factory), tmp_path / "store")
    notebook = json.loads((PROJECT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    monkeypatch.setenv("SENTIMENT_STORE", str(store.folder))
    monkeypatch.chdir(PROJECT / "docs")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(code):
        exec(compile(cell, f"cell {number}", "exec"), names)
