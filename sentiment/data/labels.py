"""Decide what a rating or a label in a file means: how many stars, negative or positive.

    cells = LabelCells(Labelling(scale=10))
    cells.stars(["8", "3 / 10", "★★★★☆", ""])    # [4, 2, 4, NO_RATING]
    [cells.rule.label_of(4), cells.rule.label_of(2)]  # [1, 0]

Only what is light is imported here, since every command line is parsed with it.

`Labelling` is what the user says of a file, `LabelRule` what it comes to. The rule is kept with
every version that is trained by it, as one tag: two versions are comparable if their rules are
equal. Labels become 1 star or 5, which are negative and positive by any rule.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from sentiment.errors import ReviewDataError

CLASS_NAMES = ("negative", "positive")  # index = label
NEGATIVE_UP_TO = 2  # ratings 1–2 are negative, 3–5 positive, as in the guide
NEUTRAL = 3
STARS = {0: 1, 1: 5}  # label → rating, where there is only a label
SCALES = (5, 10, 100)
LABEL_RULE = "label_rule"  # tag of a run and of a version: `str` of its `LabelRule`
# Of labels; in order, as all names are, so that equal rules are equal
NEGATIVE_NAMES = ("-1", "0", "false", "neg", "negative")
POSITIVE_NAMES = ("1", "pos", "positive", "true")
AS_GIVEN = "labels as given"  # the rule of a file with these names
# What `stars` says of other cells: nothing in it, no rating, and neither negative nor positive
NO_RATING, WRONG_RATING, OTHER = 0, -1, -2
MANY = 0.1  # share of the ratings above 5 from which they are taken for another scale
NAMES_KEPT = 5  # of other labels; with more of them it may be the column of texts
LONGEST_NAME = 20
LONGEST_RULE = 200  # characters of a tag

# `4`, `4,5`, `4.0 out of 5 stars`, `4 stars`, `4/5`
_WRITTEN = re.compile(
    r"(\d{1,3}(?:[.,]\d{1,9})?)\s*(?:★|⭐|stars?)?"
    r"(?:\s*(?:/|(?:out )?of)\s*(\d{1,3})(?:\.0+)?\s*(?:★|⭐|stars?)?)?",
    re.IGNORECASE,
)
_DRAWN = re.compile("([★⭐]*)(½?)([☆✩]*)")  # ★★★★☆
_WHOLE = re.compile(r"\+?(-?\d+)(?:\.0+)?")
_NAMED_TAG = re.compile("labels (.+) negative, (.+) positive")


@dataclass(frozen=True)
class LabelRule:
    """What counts as negative and what as positive.

    Without names, stars decide: up to `negative_up_to` (1–4) they are negative, and with
    `drop_neutral` 3 stars are neither. With names, which are in lower case, labels do; stars that
    come later, as feedback, then count as in the guide.
    """

    negative_up_to: int = NEGATIVE_UP_TO
    drop_neutral: bool = False
    negative: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()

    def __str__(self) -> str:
        if (self.negative, self.positive) == (NEGATIVE_NAMES, POSITIVE_NAMES):
            return AS_GIVEN
        if self.negative:
            return f"labels {'|'.join(self.negative)} negative, {'|'.join(self.positive)} positive"
        first = self.negative_up_to + 1 + self.drop_neutral
        up_to = f"1–{self.negative_up_to}" if self.negative_up_to > 1 else "1"
        return f"{up_to} negative, {first if first == 5 else f'{first}–5'} positive"

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Self:
        """Return the rule of a version's tags; one without it was trained by the guide's."""
        tag = tags.get(LABEL_RULE, "")
        if tag == AS_GIVEN:
            return cls(negative=NEGATIVE_NAMES, positive=POSITIVE_NAMES)
        if named := _NAMED_TAG.fullmatch(tag):
            return cls(
                negative=tuple(named[1].split("|")),
                positive=tuple(named[2].split("|")),
            )
        if stars := re.fullmatch(r"1(?:–(\d))? negative, (\d)(?:–5)? positive", tag):
            up_to = int(stars[1] or 1)
            return cls(up_to, drop_neutral=int(stars[2]) > up_to + 1)
        return cls()

    def label_of(self, stars: int) -> int | None:
        """Return 0 (negative), 1 (positive), or None for stars (1–5) that are neither."""
        if self.drop_neutral and stars == NEUTRAL:
            return None
        return int(stars > self.negative_up_to)


GUIDES = LabelRule()


@dataclass(frozen=True)
class Labelling:
    """What the user says of a file's ratings or labels; None is what was not said.

    `label_column` has labels instead of ratings; `positive` and `negative` are their names, joined
    by commas. `scale` is the highest rating, one of `SCALES`. The others are a `LabelRule`'s.
    Raises `ReviewDataError` for what does not go together.
    """

    label_column: str | None = None
    positive: str | None = None
    negative: str | None = None
    scale: int | None = None
    negative_up_to: int | None = None
    drop_neutral: bool | None = None

    def __post_init__(self) -> None:
        of_stars = (self.scale, self.negative_up_to, self.drop_neutral)
        if self.label_column is None and (self.positive is not None or self.negative is not None):
            raise ReviewDataError("--positive and --negative name labels: give --label-column too")
        if self.label_column is not None and any(value not in {None, False} for value in of_stars):
            raise ReviewDataError(
                "--scale, --negative-up-to and --drop-neutral are of ratings; drop them or "
                "--label-column"
            )
        if self.scale not in {None, *SCALES}:
            raise ReviewDataError(f"--scale: expected 5, 10 or 100, found {self.scale}")
        if self.negative_up_to not in {None, 1, 2, 3, 4}:
            raise ReviewDataError(
                f"--negative-up-to: expected 1 to 4 stars, found {self.negative_up_to}"
            )
        if self.drop_neutral and self.negative_up_to not in {None, NEGATIVE_UP_TO}:
            raise ReviewDataError(
                "--drop-neutral leaves out 3 stars, between 1–2 and 4–5; leave --negative-up-to out"
            )
        rule = self.rule
        named = (*rule.negative, *rule.positive)
        if twice := [name for name in rule.negative if name in rule.positive]:
            raise ReviewDataError(
                f"--positive and --negative both have {twice[0]!r:.40}; take it out of one"
            )
        if any("|" in name for name in named) or len(str(rule)) > LONGEST_RULE:
            raise ReviewDataError(
                "--positive and --negative: expected short names, joined by commas, without '|'"
            )
        if self.label_column is not None and not (rule.negative and rule.positive):
            raise ReviewDataError("--positive and --negative: one has no name left; give both")

    @property
    def rule(self) -> LabelRule:
        """What was said, and else the guide's rule, or the usual names of labels."""
        if self.label_column is None:
            up_to = NEGATIVE_UP_TO if self.negative_up_to is None else self.negative_up_to
            return LabelRule(up_to, bool(self.drop_neutral))
        given = [_names(names) for names in (self.negative, self.positive)]
        negative, positive = (
            named or tuple(name for name in usual if name not in other)
            for named, usual, other in zip(
                given, (NEGATIVE_NAMES, POSITIVE_NAMES), given[::-1], strict=True
            )
        )
        return LabelRule(negative=negative, positive=positive)

    def following(self, known: LabelRule) -> Labelling:
        """Return this with a version's rule where nothing else was said."""
        if known == self.rule:
            return self
        if self.label_column is not None:
            if not known.negative or (self.negative, self.positive) != (None, None):
                return self
            names = ",".join(known.negative), ",".join(known.positive)
            return replace(self, negative=names[0], positive=names[1])
        if known.negative or (self.negative_up_to, self.drop_neutral) != (None, None):
            return self
        return replace(
            self, negative_up_to=known.negative_up_to, drop_neutral=known.drop_neutral or None
        )


