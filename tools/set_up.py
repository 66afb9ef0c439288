"""Make the environment of `make`, and show how far it is.

    python3 tools/set_up.py .venv

It needs nothing but Python itself, and says what is wrong with one that is too old or too new.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
OLDEST, NEWEST, TESTED = (3, 11), (3, 13), (3, 11)
# What pip says of each package of a lock; the second of those that are for other systems
SEEN = ("Collecting ", "Ignoring ", "Requirement already satisfied")
LAST = "Installing collected packages"
EVERY = 50  # packages a line, where the output is no terminal


def main(folder: str) -> int:
    """Return 0 with an environment in `folder`, 2 where this Python cannot make it, or pip's code.

    Packages that are there already stay, so it carries on where it was interrupted.
    """
    python = sys.version_info[:2]
    if not OLDEST <= python <= NEWEST:
        print(
            f"make: {named(python)} cannot be used; expected {named(OLDEST)} to {named(NEWEST)}: "
            "name one with PYTHON=/path/to/python3.11",
            file=sys.stderr,
        )
        return 2
    packages = sum(line[0].isalnum() for line in LOCK.read_text().splitlines())
    print(f"setting up {folder}: {packages} packages, one to three minutes, once", flush=True)
    if python != TESTED:
        print(f"with {named(python)}; the tested one is {named(TESTED)}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", folder], check=False)
    return made.returncode or install(Path(folder) / "bin" / "python", packages)


def named(version: tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return "Python " + ".".join(map(str, version))


def install(python: Path, packages: int) -> int:
    """Install the lock with its own pip, and return pip's exit code."""
    began, seen = time.monotonic(), 0
    quiet = ["--disable-pip-version-check", "--no-deps", "--progress-bar=off"]
    command = [str(python), "-u", "-m", "pip", "install", *quiet, "-r", str(LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if line.startswith(SEEN):
                seen += 1
                tell(f"  {seen} of {packages} packages", at_least=seen % EVERY == 0)
            elif line.startswith(LAST):
                tell(f"  {packages} packages to write; about half a minute", at_least=True)
    if pip.returncode == 0:
        tell(f"  done in {time.monotonic() - began:.0f} s", at_least=True)
    if sys.stdout.isatty():
        print()
    return pip.returncode


def tell(line: str, *, at_least: bool) -> None:
    """Show a line in place of the last one; where there is no terminal, only if `at_least`."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="", flush=True)
    elif at_least:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
