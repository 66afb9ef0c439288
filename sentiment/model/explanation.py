"""Read a raw text as a model does, and explain a decision: which terms decided, and from where.

`Explainer.read` is the one way from a raw text to what is counted of it: an answer, the prediction
log, the drift reference and a file that is checked for drift all count what it returns.

A term contributes its TF-IDF value times its weight. Added up in alphabetical order of the terms,
with the intercept last, contributions give the decision value to the last bit. Terms that read
alike, `not_good` and `not not_good`, are one contribution; then it is but for rounding.

What scrapers leave is undone first, and then the guide's cleaning only deletes characters until it
looks at words one by one. The other cleaning says itself where its words stand. So every cleaned
word can be traced to the characters that are left of it in the text as it was sent. Words that
cannot be traced for certain are left out: a mark in the wrong place would be a false reason.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sentiment.metrics import Floats
from text_cleaning import (
    EMOJI_RUN,
    HTML_TAG,
    MAX_PASSES,
    REPLACEMENTS,
    URL,
    TextCleaner,
    clean_text,
    clean_texts,
    keep_letters,
    lowercase,
    negation_words,
    readable,
    remove_emoji,
    remove_html_tags,
    remove_urls,
    undo_scraping,
)

SPELLED = 20  # places in which is looked how a term is written
Range = tuple[int, int]  # of characters, the second one excluded
Places = tuple[Range, ...]  # of one word

USUAL_WORD = r"(?u)\b\w\w+\b"  # scikit-learn's pattern of a word, unless another is asked for
_WORD = re.compile(r"\S+")
# A tag can span several words and glue two together, and a link can hang on a word. Without
# either, cleaning treats each word by itself.
_TAG_OR_LINK = re.compile(r"<|://|www\.", re.IGNORECASE)
# The steps that delete what stands between letters, in their order, and what each looks for
_DELETIONS = ((EMOJI_RUN, remove_emoji), (URL, remove_urls), (HTML_TAG, remove_html_tags))


@dataclass(frozen=True)
class Contribution:
    """What one term adds to the decision value, and where in the raw text it stands.

    `term` is as a reader sees it: a marked word has its "not" in front. `at` has a range for each
    occurrence. That of a term of two words reaches from the start of the first to the end of the
    second. A negation that stands apart from what it negates has a range of its own: `parts` is how
    many ranges the first occurrence has. There are none where the places are not certain.
    """

    term: str
    weight: float
    at: tuple[Range, ...]
    parts: int = 1

    def written(self, text: str) -> str:
        """Return the term as it first stands in the text; as it is where its place is not known."""
        return " … ".join(text[start:end] for start, end in self.at[: self.parts]) or self.term

    def with_other(self, other: Contribution) -> Contribution:
        """Return this and another one as one, of this one's term."""
        at = tuple(dict.fromkeys((*self.at, *other.at)))
        return Contribution(self.term, self.weight + other.weight, at, self.parts)


@dataclass(slots=True)  # not frozen, here and below: that takes five times as long to make
class Terms:
    """A cleaned text as a vectorizer sees it.

    `words` are those that the vectorizer takes for words. `found` has the column, the first word
    and the last word of each occurrence of a known term; words are counted from 0.
    """

    words: list[str]
    found: list[tuple[int, int, int]]

    @property
    def known_words(self) -> int:
        """The number of words that are a known term or part of one."""
        known = set[int]()
        for _, first, last in self.found:
            known.add(first)
            if first < last:
                known.update(range(first + 1, last + 1))
        return len(known)


@dataclass(slots=True)
class ReadText:
    """A raw text as a model reads it.

    `text` is the text as it was sent, `body` what `undo_scraping` makes of it, of which characters
    are counted. `cleaned` is what the cleaning makes of that, `terms` what the vectorizer sees.
    """

    text: str
    body: str
    cleaned: str
    terms: Terms


