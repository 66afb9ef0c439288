"""Compare two ways to make a model by paired splits: `python -m sentiment compare A B`."""

from __future__ import annotations

import json
import os
import warnings
from argparse import Namespace
from pathlib import Path

from sentiment.cli.options import labelling_of, reading_of
from sentiment.console import Terminal
from sentiment.data.labels import Labelling, LabelRule
from sentiment.data.reviews import load_reviews
from sentiment.errors import ComparisonError, TrackingError, UnknownVersionError
from sentiment.model.algorithms import ALGORITHMS
from sentiment.model.predictor import find_version
from sentiment.tracking.store import open_existing_store, store_errors
from sentiment.training.paired import Contender, compare, contender


def run(options: Namespace) -> int:
    """Compare A and B, say what follows, and return 0. Raise `UserError`."""
    warnings.filterwarnings("ignore")  # libraries warn about their own future versions
    with Terminal(quiet=options.quiet or options.json) as terminal:
        return _compare(options, terminal)


def _compare(options: Namespace, terminal: Terminal) -> int:
    terminal.step(f"reading {Path(options.data).name}")
    made = [_contender(options, *named) for named in (options.a, options.b)]
    (a, _), (b, _) = made
    labelling = _labelling(options, {rule for _, rule in made if rule is not None})
    columns = options.text_column, options.rating_column
    loaded = load_reviews(options.data, *columns, reading_of(options), labelling)
    terminal.say(f"{loaded.source.name}: {loaded.dropped()}")
    for letter, one in (("A", a), ("B", b)):
        terminal.say(f"{letter}: {one.described(options.trials)}")
    with terminal.steps("compare", options.splits, "splits") as progress:
        found = compare(
            (a, b),
            loaded,
            splits=options.splits,
            trials=options.trials,
            split=options.split,
            seed=options.seed,
            jobs=options.jobs or os.cpu_count() or 1,
            each=lambda: progress.advance(None),
        )
    if options.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        terminal.table(f"Means of {options.splits} {options.split} splits", found.table())
        terminal.say(found.sentence(), always=True)
    return 0


def _contender(
    options: Namespace, text: str, name: str, given: dict[str, str]
) -> tuple[Contender, LabelRule | None]:
    """Return the contender of that name with its parameters, and the rule of a version."""
    if name in ALGORITHMS:
        return contender(name, given, name=text), None
    from sentiment.flows.retraining import recorded_candidate  # slow, and only versions need it

    try:
        store = open_existing_store(options.store, options.project)
        with store_errors():
            version = find_version(store, name)
    except (TrackingError, UnknownVersionError) as error:
        raise ComparisonError(
            f"{name} is no algorithm (there are {', '.join(ALGORITHMS)}), and {error}"
        ) from None
    with store_errors():
        run = store.client.get_run(str(version.run_id))
    algorithm = run.data.params.get("model", "")
    try:
        base = recorded_candidate(run)
    except (KeyError, ValueError):
        raise ComparisonError(
            f"version {version.version}: its run does not say how it was trained; name an "
            "algorithm and its parameters instead"
        ) from None
    number = "" if name == str(version.version) else f" (version {version.version})"
    named = f"{text}{number}, {algorithm} trained anew"
    return contender(algorithm, given, name=named, base=base), LabelRule.of_tags(version.tags)


def _labelling(options: Namespace, rules: set[LabelRule]) -> Labelling:
    """Return what counts as negative: what the options say, or else the rule of the versions."""
    labelling = labelling_of(options)
    if len(rules) == 1:
        return labelling.following(*rules)
    said = (labelling.label_column, labelling.negative_up_to, labelling.drop_neutral)
    if rules and said == (None, None, None):
        trained_with = " and ".join(sorted(f"'{rule}'" for rule in rules))
        raise ComparisonError(
            f"the versions were trained with {trained_with}; say what is negative for both, with "
            "--negative-up-to, --drop-neutral or --label-column"
        )
    return labelling
