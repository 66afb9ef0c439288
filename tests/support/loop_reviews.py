"""What the tests of the closed loop share: files of made-up reviews, and reviews in other words."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from conftest import BAD, GOOD


def in_other_words(texts: Iterable[str]) -> list[str]:
    """The reviews with every word of praise or blame spelt backwards, so that none is known."""
    moods = {*GOOD, *BAD}
    return [
        " ".join(word[::-1] if word in moods else word for word in text.split()) for text in texts
    ]


def write_labelled(file: Path, texts: Sequence[str], labels: Iterable[int]) -> Path:
    """A file of reviews with 5 stars for the label 1, and 1 for 0."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["Review text", "Ratings"])
        writer.writerows(
            (text, 5 if label else 1) for text, label in zip(texts, labels, strict=True)
        )
    return file