class Explainer:
    """Read texts for one model, and explain its decisions.

    It needs the model's fitted vectorizer, its terms' weights, and its cleaner, by default the
    guide's. Without weights, shape (terms,), nothing is explained.
    """

    def __init__(
        self,
        vectorizer: Any,
        weights: Floats | None = None,
        cleaner: TextCleaner | None = None,
    ) -> None:
        self._weights = weights
        self._cleaner = cleaner or TextCleaner()
        self._names: list[str] = vectorizer.get_feature_names_out().tolist()
        self._vocabulary: dict[str, int] = vectorizer.vocabulary_
        self._tokenize = vectorizer.build_tokenizer()
        self._is_usual = self._tokenize == re.compile(USUAL_WORD).findall
        self._stop_words = vectorizer.get_stop_words() or frozenset()
        shortest, longest = vectorizer.ngram_range
        self._sizes = range(shortest, longest + 1)

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """Return raw texts as the model reads them. Raises TypeError as `clean_texts` does."""
        bodies = (
            texts  # refused, as are items that are none, by the cleaning
            if isinstance(texts, str)
            else [undo_scraping(text) if isinstance(text, str) else text for text in texts]
        )
        return [
            ReadText(text, body, cleaned, self.terms(cleaned))
            for text, body, cleaned in zip(
                texts, bodies, clean_texts(bodies, self._cleaner.clean), strict=True
            )
        ]

    def terms(self, cleaned: str) -> Terms:
        """Return the words and the known terms of a cleaned text."""
        if self._is_usual and cleaned.isascii() and cleaned.replace(" ", "").isalpha():
            words = [word for word in cleaned.split(" ") if len(word) > 1]  # a tenth of the time
        else:
            words = self._tokenize(cleaned)
        if self._stop_words:
            words = [word for word in words if word not in self._stop_words]
        found: list[tuple[int, int, int]] = []
        for size in self._sizes:
            terms = words
            if size > 1:
                starts = range(len(words) - size + 1)
                terms = [" ".join(words[first : first + size]) for first in starts]
            found += [
                (column, first, first + size - 1)
                for first, column in enumerate(map(self._vocabulary.get, terms))
                if column is not None
            ]
        return Terms(words, found)

    def contributions(
        self, read: ReadText, columns: Any, values: Floats
    ) -> tuple[Contribution, ...]:
        """Return what each term of a text contributes, the weightiest first.

        `columns` and `values`, shape (known terms,), are the text's TF-IDF row. Ties are in
        alphabetical order.
        """
        if self._weights is None:
            return ()
        places = locate_words(read.text, read.cleaned, read.terms.words, self._cleaner)
        at: dict[int, list[Range]] = {}
        parts: dict[int, int] = {}
        if places:
            for column, first, last in read.terms.found:
                *before, (start, _) = places[first]
                at.setdefault(column, []).extend([*before, (start, places[last][-1][1])])
                parts.setdefault(column, len(before) + 1)
        weights = (values * self._weights[columns]).tolist()
        found: dict[str, Contribution] = {}
        for column, weight in zip(columns.tolist(), weights, strict=True):
            term, ranges = readable(self._names[column]), tuple(at.get(column, ()))
            one = Contribution(term, weight, ranges, parts.get(column, 1))
            # `not_good` and `not not_good`: to a reader, one reason
            found[one.term] = found[one.term].with_other(one) if one.term in found else one
        return tuple(sorted(found.values(), key=lambda contribution: -abs(contribution.weight)))

    def spellings(
        self, columns: Iterable[int], texts: Sequence[str], cleaned: Sequence[str]
    ) -> dict[int, str]:
        """Return how each of these terms is usually written in the texts, in small letters.

        `cleaned` are the texts after the cleaning. A term is looked up in the first `SPELLED` texts
        that have it, and left out where it stands in none. Ties go to the shorter, then the first.
        """
        seen: dict[int, Counter[str]] = {column: Counter() for column in columns}
        wanted = set(seen)
        for text, clean in zip(texts, cleaned, strict=True):
            if not wanted:
                break
            terms = self.terms(clean)
            found = {column: at for column, *at in terms.found if column in wanted}
            places = locate_words(text, clean, terms.words, self._cleaner) if found else []
            for column, (first, last) in found.items() if places else ():
                *before, (start, _) = places[first]
                ranges = [*before, (start, places[last][-1][1])]
                written = " ".join(text[begin:end] for begin, end in ranges)
                seen[column][" ".join(written.lower().split())] += 1
                if seen[column].total() == SPELLED:
                    wanted.remove(column)
        return {
            column: max(counts, key=lambda one: (counts[one], -len(one)))
            for column, counts in seen.items()
            if counts
        }


