"""The layout: importing does nothing, and no file names a place of one machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT


@pytest.mark.slow
def test_importing_does_nothing(tmp_path: Path) -> None:
    """No file, no folder, no output, no MLflow: a store is opened by whoever asks for it."""
    modules = [
        ".".join(file.relative_to(PROJECT).with_suffix("").parts)
        for file in sorted((PROJECT / "sentiment").rglob("*.py"))
        if file.name != "__main__.py"
    ]
    code = (
        f"for name in {modules!r}: __import__(name)\n"
        "import sys; assert 'mlflow' not in sys.modules, 'importing a module imports mlflow'\n"
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
