"""Made-up reviews of a kettle with complaints of which the number is known."""

from __future__ import annotations

import csv
import random
from pathlib import Path

PRAISE = (
    "boils fast and looks lovely on the counter",
    "great kettle, the handle stays cool",
    "my mother is happy with the colour and the cord",
    "quiet, heats quickly, easy to clean",
    "nice gift, solid base and a bright light",
)
LEAKS = (
    "the spout leaks all over the counter",
    "it leaks from the spout, bad",
    "leaking spout and a wet counter",
    "leaked at the spout the first morning",
)
SMELLS = (
    "the water has a plastic smell",
    "strong plastic smell that never leaves the water",
    "plastic smell in my tea, bad",
)
COURIER = (
    "the courier was rude and the parcel came crushed",
    "crushed parcel, rude courier",
    "rude courier, parcel crushed at the corner",
)
BLUNT = ("very bad", "worst product", "bad quality", "worst quality, waste", "so bad, do not buy")
MONTHS = 24  # from January 2020
COUNTS = {"leak": 96, "smell": 60, "courier": 50, "blunt": 72}


def complaint_rows(seed: int = 0) -> list[tuple[str, int, str]]:
    """Return text, stars and month: 25 praises a month, and the complaints of `COUNTS`.

    Leaks and smells come evenly over the months, the courier's more and more often: 2 in the first
    year, in its last month, 48 in the second. Smells also come with 3 stars, 60 times.
    """
    draw = random.Random(seed)
    rows: list[tuple[str, int, int]] = []
    for month in range(MONTHS):
        rows += [(draw.choice(PRAISE), draw.choice((4, 5)), month) for _ in range(25)]
    for name, texts in (("leak", LEAKS), ("smell", SMELLS), ("blunt", BLUNT)):
        stars = [1 + at % 2 for at in range(COUNTS[name])]
        rows += [(draw.choice(texts), star, at % MONTHS) for at, star in enumerate(stars)]
    rising = [11] * 2 + [month for month in range(12, 24) for _ in range((month - 11) // 2 + 1)]
    rows += [(draw.choice(COURIER), 1, month) for month in rising]
    rows += [(draw.choice(SMELLS), 3, at % MONTHS) for at in range(60)]
    rows += [("fine for the money I guess", 3, at % MONTHS) for at in range(60)]
    named = [
        # a number of its own keeps each review from repeating another
        (f"{text} {at}", star, f"{2020 + month // 12}-{month % 12 + 1:02d}")
        for at, (text, star, month) in enumerate(rows)
    ]
    draw.shuffle(named)
    return named


def write_complaints(path: Path, *, month: str = "Month", stars: str = "Ratings") -> Path:
    """Write the rows as a CSV; without a name a column is left out."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Review text", *filter(None, (stars, month))])
        for text, star, when in complaint_rows():
            writer.writerow([text, *([star] if stars else []), *([when] if month else [])])
    return path
