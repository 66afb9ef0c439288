"""Time `text_cleaning.clean_texts` against the same steps written plainly, side by side in one run.

    python tools/bench_cleaning.py --data data.csv --repeats 5

Prints seconds and ratio on the file's reviews, and whether the results are identical; then the
cost per review and the growth of peak memory up to a million reviews; then the time of long texts
of the worst kinds, at two lengths (linear time means four times as long for four times as much).
About a minute. Where the file cannot be used: one line on stderr and exit code 2.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import emoji
import pandas as pd

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:  # run as a script, Python puts only tools/ on the path
    sys.path.insert(0, str(PROJECT))

import text_cleaning  # noqa: E402

TEXT_COLUMN = "Review text"

# NLTK's English stop words, the edition of 198 (August 2024), apostrophes and all; written down
# here a second time so that the plain implementation shares nothing with the one it judges.
NLTK_STOP_WORDS = tuple(
    """
a about above after again against ain all am an and any are aren aren't as at be because been
before being below between both but by can couldn couldn't d did didn didn't do does doesn doesn't
doing don don't down during each few for from further had hadn hadn't has hasn hasn't have haven
haven't having he he'd he'll he's her here hers herself him himself his how i i'd i'll i'm i've if
in into is isn isn't it it'd it'll it's its itself just ll m ma me mightn mightn't more most mustn
mustn't my myself needn needn't no nor not now o of off on once only or other our ours ourselves out
over own re s same shan shan't she she'd she'll she's should should've shouldn shouldn't so some
such t than that that'll the their theirs them themselves then there these they they'd they'll
they're they've this those through to too under until up ve very was wasn wasn't we we'd we'll we're
we've were weren weren't what when where which while who whom why will with won won't wouldn
wouldn't y you you'd you'll you're you've your yours yourself yourselves
""".split()  # noqa: SIM905
)

# Reviews per measured size, and how many reviews share one word that was never seen before: one in
# four is far more than people invent, and enough to fill the table of words several times over.
SIZES = (10_000, 100_000, 1_000_000)
REVIEWS_PER_NEW_WORD = 4
BLOCK = 10_000  # reviews cleaned by one call, so that neither input nor output piles up

LONG_TEXT_LENGTHS = (250_000, 1_000_000)  # characters


@cache
def _plain_tools() -> tuple[frozenset[str], Callable[[str], str]]:
    from nltk.stem import PorterStemmer

    return frozenset(NLTK_STOP_WORDS) - {"not", "no", "nor"}, PorterStemmer().stem


def plain_clean(text: str) -> str:
    """Return `text` cleaned by the published steps in the most direct way: the yardstick.

    Shares no code with `text_cleaning`. Quadratic for some texts of emoji, as emoji's own function
    is, so give it no megabytes of them.
    """
    stop_words, stem = _plain_tools()
    text = emoji.replace_emoji(text.lower(), replace="")
    text = re.sub(r"https?://\S+|www\.\S+", "", text)
    text = re.sub(r"</?[a-z][^<>]*>", "", text)
    text = re.sub(r"[^a-z\s]", "", text)
    words = [word for word in text.split() if word not in stop_words]
    return " ".join([stem(word) if len(word) <= 45 else word for word in words])


def read_reviews(path: Path) -> list[str]:
    """Return the texts of the CSV file's column `Review text` that are there, in file order.

    Raises ValueError, with a message for people, for a file that cannot be used.
    """
    try:
        texts = pd.read_csv(path, usecols=[TEXT_COLUMN], dtype=str)[TEXT_COLUMN].dropna().tolist()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"--data {path}: {reason}; expected a CSV file with a column {TEXT_COLUMN!r}"
        ) from error
    if not texts:
        raise ValueError(f"--data {path}: no text in column {TEXT_COLUMN!r}")
    return texts


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that one call of `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def forget_words() -> None:
    """Empty the table of words, as in a fresh process."""
    text_cleaning._word_outcomes.clear()


def compare(texts: list[str], repeats: int) -> None:
    """Print the plain and our seconds for all `texts`: medians of `repeats` interleaved rounds."""
    identical = text_cleaning.clean_texts(texts) == [plain_clean(text) for text in texts]
    plain, empty, filled = [], [], []
    for _ in range(repeats):
        plain.append(seconds(lambda: [plain_clean(text) for text in texts]))
        forget_words()
        empty.append(seconds(lambda: text_cleaning.clean_texts(texts)))
        filled.append(seconds(lambda: text_cleaning.clean_texts(texts)))
    print(f"{len(texts):,} reviews, median of {repeats}; identical: {'yes' if identical else 'NO'}")
    print(f"{'':28}{'seconds':>9}{'plain / it':>12}")
    for name, times in (
        ("plain", plain),
        ("ours, no word known yet", empty),
        ("ours, words known", filled),
    ):
        print(f"{name:28}{median(times):9.4f}{median(plain) / median(times):12.1f}")


def new_word(number: int) -> str:
    """Return a made-up word of letters that stands for `number` and for no other."""
    letters = "q"
    while number:
        number, digit = divmod(number, 26)
        letters += chr(ord("a") + digit)
    return letters + "ings"


def stream(texts: list[str], size: int) -> Iterator[str]:
    """Yield `size` reviews: `texts` over and over, with new words mixed in."""
    for number, text in enumerate(islice(cycle(texts), size)):
        if number % REVIEWS_PER_NEW_WORD == 0:
            yield f"{text} {new_word(number)}"
        else:
            yield text


def peak_memory() -> float:
    """Return the highest resident memory of this process so far, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def scale(texts: list[str], sizes: Sequence[int]) -> None:
    """Print the cost per review and what peak memory has grown by, for each number of reviews."""
    print(f"\none made-up word per {REVIEWS_PER_NEW_WORD} reviews")
    print(f"{'reviews':>12}{'µs a review':>14}{'peak memory, MB':>18}{'words kept':>12}")
    before = peak_memory()
    for size in sizes:
        forget_words()
        spent, reviews = 0.0, stream(texts, size)
        while block := list(islice(reviews, BLOCK)):
            start = time.perf_counter()
            text_cleaning.clean_texts(block)
            spent += time.perf_counter() - start
        print(
            f"{size:12,}{spent / size * 1e6:14.2f}{peak_memory() - before:+18.1f}"
            f"{len(text_cleaning._word_outcomes):12,}"
        )


