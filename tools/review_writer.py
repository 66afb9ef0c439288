"""The stand-in reviews' author: rating -> text, from the tables of words and phrases.

What a review of a rating says, how long it is and how it is typed are the constants below, set so
that `review_facts.py` measures on the result what it measures on the scraped reviews. Only
`random.Random.random` is drawn from, whose sequence Python guarantees for a seed.
"""

import bisect
import math
import random
import re
from itertools import accumulate
from statistics import NormalDist

from review_phrases import PHRASE_TABLES, RESPELLINGS
from review_words import WORD_TABLES

# What a review of each rating says, in up to three words and in more. The last three columns and
# the contrary one of the first two are what makes the task hard: stars that contradict the text,
# two opinions in one review, and none at all. Plain praise under one star is difficulty that no
# model can learn by heart; borderline complaints are of the kind that it can.
MOODS: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # pos, neg, mixed, vague
    5: ((0.982, 0.008, 0.0, 0.010), (0.927, 0.020, 0.045, 0.008)),
    4: ((0.910, 0.020, 0.0, 0.070), (0.755, 0.040, 0.170, 0.035)),
    3: ((0.500, 0.200, 0.0, 0.300), (0.150, 0.440, 0.290, 0.120)),
    2: ((0.220, 0.660, 0.0, 0.120), (0.140, 0.710, 0.120, 0.030)),
    1: ((0.220, 0.740, 0.0, 0.040), (0.140, 0.795, 0.060, 0.005)),
}
MOOD_NAMES = ("pos", "neg", "mixed", "vague")
SHORT = 3  # words up to which a review is one phrase
# Of all reviews of a rating: shares of one to six words, then the log-mean and log-sd of what a
# longer one has beyond six.
LENGTHS: dict[int, tuple[tuple[float, ...], float, float]] = {
    5: ((0.285, 0.220, 0.100, 0.072, 0.086, 0.058), 1.32, 1.13),
    4: ((0.322, 0.225, 0.080, 0.065, 0.080, 0.052), 1.68, 1.08),
    3: ((0.246, 0.167, 0.070, 0.054, 0.087, 0.049), 1.80, 1.0),
    2: ((0.082, 0.160, 0.088, 0.114, 0.039, 0.052), 1.82, 1.02),
    1: ((0.052, 0.189, 0.114, 0.074, 0.074, 0.043), 1.86, 1.05),
}
LONGEST = 110  # words; the site folds longer reviews
# Clause kinds of a longer review by mood, with their shares.
CLAUSES: dict[str, tuple[tuple[str, float], ...]] = {
    "pos": (
        ("pos", 0.36),
        ("pos_tale", 0.39),
        ("plain", 0.175),
        ("advice_pos", 0.06),
        ("twist_pos", 0.015),
    ),
    "neg": (
        ("neg", 0.32),
        ("neg_tale", 0.40),
        ("plain", 0.15),
        ("advice_neg", 0.08),
        ("twist_neg", 0.05),
    ),
    "gripe": (("gripe", 0.64), ("neg", 0.12), ("plain", 0.18), ("twist_neg", 0.06)),
    "vague": (("plain", 0.66), ("vague3", 0.22), ("vague2", 0.12)),
}
# Of the complaints of three stars and more, those about price, life or single pieces only; it sets
# how far apart the two classes are.
LESSER_BLAME = 0.8
KNOWS_AN = 0.85  # share of writers who put "an" before a vowel
EMOJI_SHARE = {5: 0.042, 4: 0.03, 3: 0.012, 2: 0.02, 1: 0.03}
# Most people type with care; a few do not, and bring most of the misspellings.
HASTY_SHARE, HASTY_RESPELL, HASTY_SLIP = 0.12, 0.11, 0.20
CAREFUL_RESPELL, CAREFUL_SLIP = 0.007, 0.030
# Share of reviews of one, two, three … words that end in a stop, and which.
STOP_SHARES = (0.05, 0.08, 0.12, 0.17, 0.22, 0.26, 0.3, 0.34)
STOPS, STOP_KINDS = (".", "...", "..", "!", "....", "!!"), (0.7, 0.1, 0.08, 0.06, 0.03, 0.03)

