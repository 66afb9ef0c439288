"""The README: every file, option, command and target it shows exists, and none is left out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import sentiment_mlflow_optuna

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, flags=re.DOTALL)


def parser_options(script: Path) -> set[str]:
    return set(re.findall(r'(?:add|add_argument)\(\s*"(--[a-z-]+)"', script.read_text()))


def test_it_is_short_and_says_first_that_the_data_is_synthetic() -> None:
    assert README.count("\n") < 300
    section = README.split("## The data\n")[1].strip()
    assert section.startswith("**`data.csv` is synthetic.**")


def test_every_option_of_the_experiment_is_in_its_table_with_its_default() -> None:
    table = dict(re.findall(r"^\| (`--.*?) \| (.*?) \|", README, flags=re.MULTILINE))
    shown = {flag for flags in table for flag in re.findall(r"--[a-z-]+", flags)}
    assert shown == parser_options(PROJECT / "sentiment_mlflow_optuna.py")
    defaults = sentiment_mlflow_optuna.DEFAULTS
    assert table["`--trials`"] == str(defaults["trials"])
    assert table["`--seed`"] == str(defaults["seed"])
    assert table["`--search-space`"] == f"`{defaults['search_space']}`"
    assert table["`--format`"] == f"`{defaults['file_format']}`"


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sentiment_mlflow_optuna.parse_options(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for flag in parser_options(PROJECT / "sentiment_mlflow_optuna.py"):
        assert flag in shown
    assert "(default: 20)" in shown and "(default: published)" in shown


def test_every_target_shown_is_in_the_makefile_and_help_prints_them_all() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, flags=re.MULTILINE))
    assert targets >= {"experiment", "test", "lint", "mlflow-ui", "bench", "clean", "help"}
    code = "\n".join([*BLOCKS, *re.findall(r"`([^`\n]+)`", README)])
    for shown in re.findall(r"^make ([a-z-]+)", code, flags=re.MULTILINE):
        assert shown in targets, shown
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for target in targets:
        assert f"make {target} " in done.stdout


def test_pictures_exist() -> None:
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (PROJECT / picture).stat().st_size > 10_000


def test_requirements_are_exact_explained_and_the_ones_in_the_lock() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (PROJECT / name).read_text().splitlines():
            if not line or line.startswith(("#", "-r")):
                continue
            requirement, _, reason = line.partition("#")
            assert reason.strip(), f"{line}: has no reason"
            if "==" in requirement:
                package = re.sub(r"\[\w+\]", "", requirement.strip().lower())  # without extras
                assert re.search(rf"^{re.escape(package)}\b", lock, re.MULTILINE), package
            else:
                assert re.fullmatch(r"\w+>=[\d.]+,<[\d.]+", requirement.strip()), line
