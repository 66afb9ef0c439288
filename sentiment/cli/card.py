"""Print the model card of a run: `python -m sentiment card`."""

from __future__ import annotations

from argparse import Namespace

from sentiment.tracking.store import open_existing_store
from sentiment.training.card import model_card


def run(options: Namespace) -> int:
    """Print the card and return 0. Raise `TrackingError` when there is no such run."""
    store = open_existing_store(options.store, options.project)
    print(model_card(store, options.run_id), end="")
    return 0
