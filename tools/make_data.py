"""Write `data.csv`, stand-in badminton-shuttlecock reviews that anyone may redistribute.

    python tools/make_data.py --out data.csv --seed 42 --rows 8518

The scraped reviews that the method was published on belong to those who wrote them, so this
writes others with the same columns, habits and difficulty: the sentences come from a grammar of
our own (`review_writer.py`), the proportions from counts of the scrape. The same command gives
the same bytes everywhere, and any number of rows takes the same memory.
"""

import argparse
import csv
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from review_writer import ReviewWriter

COLUMNS = (
    "Reviewer Name",
    "Review Title",
    "Place of Review",
    "Up Votes",
    "Down Votes",
    "Month",
    "Review text",
    "Ratings",
)
MARKER = "READ MORE"  # the scraper's, glued to the last word of every review
# What the counts below were taken over; for other numbers of rows they are scaled.
REAL_ROWS = 8518
# The scrape's last rows carry neither title nor votes, and most of those no text either.
STUB_ROWS, TEXTLESS_ROWS = 10, 8
MISSING_PLACES, MISSING_MONTHS = 40, 455  # beside the stubs, which have none
HELPFUL_ROWS, MOST_UP_VOTES = 238, 889.0  # the most helpful come first
MUCH_HELPFUL, LEAST_HELPFUL_WORDS = 10, 12
RATING_COUNTS = {5: 5079, 4: 1744, 3: 615, 2: 306, 1: 766}
TEXTLESS_RATING = 1  # the rating given to the rows without text
YEAR_COUNTS = {
    2015: 2,
    2016: 54,
    2017: 782,
    2018: 1606,
    2019: 1356,
    2020: 1918,
    2021: 1774,
    2022: 561,
}
MONTH_NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class DataOptionError(ValueError):
    """An option that no file can be written for; the message is the line the user reads."""


def scaled(count: int, rows: int) -> int:
    """Return a count of the real file in proportion to `rows`."""
    return round(count * rows / REAL_ROWS)


def exactly(rng: random.Random, total: int, wanted: int) -> Iterator[bool]:
    """Yield `total` truth values of which exactly `wanted` are true, in random order."""
    for left in range(total, 0, -1):
        hit = rng.random() * left < wanted
        wanted -= hit
        yield hit


def in_order(rng: random.Random, counts: dict[int, int], rows: int) -> Iterator[int]:
    """Yield `rows` of the keys of `counts` in random order, each one's share exact to a row."""
    of = sum(counts.values())
    left = {key: round(count * rows / of) for key, count in counts.items()}
    # what rounding left over or took too much
    left[max(counts, key=counts.__getitem__)] += rows - sum(left.values())
    for remaining in range(rows, 0, -1):
        point = rng.random() * remaining
        for key, count in left.items():  # noqa: B007
            point -= count
            if point < 0:
                break
        left[key] -= 1
        yield key


def votes(rng: random.Random, index: int, rows: int) -> tuple[str, str]:
    """Return up and down votes as the scrape writes them; the most helpful rows come first."""
    rank = index * REAL_ROWS / rows
    if rank >= HELPFUL_ROWS:
        return "0.0", "0.0" if rng.random() < 0.994 else "1.0"
    up = max(1.0, float(round(MOST_UP_VOTES * (rank + 1) ** -1.25 * (0.6 + 0.8 * rng.random()))))
    if index == 0:
        up = MOST_UP_VOTES
    return str(min(up, MOST_UP_VOTES)), str(float(round(up * 0.5 * rng.random() ** 1.5)))


def month(rng: random.Random, year: int) -> str:
    """Return a month such as `Feb 2021`, from Dec 2015 to Jul 2022."""
    first, past = {2015: (11, 12), 2022: (0, 7)}.get(year, (0, 12))
    return f"{MONTH_NAMES[first + int(rng.random() * (past - first))]} {year}"


def place(writer: ReviewWriter) -> str:
    """Return a place such as `Certified Buyer, Pune District`."""
    city = writer.fill("city").title()
    return f"Certified Buyer, {city}{' District' if writer.chance(0.2) else ''}"


def review_rows(seed: int, rows: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the file, an empty string for each missing value, in bounded memory."""
    rng = random.Random(seed)
    writer = ReviewWriter(rng)
    stubs, textless = scaled(STUB_ROWS, rows), scaled(TEXTLESS_ROWS, rows)
    full = rows - stubs
    no_place = exactly(rng, full, min(full, scaled(MISSING_PLACES, rows)))
    monthless = min(full, scaled(MISSING_MONTHS, rows))
    no_month = exactly(rng, full, monthless)
    years = in_order(rng, YEAR_COUNTS, full - monthless)
    ratings = in_order(rng, RATING_COUNTS, rows - textless)
    for index in range(full):
        rating = next(ratings)
        up, down = votes(rng, index, rows)
        where = "" if next(no_place) else place(writer)
        when = "" if next(no_month) else month(rng, next(years))
        title = writer.fill(f"title{rating}")
        # what many found helpful says something
        least = LEAST_HELPFUL_WORDS if float(up) >= MUCH_HELPFUL else 1
        text = writer.write(rating, least) + MARKER
        yield "Flipkart Customer", title, where, up, down, when, text, str(rating)
    for index in range(stubs):
        if index < textless:
            yield *("" for _ in COLUMNS[:-1]), str(TEXTLESS_RATING)
        else:
            rating = next(ratings)
            yield *("" for _ in COLUMNS[:-2]), writer.write(rating) + MARKER, str(rating)


def write_data(out: Path, seed: int, rows: int) -> None:
    """Write the file whole or not at all.

    Args:
        out: the CSV to write; its folder must exist. A file of that name is replaced.
        seed: 0 or more; the same seed and rows give the same bytes.
        rows: 1 or more, the header not counted.

    Raises:
        DataOptionError: a number out of range, or a path that cannot be written.

    """
    if seed < 0:
        raise DataOptionError(f"--seed {seed}: expected 0 or more")
    if rows < 1:
        raise DataOptionError(f"--rows {rows}: expected 1 or more")
    if out.is_dir():
        raise DataOptionError(f"--out {out}: is a folder; expected the path of a CSV file")
    if not out.parent.is_dir():
        raise DataOptionError(f"--out {out}: no folder {out.parent}; make it first")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream, lineterminator="\n")
            lines.writerow(COLUMNS)
            lines.writerows(review_rows(seed, rows))
        part.replace(out)
    except OSError as error:
        raise DataOptionError(f"--out {out}: cannot write: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint and leave with exit code 2."""
        self.exit(2, f"make_data.py: {message}; see --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 written, 2 bad options."""
    parser = OneLineParser(description="Write stand-in badminton-shuttlecock reviews as CSV.")
    parser.add_argument("--out", type=Path, default=Path("data.csv"), help="CSV file to write")
    parser.add_argument("--seed", type=int, default=42, help="0 or more (default 42)")
    parser.add_argument("--rows", type=int, default=REAL_ROWS, help="reviews (default 8518)")
    options = parser.parse_args(arguments)
    try:
        write_data(options.out, options.seed, options.rows)
    except DataOptionError as error:
        print(f"make_data.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
