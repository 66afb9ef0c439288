"""Score a file or a folder of reviews with a registered version: `python -m sentiment score`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sentiment.cli.options import reading_of
from sentiment.console import Terminal
from sentiment.data.sources import is_folder
from sentiment.serving.batch import score_file
from sentiment.serving.parts import score_folder
from sentiment.tracking.store import open_existing_store


def run(options: Namespace) -> int:
    """Score the file or the parts of the folder and return 0. Raise what the scoring raises."""
    with Terminal(quiet=options.quiet) as terminal:
        terminal.step("opening the store")
        store = open_existing_store(options.store, options.project)
    chosen = {
        "version": options.version,
        "text_column": options.text_column,
        "reading": reading_of(options),
        "escape_formulas": not options.no_escape_formulas,
        "terminal": terminal,
    }
    if is_folder(options.source) or options.dask is not None:
        score_folder(store, options.source, options.target, dask=options.dask, **chosen)
    else:
        score_file(store, Path(options.source), Path(options.target), **chosen)
    return 0
