"""Print the model card of a run: `python -m sentiment card`."""

from __future__ import annotations

from argparse import Namespace

from sentiment.cli.registry import verify_answer
from sentiment.console import Terminal
from sentiment.tracking.store import open_existing_store, store_errors
from sentiment.training.card import model_card


def run(options: Namespace) -> int:
    """Print the card and return 0.

    Raise `TrackingError` when there is no such run, and `RegistryError` when the run's version is
    not what was registered: the card is of another model then.
    """
    with Terminal() as terminal:
        terminal.step("opening the store")
        store = open_existing_store(options.store, options.project)
        card = model_card(store, options.run_id)
    print(card, end="")
    with store_errors():
        for version in store.client.search_model_versions(f"run_id = '{options.run_id}'"):
            if version.name == store.settings.registered_model:
                verify_answer(options, store, str(version.version))
    return 0
