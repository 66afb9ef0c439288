"""Group what negative reviews say into themes, and count them: by month, and by stars.

    complaints = find_complaints(reviews)
    complaints.themes[0].phrases   # ("not original", "duplicate product")

1. A word is reduced to its stem, and *not* marks the word that it negates. A word counts as a
   complaint where it is commoner in negative than in positive reviews: log-odds with an informative
   Dirichlet prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words", Political Analysis 16).
2. Words that stand between the same words in all reviews of the file mean something alike: positive
   pointwise mutual information of neighbours, truncated SVD (Levy & Goldberg 2014). So *fake* and
   *duplicate* come together although hardly anybody writes both. Words of one review belong
   together as well. Average-linkage clustering on both makes the themes.
3. A review belongs to each theme of which it has a word. A theme is named by phrases in their
   commonest spelling. Each phrase was written in at least three reviews in that spelling, numbers
   included; only capitals and signs between its words may differ. None is one customer's own.

Everything is deterministic. Words that only say that something is bad are known in English alone;
in other languages they may be a theme.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from sentiment.complaints.reviews import NO_MONTH, Reviews
from sentiment.complaints.statistics import (
    StarOdds,
    Trend,
    month_name,
    odds_by_stars,
    trends,
    why_no_odds,
)
from sentiment.metrics import Bools, Floats, Interval, Ints, wilson_interval
from text_cleaning import CONTRACTIONS, NEGATIONS, STOP_WORDS, stem_words

LEAST_REVIEWS = 3  # with a word or a phrase: nobody's own words name a theme
LEAST_SHARE = 0.01  # of the negative reviews, that have a theme
MOST_THEMES = 15
MOST_WORDS = 200  # of which themes are made, those that weigh most against the product
# Share of all reviews from which a word is what they are about, as "racket", unless it is so much
# commoner in negative reviews than in positive ones
COMMON, FAR_COMMONER = 0.1, 3.0
# Share of a theme's reviews that are in another, from which it belongs to that; but what half of
# all negative reviews say would take in everything
WITHIN, HALF = 0.7, 0.5
Z_LEAST = 2.0  # of the log-odds of a word that weighs against the product
PRIOR = 500.0  # words that the prior counts for
FEW_POSITIVE = 20  # with fewer to compare with, common words of the negative reviews are taken
# Of the clustering, chosen by reading what came of badminton and of made-up reviews
TOGETHER = 0.35  # weight of standing in one review, against standing between the same words
APART = 0.74  # distance from which groups of words are two themes
NEIGHBOURS, MOST_KNOWN, DIMENSIONS = 2, 5_000, (20, 30, 50)
REACH = 3  # places behind a negation
KNOWN_SHARE = 0.0006  # of the reviews, that have a word by whose neighbours others are known
LONGEST_PHRASE = 5  # words
NAMES = 3  # phrases of a theme
STRONG = 4.0  # weight from which one word may name a theme as well as any
NAMED_BY = 5_000  # reviews that are looked through for them
WORTH = (1.0, 3.0, 4.0)  # of a phrase of one word, of two, of more: how much it says
EXAMPLES = 3
SHORT, LONG = 25, 140  # characters of a good example

# Say that something is bad, or are about buying as such, and not what is wrong
_VERDICT_WORDS = """
a able again all already also always amazing anyone anything average avoid awesome awful awesomely
bad badly be beautiful become believe best better bought brilliant bro buy buying came can cant
cheers come complete completely could disappoint disappointed disappointing disappointment
disgusting dislike do dont due else enough even ever every everyone everything excellent expect
expected expecting experience extremely fabulous fantastic feel felt find fine first friends full
fully get gets getting give given giving go going good got great guys happy hate have horrible
item items just kind know like liked little look looking lot love loved made make makes many may
mistake much must need never next nice nothing number ok okay okey one online order ordered
ordering overall part pathetic people perfect piece pieces please pls plz poor pretty product
products properly purchase purchased purchasing put quality rating really rest recommend
recommended regret review reviews rubbish said same satisfaction satisfied say see seem seems sell
send sending sent sir sorry star stars still stuff such super superb sure take terrible thing
things think third thought time times totally tried try two unhappy upto use used useful useless
user using value very want wanted waste wasted way well went whole worse worst worth would wow yes
"""
VERDICTS = frozenset(map(stem_words, _VERDICT_WORDS.split()))
# What is not one of these holds a text together or is a single sign
_LINKS = STOP_WORDS | {"within", "without", "upto"}
# A sign of a script without blanks is a word; so is a run of letters, marks and digits
_TOKEN = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff]"
    "|(?:[^\\W_]|[\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0970-\u0dff\u0e31-\u0f84])"
    "(?:[^\\W_\u3040-\u30ff\u3400-\u9fff]|['\u2019][^\\W_]"
    "|[\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0970-\u0dff\u0e31-\u0f84])*"
    "|[.,;:!?()\u2026\n\u0964\u3001\u3002\uff0c\uff01\uff1f]"
)
_JOINERS = "\u200c\u200d"  # stand inside a word of Persian, Hindi and others, and are not seen
_NOT = "not"
Kind = Literal["word", "link", "number", "end"]


@dataclass(frozen=True)
class Example:
    """A review, with the places of the theme's words in it; no stars are 0."""

    text: str
    places: tuple[tuple[int, int], ...]
    stars: int