def locate_words(
    text: str, cleaned: str, words: Sequence[str], cleaner: TextCleaner | None = None
) -> list[Places]:
    """Return where the words of a cleaned text stand in the raw one, without outer punctuation.

    `words` are those that a vectorizer takes for words. Each has one range, in order, or two where
    it is negated by a word that does not stand right before it; that one's is the first. The list
    is empty when they cannot be traced.
    """
    body = undo_scraping(text)
    traced = list(_trace(body, cleaner or TextCleaner()))
    if " ".join([stem for stem, _ in traced]) != cleaned:
        return []
    places: list[Places] = []
    for stem, place in traced:
        if len(places) < len(words) and stem == words[len(places)]:
            places.append(place)
    if len(places) < len(words):
        return []
    ranges = iter(_as_sent([one for place in places for one in place], text, body))
    return [found for place in places if (found := tuple(islice(ranges, len(place))))]


def _as_sent(ranges: list[Range], text: str, body: str) -> list[Range]:
    """Return where ranges of a text's body stand in the text; none when that is not certain."""
    first = len(text) - len(text.lstrip())
    if text.startswith(body, first):  # nothing was replaced
        return [(start + first, end + first) for start, end in ranges]
    starts, ends = array("l", range(len(text))), array("l", range(1, len(text) + 1))
    for _ in range(MAX_PASSES):
        before = text
        for pattern, replacement in REPLACEMENTS:
            parts, kept_starts, kept_ends, end = [], array("l"), array("l"), 0
            for found in pattern.finditer(text):
                new = replacement if isinstance(replacement, str) else replacement(found)
                if new == found[0]:  # no such entity
                    continue
                parts += [text[end : found.start()], new]
                kept_starts += starts[end : found.start()]
                kept_ends += ends[end : found.start()]
                # each new character stands for all that was replaced
                kept_starts.extend([starts[found.start()]] * len(new))
                kept_ends.extend([ends[found.end() - 1]] * len(new))
                end = found.end()
            text = "".join([*parts, text[end:]])
            starts, ends = kept_starts + starts[end:], kept_ends + ends[end:]
        if text == before:
            break
    first = len(text) - len(text.lstrip())
    if not text.startswith(body, first):
        return []
    return [(starts[start + first], ends[end + first - 1]) for start, end in ranges]


def _trace(text: str, cleaner: TextCleaner) -> Iterator[tuple[str, Places]]:
    """Yield each cleaned word of a raw text and its places there, as `locate_words` has them."""
    if cleaner.cleaning == "negation":
        words = negation_words(text, cleaner.reach)
        for number, (word, start, end, negation) in enumerate(words):
            if negation is None:
                yield word, ((start, end),)
            elif negation == number - 1:
                yield word, ((words[negation].start, end),)
            else:
                yield word, ((words[negation].start, words[negation].end), (start, end))
        return
    if not _TAG_OR_LINK.search(text):
        for found in _WORD.finditer(text):
            if stem := clean_text(found[0]):
                yield stem, (_trimmed(text, *found.span()),)
        return
    left, places = _without_deletions(text)
    for found in _WORD.finditer(left):
        if stem := clean_text(keep_letters(found[0])):
            start, end = _trimmed(left, *found.span())
            yield stem, ((places[start], places[end - 1] + 1),)


def _without_deletions(text: str) -> tuple[str, array[int]]:
    """Return the text without capitals, emoji, links and tags, and each character's old place."""
    # a capital may become two characters
    places = array("l", (at for at, character in enumerate(text) for _ in lowercase(character)))
    text = lowercase(text)
    for pattern, step in _DELETIONS:
        parts, kept, end = [], array("l"), 0
        for found in pattern.finditer(text):
            left = step(found[0])  # digits may be left of a run of emoji
            parts += [text[end : found.start()], left]
            kept += places[end : found.start() + len(left)]
            end = found.end()
        text, places = "".join([*parts, text[end:]]), kept + places[end:]
    return text, places


def _trimmed(text: str, start: int, end: int) -> Range:
    """Return the range from its first letter or digit to its last; it has at least one."""
    while not text[start].isalnum():
        start += 1
    while not text[end - 1].isalnum():
        end -= 1
    return start, end
