"""Explanation: contributions by hand, and places that are right or not given at all."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from sentiment.model.explanation import Contribution, Explainer, ReadText, Terms, locate_words
from text_cleaning import TextCleaner, clean_text, clean_texts, stem_words, undo_scraping


def vectorizer(*terms: str, **settings: Any) -> TfidfVectorizer:
    """Fitted on a text of each term, so that these and their words are known, nothing else."""
    made = TfidfVectorizer(vocabulary=sorted(terms), ngram_range=(1, 2), **settings)
    return made.fit(terms)


def locate(text: str, cleaned: str) -> list[tuple[int, int]]:
    """The one place of each word that the guide's cleaning leaves."""
    return [place for (place,) in locate_words(text, cleaned, cleaned.split())]


def marked(text: str) -> list[str]:
    """What a reader sees marked when every cleaned word is."""
    cleaned = clean_text(undo_scraping(text))
    return [text[start:end] for start, end in locate(text, cleaned)]


# Columns in alphabetical order: bad 0, good 1, not good 2
KNOWN = vectorizer("good", "bad", "not good")
WEIGHTS = np.array([-4.0, 2.0, -8.0])


def test_words_and_terms_of_a_cleaned_text() -> None:
    terms = Explainer(KNOWN, WEIGHTS).terms("not good not x bad")
    assert terms.words == ["not", "good", "not", "bad"]  # one letter is no word to the vectorizer
    assert sorted(terms.found) == [(0, 3, 3), (1, 1, 1), (2, 0, 1)]
    assert terms.known_words == 3  # the second "not" is part of nothing
    assert Explainer(KNOWN, WEIGHTS).terms("") == Terms([], [])
    one = np.array([1.0])  # without weights nothing is explained
    (read,) = Explainer(KNOWN).read(["bad"])
    assert Explainer(KNOWN).contributions(read, one, one) == ()


def test_contributions_by_hand() -> None:
    text = "Bad?! It's NOT a good one, bad"
    explainer = Explainer(KNOWN, WEIGHTS)
    (read,) = explainer.read([text])
    contributions = explainer.contributions(read, np.array([0, 1, 2]), np.array([0.5, 0.75, 0.125]))
    assert contributions == (
        Contribution("bad", -2.0, ((0, 3), (27, 30))),
        Contribution("good", 1.5, ((17, 21),)),
        Contribution("not good", -1.0, ((11, 21),)),  # "NOT a good"
    )


def test_stop_words_of_the_vectorizer_are_no_words() -> None:
    """The published configuration has some: a term of two words reaches over them."""
    explainer = Explainer(vectorizer("good price", "price", stop_words="english"), WEIGHTS)
    text = "Good, would not price"
    (read,) = explainer.read([text])
    assert read.terms.words == ["good", "price"] and read.terms.known_words == 2
    found = explainer.contributions(read, np.array([0, 1]), np.array([1.0, 1.0]))
    assert {c.term: c.at for c in found} == {"good price": ((0, 21),), "price": ((16, 21),)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("The shuttles ARE not lasting 😡!!", ["shuttles", "not", "lasting"]),
        ('  "Awesome!!" (really)…  ', ["Awesome", "really"]),
        ("good\u00a0bad\u2003sad\x1cglad", ["good", "bad", "sad", "glad"]),
        ("I don't. Don't!", ["don't", "Don't"]),
        ("good.bad", ["good.bad"]),  # one word to the cleaning
        ("4good2 😍fine😍 ❤️‍🔥hot❤️‍🔥", ["4good2", "fine", "hot"]),
        ("poor <3 fine", ["poor", "fine"]),
        ("goodhttps://x.example/bad bad", ["good", "bad"]),
        ("WWW.X.EXAMPLE good", ["good"]),
        ("<b>good</b>! bad", ["good", "bad"]),
        ('<a href="good">fine</a> good', ["fine", "good"]),
        ("good<p />bad sad", ["good<p />bad", "sad"]),  # no space is left between the two
        ("good<br />bad sad", ["good", "bad", "sad"]),
        ("It&#39;s &quot;terrible&quot; &amp; bad", ["terrible", "bad"]),
        (
            " I don&amp;#39;t&nbsp;mind&lt;br&gt;caf&eacute;s  good READ MORE",
            ["don&amp;#39;t", "mind", "caf&eacute;s", "good"],
        ),
        ("&lt;b&gt;fine&lt;/b&gt; &good; sad READ MORE", ["fine", "good", "sad"]),
        ("<i>İyi</i> K\u0130 good", ["İyi", "Kİ", "good"]),  # small, it has one character more
        ("<b>1️⃣good2😍</b>", ["good2"]),  # an emoji, and a digit
    ],
)
def test_what_is_marked(text: str, expected: list[str]) -> None:
    assert marked(text) == expected


def test_of_equal_words_the_right_one_is_marked() -> None:
    for text, place in (
        ("<b no> no", (7, 9)),
        ("no<w no>", (0, 2)),  # "no w" glued would be a stop word, and the tag's "no" be left
        ("<👍no> no", (6, 8)),  # without the emoji it is a tag
        ("no<👍w no>", (0, 2)),
        ("<no https://x.example> no", (1, 3)),  # the link takes the bracket: no tag, so two words
        ("https://no no", (11, 13)),
        ("no https://no", (0, 2)),
    ):
        cleaned = clean_text(undo_scraping(text))
        assert locate(text, cleaned)[0] == place, text