@dataclass(frozen=True)
class Theme:
    """A complaint: phrases in customers' spelling, and how many negative reviews make it.

    `share` is of the negative reviews. `trend` is None without months, `odds` without 3 stars.
    `is_general` is the one that says only that it is bad.
    """

    phrases: tuple[str, ...]
    reviews: int
    share: Interval
    examples: tuple[Example, ...]
    trend: Trend | None = None
    odds: StarOdds | None = None
    is_general: bool = False

    @property
    def name(self) -> str:
        """Return the phrases as one name."""
        return ", ".join(self.phrases)


@dataclass(frozen=True)
class Complaints:
    """What was found; `themes` are sorted by size, the general one is last.

    `without` negative reviews are of no theme. `months` names the first and the last month.
    """

    themes: tuple[Theme, ...]
    reviews: int
    negative: int
    without: int
    source: str
    judged: str
    notes: tuple[str, ...]
    months: tuple[str, str] | None
    no_stars: str = ""  # why 1–2 and 3 stars are not compared

    @property
    def summary(self) -> str:
        """Return in a sentence what was looked at."""
        if not self.negative:
            return f"None of {self.reviews:,} reviews is negative ({self.judged})"
        counts = f"{self.negative:,} of {self.reviews:,} reviews"
        return f"{counts} are negative, {self.negative / self.reviews:.1%} ({self.judged})"

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the examples, ready for JSON."""
        fields = asdict(self)
        for theme, found in zip(fields["themes"], self.themes, strict=True):
            del theme["examples"]
            theme["name"] = found.name
        return fields


def find_complaints(reviews: Reviews) -> Complaints:
    """Find the themes of the negative reviews, with their trends and their odds by stars."""
    read = [_read(text) for text in reviews.texts]
    weighing = _weighing(read, reviews)
    drafts = _drafts(read, weighing, reviews)
    trends_of = trends([rows for _, rows, _ in drafts], reviews)
    odds = odds_by_stars([rows for _, rows, _ in drafts], reviews)
    themes, negative = [], int(reviews.negative.sum())
    covered = np.zeros(len(read), dtype=bool)
    for (units, rows, is_general), trend, by_stars in zip(drafts, trends_of, odds, strict=True):
        own = np.flatnonzero(rows & reviews.negative)
        phrases = _phrases(read, own, {unit: weighing[unit] for unit in units}, reviews.texts)
        share = wilson_interval(len(own), negative)
        if not phrases or share is None:  # a group of which hardly anybody has the same word
            continue
        covered |= rows
        themes.append(
            Theme(
                phrases=tuple(phrase.written for phrase in phrases),
                reviews=len(own),
                share=share,
                examples=_examples(read, own, units, phrases, reviews),
                trend=trend,
                odds=by_stars,
                is_general=is_general,
            )
        )
    dates = reviews.months[reviews.months != NO_MONTH]
    return Complaints(
        themes=tuple(themes),
        reviews=len(read),
        negative=negative,
        without=int((reviews.negative & ~covered).sum()),
        source=reviews.source,
        judged=reviews.judged,
        notes=reviews.notes,
        months=(month_name(int(dates.min())), month_name(int(dates.max()))) if len(dates) else None,
        no_stars="" if any(odds) else why_no_odds(reviews),
    )


def _drafts(
    read: Sequence[_Read], weighing: Mapping[str, float], reviews: Reviews
) -> list[tuple[set[str], Bools, bool]]:
    """Return the units of each theme, which reviews have one, and whether it is the general one.

    The themes with most negative reviews come first, and the general one last: the reviews that
    have none of the others.
    """
    least = max(LEAST_REVIEWS, LEAST_SHARE * int(reviews.negative.sum()))

    def rows_of(units: set[str]) -> Bools:
        return np.array([not units.isdisjoint(one.units) for one in read], dtype=bool)

    def size(rows: Bools) -> int:
        return int((rows & reviews.negative).sum())

    telling = [unit for unit in weighing if not _is_verdict(unit)]
    groups = _grouped_words(read, reviews, telling)
    half = HALF * int(reviews.negative.sum())
    found = [(units, rows_of(units)) for units in groups]
    found.sort(key=lambda group: (size(group[1]), min(group[0])))
    for at, (units, rows) in enumerate(found):  # the smallest first
        inside = [
            size(rows & larger) if size(larger) < half else 0 for _, larger in found[at + 1 :]
        ]
        if inside and max(inside) >= WITHIN * size(rows):
            into = at + 1 + int(np.argmax(inside))
            found[into] = found[into][0] | units, found[into][1] | rows
            found[at] = set(), np.zeros_like(rows)
    found = [(units, rows) for units, rows in found if size(rows) >= least]
    found.sort(key=lambda group: (-size(group[1]), min(group[0])))
    drafts = [(units, rows, False) for units, rows in found[:MOST_THEMES]]
    blunt = {unit for unit in weighing if _is_verdict(unit)}
    rows = rows_of(blunt)
    for _, taken, _ in drafts:
        rows &= ~taken
    return [*drafts, (blunt, rows, True)] if size(rows) >= least else drafts


# --- words ------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: Kind
    key: str  # a stem
    start: int
    end: int
    negated: int  # the place of the negation among the tokens; -1 for none


class _Read(NamedTuple):
    """A review as tokens, and its units: stems, with `not ` before negated ones, and pairs.

    A pair is two stems joined by `+`, with nothing but links between them.
    """

    tokens: list[_Token]
    units: frozenset[str]


_keys: dict[str, tuple[Kind, str]] = {}


def _key(word: str) -> tuple[Kind, str]:
    """Return what kind of token a word is, and its key."""
    known = _keys.get(word)
    if known is None:
        plain = word.lower().replace("\u2019", "'")
        bare = plain.replace("'", "")
        kind: Kind = "word"
        if not word[0].isalnum() and len(word) == 1:
            kind, key = "end", word
        elif bare in CONTRACTIONS or plain in NEGATIONS:
            kind, key = "link", _NOT
        elif plain in _LINKS or (len(bare) == 1 and bare.isascii() and bare.isalpha()):
            kind, key = "link", bare
        elif bare.isdecimal():
            kind, key = "number", "#"
        else:
            key = stem_words(plain.removesuffix("'s").replace("'", ""))
        if len(_keys) > 500_000:
            _keys.clear()
        known = _keys[word] = kind, key
    return known


def _read(text: str) -> _Read:
    """Cut a text into tokens; a negation reaches the next word, and the second unless it judges."""
    tokens: list[_Token] = []
    units = set[str]()
    negation, left, words, before = -1, 0, 0, ""
    for found in _TOKEN.finditer(text):
        kind, key = _key(found[0])
        negated = -1
        if kind in ("end", "number"):
            before = ""
        if kind == "end":
            left = 0
        elif key == _NOT and kind == "link":
            negation, left, words = len(tokens), REACH + 1, 2
        elif kind == "word":
            if left > 0 and words > 0:
                negated, words = negation, words - 1
                if key in VERDICTS and key not in ("good", "qualiti", "real"):
                    words = 0
            unit = f"{_NOT} {key}" if negated >= 0 else key
            units.add(unit)
            if before:
                units.add(f"{before}+{unit}")
            before = unit
        left -= 1
        tokens.append(_Token(kind, key, *found.span(), negated))
    return _Read(tokens, frozenset(units))


def _stems_of(unit: str) -> list[str]:
    return [part.removeprefix(f"{_NOT} ") for part in unit.split("+")]


def weight_against(negative: Ints, positive: Ints) -> Floats:
    """Return the z-score of each word's log-odds, negative against positive, by Monroe et al.

    Both have shape (words,) and count the reviews that have each word. The prior counts
    `PRIOR` words, shared out as in all reviews together.
    """
    both = (negative + positive) / max(int(negative.sum() + positive.sum()), 1) * PRIOR

    def log_odds(counts: Ints) -> Floats:
        seen = counts + both
        return np.asarray(np.log(seen) - np.log(counts.sum() + PRIOR - seen))

    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(1 / (negative + both) + 1 / (positive + both))
        return np.asarray((log_odds(negative) - log_odds(positive)) / spread)


def _is_verdict(unit: str) -> bool:
    return all(stem in VERDICTS for stem in _stems_of(unit))


def _weighing(read: Sequence[_Read], reviews: Reviews) -> dict[str, float]:
    """Return the units that weigh against the product, and how much they do, heaviest first.

    Those of which `_is_verdict` is true say no more than that.
    """
    negative, positive, every = (Counter[str]() for _ in range(3))
    for one, bad, good in zip(read, reviews.negative, reviews.positive, strict=True):
        every.update(one.units)
        if bad:
            negative.update(one.units)
        elif good:
            positive.update(one.units)
    least = max(LEAST_REVIEWS, 0.004 * int(reviews.negative.sum()))
    names = sorted(every)
    counts = np.array([(negative[name], positive[name]) for name in names], dtype=np.int64)
    if not names:
        return {}
    weight = weight_against(counts[:, 0], counts[:, 1])
    comparable = int(reviews.positive.sum()) >= FEW_POSITIVE
    if not comparable:
        weight = counts[:, 0].astype(float)
    most = max(COMMON * len(read), least) if comparable else 0.5 * len(read)

    far = FAR_COMMONER * reviews.negative.sum() / max(reviews.positive.sum(), 1)

    def is_topic(stem: str) -> bool:
        is_far = comparable and negative[stem] > far * (positive[stem] + 1)
        return every[stem] > most and not is_far

    kept: dict[str, float] = {}
    for pairs in (False, True):
        for at, name in enumerate(names):
            parts = name.split("+")
            if (len(parts) > 1) != pairs or negative[name] < least:
                continue
            if comparable and weight[at] < Z_LEAST:
                continue
            telling = [stem for stem in _stems_of(name) if stem not in VERDICTS]
            if pairs:  # of one whose words count by themselves nothing is new
                fits = not all(map(is_topic, telling))
                fits &= not any(part in kept and not _is_verdict(part) for part in parts)
            else:
                fits = not any(map(is_topic, telling))
            if fits:
                kept[name] = float(weight[at])
    heaviest = sorted(kept, key=lambda name: (-kept[name], name))[:MOST_WORDS]
    return {name: kept[name] for name in heaviest}


# --- themes -----------------------------------------------------------------------------------


def _grouped_words(read: Sequence[_Read], reviews: Reviews, units: Sequence[str]) -> list[set[str]]:
    """Return the groups of units that are themes."""
    from sklearn.cluster import AgglomerativeClustering

    if len(units) < 2:
        return [{unit} for unit in units]
    places = {unit: at for at, unit in enumerate(units)}
    cells = [
        (row, places[unit])
        for row, one in enumerate(read)
        if reviews.negative[row]
        for unit in one.units
        if unit in places
    ]
    rows, columns = np.array(cells).T
    has = sparse.csr_matrix((np.ones(len(cells)), (rows, columns)), shape=(len(read), len(units)))
    both = np.asarray((has.T @ has).todense())
    counts = np.maximum(np.diagonal(both), 1.0)
    together = both / np.sqrt(np.outer(counts, counts))
    telling = [[stem for stem in _stems_of(unit) if stem not in VERDICTS] for unit in units]
    alike = _alike(read, telling)
    distance = np.clip(1 - (1 - TOGETHER) * alike - TOGETHER * together, 0.0, None)
    np.fill_diagonal(distance, 0.0)
    clustering = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=APART
    )
    groups: dict[int, set[str]] = {}
    for unit, label in zip(units, clustering.fit_predict(distance), strict=True):
        groups.setdefault(int(label), set()).add(unit)
    return [groups[label] for label in sorted(groups)]


def _alike(read: Sequence[_Read], units: Sequence[Sequence[str]]) -> Floats:
    """Return the cosines of the units' vectors, shape (units, units): who has which neighbours.

    A unit is one or more stems; its vector is their sum.
    """
    from sklearn.decomposition import TruncatedSVD

    counts = Counter(key for one in read for key in {token.key for token in one.tokens})
    common = sorted(counts, key=lambda key: (-counts[key], key))
    least = max(LEAST_REVIEWS, KNOWN_SHARE * len(read))
    known = [key for key in common[:MOST_KNOWN] if counts[key] >= least]
    stems = dict.fromkeys(stem for unit in units for stem in unit)
    places = {key: at for at, key in enumerate(dict.fromkeys([*known, *stems]))}
    flat = np.array([places.get(token.key, -1) for one in read for token in one.tokens])
    row = np.repeat(np.arange(len(read)), [len(one.tokens) for one in read])
    size = len(places)
    pairs = sparse.csr_matrix((size, size))
    for apart in range(1, NEIGHBOURS + 1):
        first, second = flat[:-apart], flat[apart:]
        fits = (first >= 0) & (second >= 0) & (row[:-apart] == row[apart:])
        ones = np.ones(int(fits.sum()))
        found = sparse.coo_matrix((ones, (first[fits], second[fits])), shape=(size, size)).tocsr()
        pairs = pairs + found + found.T
    sums = np.asarray(pairs.sum(axis=1)).ravel()
    cells = pairs.tocoo()
    information = np.log(cells.data * sums.sum() / (sums[cells.row] * sums[cells.col]))
    informed = sparse.csr_matrix(
        (np.maximum(information, 0.0), (cells.row, cells.col)), shape=(size, size)
    )
    most = min(max(DIMENSIONS), size - 1)
    if most < 2 or not informed.nnz:
        return np.eye(len(units))
    svd = TruncatedSVD(most, random_state=0).fit(informed)
    every = svd.transform(informed) / np.sqrt(np.maximum(svd.singular_values_, 1e-9))
    cosines = []
    for dimensions in DIMENSIONS:  # no one number is the right one
        words = _unit_length(every[:, :dimensions])
        vectors = _unit_length(
            np.array([sum(words[places[stem]] for stem in unit) for unit in units])
        )
        cosines.append(vectors @ vectors.T)
    return np.asarray(np.mean(cosines, axis=0))


def _unit_length(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


# --- names and examples -----------------------------------------------------------------------


def _spans(one: _Read, units: Collection[str]) -> list[tuple[int, int]]:
    """Return first and last token of each unit in a review; a negation is part of it."""
    spans = []
    before, start = "", 0  # the word before, and where it begins
    for at, token in enumerate(one.tokens):
        if token.kind in ("end", "number"):
            before = ""
        if token.kind != "word":
            continue
        unit = token.key if token.negated < 0 else f"{_NOT} {token.key}"
        first = token.negated if token.negated >= 0 else at
        if f"{before}+{unit}" in units:
            spans.append((start, at))
        if unit in units:
            spans.append((first, at))
        before, start = unit, first
    return spans


class Phrase(NamedTuple):
    """What several reviews say, in the commonest spelling, and those that say it in any."""

    written: str
    rows: set[int]


def _phrases(
    read: Sequence[_Read], rows: Ints, units: Mapping[str, float], texts: Sequence[str]
) -> list[Phrase]:
    """Return up to `NAMES` phrases that at least `LEAST_REVIEWS` of the reviews spell alike.

    Each is the one that says most about reviews which no phrase before it names. `units` has the
    weight of each unit of the theme.
    """
    rows_of: dict[tuple[str, ...], set[int]] = {}
    spelling: dict[tuple[str, ...], dict[str, set[int]]] = {}
    worth: dict[tuple[str, ...], float] = {}
    for row in map(int, rows[:NAMED_BY]):
        text = texts[row]
        for part in _parts(read[row], units):
            # "box was crushed" and "crushed box" are the same
            key = tuple(sorted(token.key for token in part if _says(token)))
            rows_of.setdefault(key, set()).add(row)
            spelling.setdefault(key, {}).setdefault(_written(part, text), set()).add(row)
            worth[key] = WORTH[min(len(key), len(WORTH)) - 1]
            if len(key) == 1:
                worth[key] *= min(units.get(key[0], 0.0) / STRONG, 1.0)
    # The key of an order's number is that of any other: it is the spelling that has to be common
    most = {key: max(map(len, spelled.values())) for key, spelled in spelling.items()}
    usable = {key: found for key, found in rows_of.items() if most[key] >= LEAST_REVIEWS}
    stems = {stem for unit in units for stem in _stems_of(unit)}
    chosen: list[Phrase] = []
    named: set[int] = set()
    while usable and len(chosen) < NAMES:
        best = max(usable, key=lambda key: (len(usable[key] - named) * worth[key], key))
        if len(usable[best] - named) < (LEAST_REVIEWS if chosen else 1):
            break
        named |= usable[best]
        written = min(one for one, own in spelling[best].items() if len(own) == most[best])
        chosen.append(Phrase(written, usable[best]))
        said_now = stems.intersection(best)
        usable = {key: one for key, one in usable.items() if not said_now.intersection(key)}
    return chosen


def _says(token: _Token) -> bool:
    """Return whether a token is more than a link between others; *not* is."""
    return token.kind != "link" or token.key == _NOT


def _parts(one: _Read, units: Collection[str]) -> Iterator[list[_Token]]:
    """Yield the runs of up to `LONGEST_PHRASE` tokens that have a unit and stand by themselves."""
    for first, last in _spans(one, units):
        for start in range(max(0, last - LONGEST_PHRASE + 1), first + 1):
            if one.tokens[start].kind == "number" or not _says(one.tokens[start]):
                continue
            for end in range(last, min(len(one.tokens), start + LONGEST_PHRASE)):
                if one.tokens[end].kind == "end":
                    break
                part = one.tokens[start : end + 1]
                if part[-1].kind == "word" and all(token.kind != "end" for token in part):
                    yield part


def _written(part: Sequence[_Token], text: str) -> str:
    """Return a run of tokens as it is shown: what stands between two of them is one blank."""
    shown, done = "", part[0].start
    for token in part:
        between = text[done : token.start]
        shown += (" " if between.strip(_JOINERS) else between) + text[token.start : token.end]
        done = token.end
    return _plain(shown)


def _plain(written: str) -> str:
    """Return a text in small letters with single blanks."""
    return " ".join(written.lower().replace("\u2019", "'").split())


def _examples(
    read: Sequence[_Read], rows: Ints, units: set[str], phrases: Sequence[Phrase], reviews: Reviews
) -> tuple[Example, ...]:
    """Return reviews that say much of the theme in few words, one for each phrase if there is."""
    counts = Counter(unit for row in rows for unit in read[row].units & units)

    def score(row: int) -> tuple[float, int, int]:
        length = len(reviews.texts[row])
        fit = min(1.0, length / SHORT) * min(1.0, LONG / max(length, 1))
        said = sum(np.log1p(counts[unit]) for unit in read[row].units & units)
        return -fit * said, length, row

    ranked = sorted((int(row) for row in rows), key=score)
    chosen: list[int] = []
    texts: set[str] = set()
    anywhere = set(ranked)
    for wanted in (*(phrase.rows for phrase in phrases), *[anywhere] * EXAMPLES):
        for row in ranked:
            text = _plain(reviews.texts[row])
            if row in wanted and text not in texts and len(chosen) < EXAMPLES:
                chosen.append(row)
                texts.add(text)
                break
    return tuple(
        Example(reviews.texts[row], tuple(_places(read[row], units)), int(reviews.stars[row]))
        for row in chosen
    )


def _places(one: _Read, units: set[str]) -> list[tuple[int, int]]:
    """Return the characters of the units in a review, in order, without overlaps."""
    places: list[tuple[int, int]] = []
    for first, last in _spans(one, units):
        start, end = one.tokens[first].start, one.tokens[last].end
        if places and start < places[-1][1]:
            places[-1] = places[-1][0], max(end, places[-1][1])
        else:
            places.append((start, end))
    return places
