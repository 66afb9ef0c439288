"""What the tests of `python -m sentiment` share: a command run in this process."""

from __future__ import annotations

import pytest

from sentiment.__main__ import main


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code and what was written to stdout and stderr."""
    capsys.readouterr()
    try:
        code = main([*arguments])
    except SystemExit as error:  # argparse's own way out
        assert isinstance(error.code, int)
        code = error.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err