AS_RATED = Labelling()


def _names(given: str | None) -> tuple[str, ...]:
    """Return the names of an option, as `_plain` has them, in order."""
    return tuple(sorted({_plain(name) for name in (given or "").split(",")} - {""}))


class LabelCells:
    """Read the ratings or labels of one file, and remember what was unusual."""

    def __init__(self, labelling: Labelling = AS_RATED) -> None:
        self.rule = labelling.rule
        self.by_labels = labelling.label_column is not None
        self.what = "labels" if self.by_labels else "ratings"
        self._scale = labelling.scale or SCALES[0]
        self._others: set[str] = set()
        self._seen: set[str] = set()
        self._rated = self._above = self._halves = 0
        self._highest = 0.0

    def stars(self, written: Sequence[Any]) -> list[int]:
        """Return stars 1–5 for each cell, or `NO_RATING`, `WRONG_RATING` or `OTHER`.

        A rating may be `4`, `4.0`, `4/5`, `4.0 out of 5 stars` or `★★★★☆`; one that names its own
        scale is read by that. Others are read by the file's scale. Halves count upwards.
        """
        if self.by_labels:
            return [self._star_of(_plain(cell)) for cell in written]
        known: dict[Any, int] = {}
        for cell, count in Counter(written).items():  # few differ, whatever the number of rows
            known[cell], number = self._rating(cell)
            self._rated += count
            self._above += count * (number > self._scale)
            self._halves += count * (number % 1 == 0.5 and self._scale == SCALES[0])
            self._highest = max(self._highest, number)
        return [known[cell] for cell in written]

    def _star_of(self, name: str) -> int:
        if not name:
            return NO_RATING
        for label, names in enumerate((self.rule.negative, self.rule.positive)):
            if name in names:
                self._seen.add(name)
                return STARS[label]
        if len(self._others) <= NAMES_KEPT:
            self._others.add(name)
        return OTHER

    def _rating(self, cell: Any) -> tuple[int, float]:
        """Return the stars, and the number where one is written on the file's own scale."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return NO_RATING, 0.0
        text = str(cell).strip()
        if not text:
            return NO_RATING, 0.0
        top, own = self._scale, 0.0
        if written := _WRITTEN.fullmatch(text):
            number = float(written[1].replace(",", "."))
            if written[2] is None:
                own = number
            else:
                top = int(written[2])
        else:
            drawn = _DRAWN.fullmatch(text.replace("\ufe0f", "").replace(" ", ""))
            full, half, empty = (len(part) for part in drawn.groups()) if drawn else (0, 0, 0)
            number, top = full + half / 2, 5
            if not drawn or (empty and full + half + empty != top):
                return WRONG_RATING, own
        lowest = 0.5 if top == SCALES[0] else 0
        wrong = top not in SCALES or not lowest <= number <= top
        if wrong or (top == SCALES[0] and number * 2 % 1):
            return WRONG_RATING, own
        stars = max(math.floor(number * 5 / top + 0.5), 1)
        neither = self.rule.drop_neutral and stars == NEUTRAL
        return OTHER if neither else stars, own

    def doubt(self) -> str:
        """Return why labels may mean two things, or ratings have another scale; "" if not."""
        if {"-1", "0"} <= self._seen and self.rule.negative == NEGATIVE_NAMES:
            return (
                "the labels -1 and 0 would both be negative; name the negative ones with "
                "--negative=-1, or --negative=-1,0"
            )
        wider = [scale for scale in SCALES if scale >= self._highest]
        if self._above and self._above >= MANY * self._rated and wider:
            return (
                f"ratings go up to {self._highest:g}, expected 1 to {self._scale}; say their scale "
                f"with --scale {wider[0]}"
            )
        return ""

    def missing(self, stars: Iterable[int]) -> str:
        """Return which class has no label among these stars, though there are other labels."""
        for label, names in enumerate((self.rule.negative, self.rule.positive)):
            if names and self._others and STARS[label] not in stars:
                return (
                    f"no row is labelled {CLASS_NAMES[label]} ({', '.join(names)}); there are "
                    f"{self.others()}; name them with --negative and --positive"
                )
        return ""

    @property
    def expected(self) -> str:
        """What a rating should be."""
        lowest = 1 if self._scale == SCALES[0] else 0
        return f"stars from {lowest} to {self._scale}, whole or half"

    def others(self) -> str:
        """Return what is neither negative nor positive; more than a few names are not told."""
        if not self.by_labels:
            return "3 stars"
        longest = max(map(len, self._others), default=0)
        if not 0 < len(self._others) <= NAMES_KEPT or longest > LONGEST_NAME:
            return "other labels"
        return f"other labels ({', '.join(map(repr, sorted(self._others)))})"

    def notes(self) -> list[str]:
        """Return how the cells were read, where that is not as usual."""
        notes = [] if self._scale == SCALES[0] else [f"on a scale of {self._scale}"]
        notes += [f"{self._halves:,} half stars rounded up"] if self._halves else []
        return notes + ([str(self.rule)] if self.rule != GUIDES else [])


def _plain(cell: Any) -> str:
    """Return a label in lower case, without outer white space; 1 for 1.0."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    text = str(cell).strip().casefold()
    number = _WHOLE.fullmatch(text)
    return number[1] if number else text
