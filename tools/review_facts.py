"""Measure files of scraped reviews, so that a stand-in can be held against what it stands for.

    python tools/review_facts.py data.csv other.csv

prints a line per fact and a column per file. "Unique" are the reviews left when rows without text
and exact (text, rating) duplicates are dropped; all shares and lengths are of these, and of texts
without the scraper's marker.
"""

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import emoji
import numpy as np
import pandas as pd

MARKER = "READ MORE"
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
# A word is a run of letters and straight apostrophes in lower case: so counted, the scraped file
# has 39,504 words, 2,859 of them distinct.
WORD = re.compile(r"[a-z']+")
NEGATION = re.compile(r"\b(?:not|no|nor|never|none|nothing|cannot)\b|n['’]t\b", re.IGNORECASE)


@dataclass(frozen=True)
class ReviewFacts:
    """What was measured on one file; shares are between 0 and 1, lists by rating go 1 to 5."""

    rows: int
    missing: list[int]  # by column
    ratings_with_text: list[int]
    unique: int
    unique_ratings: list[int]
    top_text_shares: list[float]  # of the 1, 10 and 100 commonest texts, in all rows with text
    characters: list[float]  # at QUANTILES
    words: list[float]  # at QUANTILES
    emoji_share: float
    digit_share: float
    one_word_share: float
    negation_shares: list[float]  # by rating
    word_count: int
    distinct_words: int
    words_once: int
    zipf_slope: float  # least squares of log count on log rank


def read_unique(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all rows with text and the unique ones, both with a column `text` (no marker)."""
    table = pd.read_csv(path).dropna(subset=["Review text"])
    table["text"] = table["Review text"].str.removesuffix(MARKER)
    return table, table.drop_duplicates(["text", "Ratings"])


def measure(path: Path) -> ReviewFacts:
    """Return the facts of a CSV with the scrape's columns."""
    raw = pd.read_csv(path)
    table, unique = read_unique(path)
    texts = unique["text"]
    words = [WORD.findall(text.lower()) for text in texts]
    lengths = np.array([len(row) for row in words])
    counts = np.array([n for _, n in Counter(word for row in words for word in row).most_common()])
    top = table["text"].value_counts(normalize=True).to_numpy()
    ranks = np.arange(1, len(counts) + 1)
    return ReviewFacts(
        rows=len(raw),
        missing=raw.isna().sum().tolist(),
        ratings_with_text=_by_rating(table),
        unique=len(unique),
        unique_ratings=_by_rating(unique),
        top_text_shares=[float(top[:n].sum()) for n in (1, 10, 100)],
        characters=np.quantile(texts.str.len(), QUANTILES).tolist(),
        words=np.quantile(lengths, QUANTILES).tolist(),
        emoji_share=float(np.mean([emoji.emoji_count(text) > 0 for text in texts])),
        digit_share=float(texts.str.contains(r"\d").mean()),
        one_word_share=float(np.mean(lengths == 1)),
        negation_shares=texts.str.contains(NEGATION)
        .groupby(unique["Ratings"])
        .mean()
        .astype(float)
        .tolist(),
        word_count=int(counts.sum()),
        distinct_words=len(counts),
        words_once=int((counts == 1).sum()),
        zipf_slope=float(np.polyfit(np.log(ranks), np.log(counts), 1)[0]),
    )


def _by_rating(table: pd.DataFrame) -> list[int]:
    return [int((table["Ratings"] == rating).sum()) for rating in range(1, 6)]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_shown(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 printed, 2 a file cannot be read."""
    parser = argparse.ArgumentParser(description="Measure files of reviews side by side.")
    parser.add_argument("files", nargs="+", type=Path, help="CSV files with the scrape's columns")
    files: list[Path] = parser.parse_args(arguments).files
    for path in files:
        if not path.is_file():
            print(f"review_facts.py: {path}: no such file; give a CSV of reviews", file=sys.stderr)
            return 2
    measured = [measure(path) for path in files]
    for field in fields(ReviewFacts):
        for at, facts in enumerate(measured):
            label = field.name if at == 0 else ""
            print(f"{label:18} {files[at].name:24} {_shown(getattr(facts, field.name))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
