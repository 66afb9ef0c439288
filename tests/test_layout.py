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
    "calibration": set(),
    "shared_generator": set(),
    "cross_validation": {"calibration", "shared_generator", "term_counts"},
    "tracking": set(),
    "candidate_models": {"text_cleaning"},
    "figures": {"evaluation"},
    "optuna_search": {"tracking"},
    "model_artifact": {"tracking"},
    "model_card": {"tracking"},
    "registry_ledger": {"tracking"},
    "promotion_gate": {"evaluation", "reviews"},
    "registry_tables": {"promotion_gate", "registry_ledger", "terminal", "tracking"},
    "explanation": {"calibration", "text_cleaning"},
    "drift_features": {"explanation", "reviews", "text_cleaning"},
    "drift_domain": {"drift_features"},
    "drift_tally": {"drift_features"},
    "drift_signals": {"drift_features", "drift_tally", "evaluation"},
    "drift_limits": {"drift_domain", "drift_features", "drift_signals", "drift_tally"},
    "drift_profile": {
        "drift_domain",
        "drift_features",
        "drift_limits",
        "drift_tally",
        "text_cleaning",
    },
    "training_profile": {"drift_features", "drift_profile", "reviews", "tracking"},
    "model_report": {
        "calibration",
        "candidate_models",
        "cross_validation",
        "evaluation",
        "figures",
        "model_artifact",
        "model_card",
        "reviews",
        "text_cleaning",
        "tracking",
        "training_profile",
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
    "training_fingerprint": {"candidate_models", "text_cleaning", "tracking"},
    "experiment_search": {
        "candidate_models",
        "cross_validation",
        "evaluation",
        "experiment_pass",
        "model_report",
        "optuna_search",
        "terminal",
        "tracking",
        "training_fingerprint",
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
    "log_tables": set(),
    "prediction_log": {"log_tables"},
    "drift_log": {"log_tables", "prediction_log"},
    "labelled_feedback": {"drift_log", "log_tables", "reviews", "tracking"},
    "retraining": {
        "candidate_models",
        "experiment_pass",
        "experiment_search",
        "labelled_feedback",
        "model_report",
        "promotion_gate",
        "text_cleaning",
        "tracking",
        "training_fingerprint",
        "version_lifecycle",
    },
    "retraining_report": {"labelled_feedback", "model_report", "retraining", "tracking"},
    "alerts": set(),
    "prefect_server": {"tracking"},
    "flow_deployments": set(),
    "flow_service": {"flow_deployments", "prefect_server", "reviews", "tracking"},
    "inference": {
        "calibration",
        "explanation",
        "model_artifact",
        "registry_ledger",
        "reviews",
        "text_cleaning",
        "tracking",
    },
    "drift_performance": {"evaluation"},
    "drift_report": {"drift_performance", "drift_signals"},
    "drift_outcome": {
        "drift_features",
        "drift_performance",
        "drift_profile",
        "drift_report",
        "drift_signals",
        "drift_tally",
        "evaluation",
    },
    "review_rows": set(),
    "whole_file": set(),
    "batch_files": {"review_rows", "whole_file"},
    "drift_window": {
        "batch_files",
        "drift_features",
        "drift_log",
        "inference",
        "prediction_log",
        "reviews",
    },
    "flow_tasks": {
        "labelled_feedback",
        "model_report",
        "prediction_log",
        "registry_ledger",
        "retraining",
        "reviews",
        "text_cleaning",
        "tracking",
        "version_scoring",
    },
    "drift_check": {
        "drift_domain",
        "drift_features",
        "drift_limits",
        "drift_performance",
        "drift_profile",
        "drift_report",
        "drift_signals",
        "drift_tally",
        "evaluation",
    },
    "drift_figures": {"drift_outcome", "drift_report", "drift_signals", "evaluation", "figures"},
    "drift_page": {"drift_outcome", "drift_report", "drift_signals", "evaluation", "tracking"},
    "drift_run": {
        "drift_figures",
        "drift_outcome",
        "drift_page",
        "drift_report",
        "tracking",
        "whole_file",
    },
    "window_check": {
        "drift_check",
        "drift_outcome",
        "drift_profile",
        "drift_report",
        "drift_run",
        "drift_window",
        "inference",
        "tracking",
        "training_profile",
    },
    "drift_flow": {
        "alerts",
        "drift_log",
        "drift_outcome",
        "drift_profile",
        "drift_report",
        "drift_run",
        "drift_window",
        "flow_tasks",
        "inference",
        "retraining_report",
        "tracking",
        "window_check",
    },
    "ml_orchestration_flipkart": {
        "alerts",
        "drift_flow",
        "evaluation",
        "flow_deployments",
        "flow_service",
        "flow_tasks",
        "labelled_feedback",
        "model_report",
        "prefect_server",
        "retraining",
        "retraining_report",
        "reviews",
        "tracking",
    },
    "ab_statistics": {"evaluation"},
    "ab_test": {"ab_statistics", "evaluation"},
    "version_watcher": {"inference", "tracking"},
    "running_comparison": {"ab_test", "prediction_log", "version_watcher"},
    "ab_page": {"ab_statistics", "ab_test", "evaluation", "reviews", "running_comparison"},
    "log_writer": {"prediction_log"},
    "answering": {"ab_test", "inference", "log_writer", "prediction_log", "version_watcher"},
    "batch_scoring": {"batch_files", "inference", "reviews", "terminal", "tracking"},
    "serving_metrics": {"answering", "log_writer", "version_watcher"},
    "gunicorn_server": {"serving_metrics"},
    "web_requests": {"reviews"},
    "openapi_schemas": {"reviews", "web_requests"},
    "openapi_document": {"openapi_schemas", "web_requests"},
    "review_markup": {"explanation", "text_cleaning"},
    "serving_config": {"prediction_log", "tracking", "web_requests"},
    "web_api": {
        "ab_test",
        "answering",
        "inference",
        "openapi_document",
        "reviews",
        "running_comparison",
        "serving_metrics",
        "web_requests",
    },
    "web_form": {"review_rows", "web_requests"},
    "web_page": {
        "ab_page",
        "answering",
        "inference",
        "review_markup",
        "reviews",
        "running_comparison",
        "web_form",
        "web_requests",
    },
    "web_app": {
        "answering",
        "log_writer",
        "prediction_log",
        "running_comparison",
        "serving_config",
        "serving_metrics",
        "version_watcher",
        "web_api",
        "web_page",
        "web_requests",
    },
    "serving_start": {"inference", "serving_config"},
    "serve_sentiment": {
        "batch_files",
        "batch_scoring",
        "gunicorn_server",
        "inference",
        "prediction_log",
        "serving_config",
        "serving_start",
        "terminal",
        "tracking",
        "web_app",
        "web_requests",
    },
    "drift_replay": {
        "drift_check",
        "drift_features",
        "drift_figures",
        "drift_log",
        "drift_profile",
        "drift_report",
        "drift_run",
        "drift_window",
        "evaluation",
        "model_report",
        "retraining",
        "reviews",
        "tracking",
        "training_profile",
    },
    "drift_tables": {"drift_outcome", "drift_replay", "drift_report", "drift_signals", "terminal"},
    "drift_monitor": {
        "batch_files",
        "drift_check",
        "drift_log",
        "drift_page",
        "drift_profile",
        "drift_replay",
        "drift_run",
        "drift_tables",
        "drift_window",
        "inference",
        "prediction_log",
        "reviews",
        "terminal",
        "tracking",
        "window_check",
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


@pytest.mark.slow
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
