"""Run one command: `python -m sentiment COMMAND`; `--help` lists them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from sentiment.cli.options import parse_command, run_command
from sentiment.masking import mask_output

# the module of `sentiment.cli` that runs each command
MODULES = {
    "serve": "serve",
    "score": "score",
    "list": "registry",
    "show": "registry",
    "promote": "registry",
    "rollback": "registry",
    "which": "registry",
    "history": "registry",
    "drift": "drift",
    "replay": "drift",
    "compare": "compare",
    "complaints": "complaints",
    "card": "card",
    "verify": "registry",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the arguments and return its exit code.

    0 done, 1 refused by the gate or because another change came first, 2 bad input, 3 drifted,
    130 interrupted.
    """
    options = parse_command(arguments)
    return run_command(f"sentiment {options.command}", lambda: _run(options))


def _run(options: Namespace) -> int:
    # only now: the libraries take seconds, and --help and wrong options must not wait for them
    code: int = import_module(f"sentiment.cli.{MODULES[options.command]}").run(options)
    return code


if __name__ == "__main__":
    mask_output()
    sys.exit(main())
