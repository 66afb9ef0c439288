"""Say what customers complain about in a file of reviews: `python -m sentiment complaints`."""

from __future__ import annotations

import json
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence

from sentiment.cli.options import labelling_of, reading_of
from sentiment.complaints.page import render_file, show_complaints
from sentiment.complaints.reviews import reviews_of_file
from sentiment.complaints.themes import find_complaints
from sentiment.console import Terminal
from sentiment.drift.latest import write_whole
from sentiment.drift.window import FileWindow
from sentiment.errors import UserError, WindowError
from sentiment.model.predictor import load_version
from sentiment.tracking.store import open_existing_store, store_errors


def run(options: Namespace) -> int:
    """Find the complaints, print them, write the page, and return 0. Raise `UserError`."""
    warnings.filterwarnings("ignore")  # libraries warn about their own future versions
    terminal = Terminal(quiet=options.quiet or options.json)
    page = options.html
    if page is not None and not page.resolve().parent.is_dir():
        raise WindowError(f"{page}: no such folder; create it first")
    if page is not None and page.is_dir():
        raise WindowError(f"{page}: is a folder, expected the name of a file")
    columns = options.text_column, options.rating_column
    wanted = FileWindow(options.data, *columns, reading_of(options), labelling_of(options))
    reviews = reviews_of_file(wanted, options.month_column, lambda: _judge(options))
    found = find_complaints(reviews)
    if page is not None:
        write_whole(page, render_file(found))
    if options.json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=1))
        return 0
    show_complaints(found, terminal)
    if page is not None:
        terminal.say(f"Page: {page} (it has customers' texts)")
    return 0


def _judge(options: Namespace) -> tuple[str, Callable[[list[str]], Sequence[int | None]]]:
    """Return the production version, by name and as what labels texts."""
    try:
        store = open_existing_store(options.store, options.project)
        with store_errors():
            version = load_version(store, "champion")
    except UserError as error:
        raise WindowError(
            f"{options.data}: no column of ratings; name it with --rating-column or "
            f"--label-column, or let a version label the reviews (there is none: {error})"
        ) from None
    return (
        f"labelled by version {version.version}, as there are no ratings",
        lambda texts: [one.label for one in version.predict(texts, explain=False)],
    )
