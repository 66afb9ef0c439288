"""The layout: who may import whom, the length of a file, and what importing does (nothing)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

# The rooms, lowest first: what each may import of ours. A new arrow is a decision: add it here.
ROOMS: dict[str, set[str]] = {
    "text_cleaning": set(),
    "reviews": set(),
    "evaluation": set(),
    "terminal": set(),
    "term_counts": set(),
    "cross_validation": {"term_counts"},
    "tracking": set(),
    "candidate_models": {"text_cleaning"},
    "figures": {"evaluation"},
    "optuna_search": {"tracking"},
    "model_artifact": {"text_cleaning", "tracking"},
    "model_card": {"tracking"},
    "registry_ledger": {"tracking"},
    "promotion_gate": {"evaluation", "reviews"},
    "registry_tables": {"promotion_gate", "registry_ledger", "terminal", "tracking"},
    "model_report": {
        "candidate_models",
        "evaluation",
        "figures",
        "model_artifact",
        "model_card",
        "reviews",
        "text_cleaning",
        "tracking",
    },
    "version_scoring": {
        "evaluation",
        "model_artifact",
        "model_report",
        "promotion_gate",
        "reviews",
        "text_cleaning",
        "tracking",
    },
    "version_lifecycle": {
        "promotion_gate",
        "registry_ledger",
        "reviews",
        "tracking",
        "version_scoring",
    },
    "model_registry": {
        "promotion_gate",
        "registry_ledger",
        "registry_tables",
        "reviews",
        "terminal",
        "tracking",
        "version_lifecycle",
        "version_scoring",
    },
    "experiment_pass": {"candidate_models", "tracking"},
    "experiment_search": {
        "candidate_models",
        "cross_validation",
        "evaluation",
        "experiment_pass",
        "model_report",
        "optuna_search",
        "terminal",
        "tracking",
        "version_lifecycle",
    },
    "sentiment_mlflow_optuna": {
        "candidate_models",
        "cross_validation",
        "experiment_pass",
        "experiment_search",
        "model_artifact",
        "model_registry",
        "model_report",
        "optuna_search",
        "registry_ledger",
        "registry_tables",
        "reviews",
        "terminal",
        "text_cleaning",
        "tracking",
        "version_lifecycle",
    },
    "retraining": {
        "candidate_models",
        "experiment_pass",
        "experiment_search",
        "model_report",
        "promotion_gate",
        "text_cleaning",
        "tracking",
        "version_lifecycle",
    },
    "retraining_report": {"model_report", "retraining", "tracking"},
    "alerts": set(),
    "prefect_server": {"tracking"},
    "flow_service": {"prefect_server", "reviews", "tracking"},
    "ml_orchestration_flipkart": {
        "alerts",
        "evaluation",
        "flow_service",
        "model_report",
        "prefect_server",
        "registry_ledger",
        "retraining",
        "retraining_report",
        "reviews",
        "text_cleaning",
        "tracking",
        "version_scoring",
    },
}
LINES = 320  # "about 300"


def own_imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names & set(ROOMS)


def test_every_module_has_its_room() -> None:
    assert {file.stem for file in PROJECT.glob("*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_are_the_ones_of_the_table(room: str) -> None:
    assert own_imports(PROJECT / f"{room}.py") == ROOMS[room]


def test_imports_run_one_way() -> None:
    order = list(ROOMS)
    for room, imported in ROOMS.items():
        assert all(order.index(name) < order.index(room) for name in imported), room


def test_only_a_script_knows_the_tools_and_no_module_the_tests() -> None:
    others = {
        file.stem for folder in ("tools", "tests") for file in (PROJECT / folder).glob("*.py")
    }
    for file in PROJECT.glob("*.py"):
        tree = ast.parse(file.read_text())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & others, file.name


def test_files_stay_short_and_say_their_purpose_first() -> None:
    for file in [*PROJECT.glob("*.py"), *(PROJECT / "tools").glob("*.py")]:
        text = file.read_text()
        assert text.count("\n") <= LINES, f"{file.name} has {text.count(chr(10))} lines"
        first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[:1]
        assert first and first[0].endswith((".", ":")), file.name


def test_importing_does_nothing(tmp_path: Path) -> None:
    """No file, no folder, no output, no MLflow: a store is opened by whoever asks for it."""
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        f"for name in {list(ROOMS)!r}: __import__(name)\n"
        "assert 'mlflow' not in sys.modules, 'importing a module imports mlflow'\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_a_repository_names_no_place_of_one_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    # put together here so that this file does not find itself
    forbidden = ["/" + "work/", "/" + "root/", "py" + "pi.org", "python" + "hosted"]
    for name in tracked.stdout.splitlines():
        file = PROJECT / name
        if file.suffix in {".py", ".md", ".txt", ".toml", ".lock", ""} and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            assert not [word for word in forbidden if word in text], name
