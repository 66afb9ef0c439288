"""The README: every file, option, command and target it shows exists, and none is left out."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from sentiment.cli.options import EXPERIMENT, parse_command, parse_experiment, parse_flow

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
DOCS = {file: file.read_text(encoding="utf-8") for file in (PROJECT / "docs").glob("*.md")}
ALL = "\n".join([README, *DOCS.values()])
BLOCKS = re.findall(r"```\w*\n(.*?)```", ALL.replace("\\\n", ""), flags=re.DOTALL)


def test_it_says_first_that_the_data_is_synthetic() -> None:
    section = README.split("## The data\n")[1].strip()
    assert section.startswith("**`data.csv` is synthetic.**")


def test_the_experiments_options_are_in_its_table_with_their_defaults() -> None:
    table = dict(re.findall(r"^\| (`--.*?) \| (.*?) \|", ALL, flags=re.MULTILINE))
    assert table["`--trials`"] == str(EXPERIMENT["trials"])
    assert table["`--seed`"] == str(EXPERIMENT["seed"])
    assert table["`--search-space`"] == f"`{EXPERIMENT['search_space']}`"
    assert table["`--format`"] == f"`{EXPERIMENT['file_format']}`"


def test_every_command_shown_can_be_parsed() -> None:
    """Options that the README shows and the code lacks are a defect."""
    shown = re.findall(
        r"^(?:\$ )?python (-m sentiment|\w+\.py)(.*)$", "\n".join(BLOCKS), re.MULTILINE
    )
    assert len(shown) >= 15
    parsers = {
        "-m sentiment": parse_command,
        "sentiment_mlflow_optuna.py": parse_experiment,
        "ml_orchestration_flipkart.py": parse_flow,
    }
    for program, rest in shown:
        parsers[program](shlex.split(rest, comments=True))
    for script in re.findall(r"python (tools/\w+\.py)", ALL):
        assert (PROJECT / script).is_file(), script


def test_every_target_shown_is_in_the_makefile_and_help_prints_them_all() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, flags=re.MULTILINE))
    assert targets >= {"experiment", "test", "lint", "mlflow-ui", "bench", "clean", "help"}
    code = "\n".join([*BLOCKS, *re.findall(r"`([^`\n]+)`", ALL)])
    for shown in re.findall(r"^make ([a-z-]+)", code, flags=re.MULTILINE):
        assert shown in targets, shown
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for target in targets:
        assert f"make {target} " in done.stdout


def test_pictures_exist_and_links_lead_somewhere() -> None:
    for file, text in {PROJECT / "README.md": README, **DOCS}.items():
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
            assert (file.parent / picture).stat().st_size > 10_000
        for path, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            target = file.parent / path if path else file
            assert target.exists(), f"{file.name}: {path}"
            if heading:
                shown = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                assert heading in map(anchor, shown), f"{file.name}: {heading}"


def anchor(heading: str) -> str:
    """Return the name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


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