_SLOT = re.compile(r"\{(\w+)\}")
_A_BEFORE_VOWEL = re.compile(r"\b([aA]) (?=[aeio])")
_NORMAL = NormalDist()


class Table:
    """Entries that are drawn with weight 1 / position ** exponent, the first the commonest."""

    def __init__(self, entries: list[str], exponent: float) -> None:
        # re.split leaves text at even places and slot names at odd ones
        self.entries = [_SLOT.split(entry) for entry in entries]
        self.cumulative = list(accumulate((i + 1) ** -exponent for i in range(len(entries))))

    def draw(self, rng: random.Random) -> list[str]:
        """Return one entry as [text, slot, text, slot, …, text]."""
        return self.entries[bisect.bisect(self.cumulative, rng.random() * self.cumulative[-1])]


def parse_tables(text: str, separator: str | None) -> dict[str, Table]:
    """Return name -> table from lines such as `name 1.2: entry entry`, indented lines continuing.

    Args:
        text: the tables, in the notation that `review_words.py` describes.
        separator: what stands between two entries; None for white space.

    """
    tables = {}
    for block in re.split(r"\n(?=\w)", re.sub(r"(?m)^#.*\n", "", text).strip()):
        head, body = block.split(":", 1)
        name, exponent = head.split()
        entries = [" ".join(entry.split()) for entry in body.split(separator)]
        # not the underscores of a table's name in braces
        entries = [re.sub(r"_(?![^{]*\})", " ", entry.replace("<none>", "")) for entry in entries]
        tables[name] = Table(entries, float(exponent))
    return tables


def parse_respellings(text: str) -> dict[str, list[str]]:
    """Return word -> its respellings from lines such as `good: gud gd`."""
    lines = [line.split(":", 1) for line in text.strip().splitlines()]
    return {word: ways.split() for word, ways in lines}


def pick(rng: random.Random, shares: tuple[float, ...]) -> int:
    """Return an index below len(shares), drawn by them; what they lack of 1 goes to the last."""
    point = rng.random()
    for index, share in enumerate(shares[:-1]):
        point -= share
        if point < 0:
            return index
    return len(shares) - 1