def long_texts(length: int) -> dict[str, str]:
    """Return texts of `length` characters of the kinds that are slow in a careless cleaner."""
    units = {
        "one word of y": "y",
        "all <": "<",
        "tags that never end": "<a ",
        "http again and again": "http",
        "www. again and again": "www.",
        "emoji": "\U0001f600",
        "emoji joined by U+200D": "\U0001f600\u200d",
        "digits after an é": "1",
        "a common word": "good ",
    }
    texts = {name: (unit * length)[:length] for name, unit in units.items()}
    texts["digits after an é"] = "é" + texts["digits after an é"]
    texts["new words"] = " ".join(map(new_word, range(length // 9)))
    return texts


def worst_cases() -> None:
    """Print the seconds for one review of each kind of long text at two lengths."""
    short, long = LONG_TEXT_LENGTHS
    print(f"\n{'one long review, seconds':28}{short:>12,}{long:>12,}{'ratio':>8}")
    long_ones = long_texts(long)
    for name, text in long_texts(short).items():
        times = []
        for review in (text, long_ones[name]):
            rounds = []
            for _ in range(3):
                forget_words()
                rounds.append(seconds(partial(text_cleaning.clean_text, review)))
            times.append(median(rounds))
        print(f"{name:28}{times[0]:12.4f}{times[1]:12.4f}{times[1] / times[0]:8.1f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark on the command line's `arguments` and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, default=PROJECT / "data.csv", help="CSV file of reviews (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed rounds, 1 or more (%(default)s)"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="reviews in the scaling test"
    )
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 1 or min(options.sizes) < 1:
            raise ValueError("--repeats and --sizes must be 1 or more")
        texts = read_reviews(options.data)
    except ValueError as error:
        print(f"bench_cleaning: {error}", file=sys.stderr)
        return 2
    compare(texts, options.repeats)
    scale(texts, options.sizes)
    worst_cases()
    return 0


if __name__ == "__main__":
    sys.exit(main())
