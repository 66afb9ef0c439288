"""Score a file of reviews with a registered version: `python -m sentiment score`."""

from __future__ import annotations

from argparse import Namespace

from sentiment.cli.options import reading_of
from sentiment.console import Terminal
from sentiment.serving.batch import score_file
from sentiment.tracking.store import open_existing_store


def run(options: Namespace) -> int:
    """Score the file and return 0. Raise what `score_file` raises."""
    score_file(
        open_existing_store(options.store, options.project),
        options.source,
        options.target,
        version=options.version,
        text_column=options.text_column,
        reading=reading_of(options),
        escape_formulas=not options.no_escape_formulas,
        terminal=Terminal(quiet=options.quiet),
    )
    return 0