class ReviewWriter:
    """Writes review texts, all from one stream of random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tables = parse_tables(WORD_TABLES, None) | parse_tables(PHRASE_TABLES, "|")
        self.respellings = parse_respellings(RESPELLINGS)

    def chance(self, share: float) -> bool:
        """Return true in `share` of the calls."""
        return self.rng.random() < share

    def fill(self, name: str) -> str:
        """Return an entry of table `name` with its slots filled in."""
        parts = self.tables[name].draw(self.rng)
        if len(parts) == 1:
            return parts[0]
        return "".join(self.fill(part) if i % 2 else part for i, part in enumerate(parts))

    def write(self, rating: int, least: int = 1) -> str:
        """Return the text of a review of 1 to 5 stars, without the marker.

        Args:
            rating: 1 to 5.
            least: words that it aims at if it would be shorter.

        """
        words = max(self.length(rating), least)
        mood = MOOD_NAMES[pick(self.rng, MOODS[rating][words > SHORT])]
        if words <= SHORT:
            # three and four stars come with plainer praise and lesser complaints
            milder = (
                {"pos": "mild", "neg": self.blame(rating)}.get(mood) if 2 < rating < 5 else None
            )
            text = self.fill(f"{milder or mood}{words}")
        elif mood == "mixed":
            text = self.two_opinions(max(words, 5), rating)
        else:
            text = self.clauses(self.blame(rating) if mood == "neg" else mood, words)
        return self.typed(text, rating, mood)

    def length(self, rating: int) -> int:
        """Return how many words a review of `rating` aims at."""
        short, mean, deviation = LENGTHS[rating]
        index = pick(self.rng, (*short, 0.0))
        if index < len(short):
            return index + 1
        beyond = _NORMAL.inv_cdf(max(self.rng.random(), 1e-9)) * deviation + mean
        return min(7 + int(math.exp(beyond)), LONGEST)

    def clauses(self, mood: str, words: int) -> str:
        """Return clauses of one mood that come to about `words` words."""
        kinds = CLAUSES[mood]
        shares = tuple(share for _, share in kinds)
        text, count = "", 0
        told: set[str] = set()
        while not text or count < words - 2:
            for _ in range(5):  # prefer a clause that fits what is left
                # an opinion comes first, what else there is to tell after it
                clause = self.fill(kinds[pick(self.rng, shares) if text else 0][0])
                size = clause.count(" ") + 1
                if count + size <= words + 1 and clause not in told:
                    break
            told.add(clause)
            text = f"{text}{self.fill('join')}{clause}" if text else clause
            count += size
        return text

    def blame(self, rating: int) -> str:
        """Return the mood of a complaint: three stars and more often mean a lesser one."""
        return "gripe" if rating > 2 and self.chance(LESSER_BLAME) else "neg"

    def two_opinions(self, words: int, rating: int) -> str:
        """Return praise and blame in one review, the more praise the more stars."""
        praise = round(words * (0.05 + 0.15 * rating + 0.1 * self.rng.random()))
        parts = [
            self.clauses("pos", max(2, praise)),
            self.clauses(self.blame(rating), max(2, words - praise)),
        ]
        if self.chance(0.25):
            parts.reverse()
        comma = ", " if self.chance(0.4) else " "
        return f"{parts[0]}{comma}{self.fill('but')} {parts[1]}"

    def typed(self, text: str, rating: int, mood: str) -> str:
        """Return `text` as somebody's thumbs left it: spelling, capitals, stops, emoji."""
        hasty = self.chance(HASTY_SHARE)
        respell, slip = (HASTY_RESPELL, HASTY_SLIP) if hasty else (CAREFUL_RESPELL, CAREFUL_SLIP)
        text = " ".join(self.misspelt(word, respell, slip) for word in text.split(" "))
        if self.chance(KNOWS_AN):
            text = _A_BEFORE_VOWEL.sub(r"\1n ", text)
        text = self.capitals(text)
        text += self.stop(text)
        if self.chance(EMOJI_SHARE[rating]):
            happy = mood == "pos" or (mood != "neg" and rating > 2)
            face = self.fill("e_pos" if happy else "e_neg")
            times = 1 + pick(self.rng, (0.62, 0.16, 0.14, 0.05, 0.03))
            text += (" " if self.chance(0.5) else "") + face * times
        return text

    def stop(self, text: str) -> str:
        """Return how a review ends; short ones seldom with a stop."""
        spaces = min(text.count(" "), len(STOP_SHARES) - 1)
        if not self.chance(STOP_SHARES[spaces]):
            return ""
        return STOPS[pick(self.rng, STOP_KINDS)]

    def misspelt(self, word: str, respell: float, slip: float) -> str:
        """Return `word`, now and then in a common respelling or with a slip of the thumb."""
        if self.chance(respell) and word in self.respellings:
            ways = self.respellings[word]
            return ways[int(self.rng.random() * len(ways))]
        if len(word) > 3 and self.chance(slip) and word.isalpha():
            return self.slipped(word)
        return word

    def slipped(self, word: str) -> str:
        """Return `word`, of four letters or more, with one slip."""
        at = 1 + int(self.rng.random() * (len(word) - 2))
        head, letter, tail = word[:at], word[at], word[at + 1 :]
        other = chr(ord("a") + int(self.rng.random() * 26))
        vowel = "aeiou"[int(self.rng.random() * 5)]
        held = word[-1] * (2 + int(self.rng.random() * 4))
        slips = (
            head + tail,  # left out
            head + letter + letter + tail,  # doubled
            head + tail[0] + letter + tail[1:],  # swapped with the next
            word[:-1] + held,  # held down
            re.sub("[aeiou]", vowel, word, count=1),  # by ear
            head + other + tail,  # another key
        )
        return slips[int(self.rng.random() * len(slips))]

    def capitals(self, text: str) -> str:
        """Return `text` with the capitals of one writer: none, a sentence's, a title's, all."""
        style = pick(self.rng, (0.235, 0.725, 0.034, 0.006))
        if style == 0:
            return text
        if style == 2:
            return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
        if style == 3:
            return text.upper()
        text = re.sub(r"([.!]+ ?)([a-z])", lambda m: m[1] + m[2].upper(), text)
        text = re.sub(r"\bi\b", "I", text)
        return text[:1].upper() + text[1:]