def test_words_that_cannot_be_traced_are_left_out() -> None:
    assert locate_words("good bad", "good", ["good"]) == []  # not what the cleaning makes of it
    assert locate_words("good bad", "good bad", ["good", "sad"]) == []
    explainer = Explainer(KNOWN, WEIGHTS)
    read = ReadText("good bad", "good bad", "good", explainer.terms("good"))
    found = explainer.contributions(read, np.array([1]), np.array([1.0]))
    assert found == (Contribution("good", 2.0, ()),)


# --- negations ---

# Columns in alphabetical order: good, grip, not, not not_good, not_good, not_grip
NEGATED = vectorizer("not not_good", "good", "grip", "not", "not_good", "not_grip")
OF_NEGATED = np.array([2.0, 0.5, -0.25, -1.0, -4.0, -0.5])


def reasons(text: str) -> dict[str, tuple[float, list[str]]]:
    """Each term with its weight, and what of the text is marked for it."""
    explainer = Explainer(NEGATED, OF_NEGATED, TextCleaner("negation", reach=2))
    (read,) = explainer.read([text])
    columns = np.array(sorted({column for column, _, _ in read.terms.found}))
    found = explainer.contributions(read, columns, np.ones(len(columns)))
    return {one.term: (one.weight, [text[a:b] for a, b in one.at]) for one in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # as one word and as two: to a reader it is one reason
        ("NOT good!", {"not good": (-5.0, ["NOT good"]), "not": (-0.25, ["NOT"])}),
        ("It isn't a good", {"not good": (-5.0, ["isn't a good"]), "not": (-0.25, ["isn't"])}),
        # the word between is none of it
        ("not very good", {"not good": (-4.0, ["not", "good"]), "not": (-0.25, ["not"])}),
        ("not, good", {"good": (2.0, ["good"]), "not": (-0.25, ["not"])}),
        (
            "don&#39;t good READ MORE",
            {"not good": (-5.0, ["don&#39;t good"]), "not": (-0.25, ["don&#39;t"])},
        ),
    ],
)  # fmt: skip
def test_not_good_is_one_reason(text: str, expected: dict[str, tuple[float, list[str]]]) -> None:
    assert reasons(text) == expected


def test_as_it_is_written() -> None:
    explainer = Explainer(NEGATED, OF_NEGATED, TextCleaner("negation", reach=2))
    for text, written in (("no so good", "no … good"), ("Never good", "Never good")):
        (read,) = explainer.read([text])
        (found,) = explainer.contributions(read, np.array([4]), np.array([1.0]))
        assert (found.term, found.written(text)) == ("not good", written)
    assert Contribution("good", 1.0, ()).written("good") == "good"


# What may stand between words, or glue them; none of it is a letter that the cleaning leaves
BETWEEN = [" ", " ", " ", "", "<", "</", ">", " > ", "<3 ", "😍", " 1️⃣ ", "❤️", "!", ". ", "\u00a0"]
BETWEEN += ["\n", "&", " #", " https://1", "HTTP://2 ", "www.3", "'", "\x00", "\ud800", "\u3000"]
LETTERS = "bcdfghjkmnpqtvwxz"  # words of these are no stop words and their own stems
LENGTH = 4


def word(number: int) -> str:
    letters = ""
    for _ in range(LENGTH - 1):
        number, letter = divmod(number, len(LETTERS))
        letters += LETTERS[letter]
    return "q" + letters


def test_places_in_texts_of_all_kinds() -> None:
    """Where every word is another its place is plain; and that is also its place where none is.

    What is a tag or a link depends on signs alone, so of two texts that differ only in their
    letters the same places must be found.
    """
    rng = random.Random(4)
    several, deleted = 0, 0
    for _ in range(1_000):
        count = rng.randint(1, 8)
        gaps = [rng.choice(BETWEEN) + rng.choice(BETWEEN) for _ in range(count + 1)]
        text, same = gaps[0], gaps[0]
        for number, gap in enumerate(gaps[1:]):
            text += word(number) + gap
            same += word(0) + gap
        expected = []
        for stem in clean_text(undo_scraping(text)).split():
            pieces = re.findall("." * LENGTH, stem)
            assert "".join(pieces) == stem == stem_words(stem)
            expected.append((text.index(pieces[0]), text.index(pieces[-1]) + LENGTH))
            several += len(pieces) > 1
        deleted += (
            count - sum(len(stem) for stem in clean_text(undo_scraping(text)).split()) // LENGTH
        )
        for one in (text, same):
            cleaned = clean_text(undo_scraping(one))
            found = [inside(one, place) for place in locate(one, cleaned)]
            assert found == [inside(one, place) for place in expected], ascii(one)
    assert several > 300 and deleted > 300  # such texts did come up


def inside(text: str, place: tuple[int, int]) -> tuple[int, int]:
    """The range from its first to its last small letter: digits may hang on a word."""
    letters = [at for at in range(*place) if text[at] in LETTERS]
    return letters[0], letters[-1] + 1


def test_terms_are_spelled_as_most_texts_have_them() -> None:
    texts = ["Good Quality!", "the quality is good", "QUALITY of box", "quality boxes, qualities"]
    cleaned = clean_texts(texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2)).fit(cleaned)
    column = vectorizer.vocabulary_
    wanted = [column["qualiti"], column["qualiti box"], column["box"], column["good"]]
    spelled = Explainer(vectorizer).spellings(wanted, texts, cleaned)
    assert [spelled[one] for one in wanted] == ["quality", "quality boxes", "box", "good"]
    assert Explainer(vectorizer).spellings([column["good"]], texts[2:], cleaned[2:]) == {}
