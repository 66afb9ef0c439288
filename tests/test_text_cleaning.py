"""The cleaning: each step by hand, and the whole against a plain implementation of our own."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bench_cleaning
import emoji
import numpy as np
import pandas as pd
import pytest
from bench_cleaning import NLTK_STOP_WORDS, plain_clean
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from sklearn.utils.validation import check_is_fitted

import text_cleaning as cleaning
from text_cleaning import (
    CLEANING_STEPS,
    REPLACEMENTS,
    STOP_WORDS,
    TextCleaner,
    clean_text,
    clean_texts,
    undo_scraping,
)

THUMB = "\U0001f44d"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1ee\U0001f1f3"


def step_by_step(text: str) -> str:
    for step in CLEANING_STEPS:
        text = step(text)
    return text


def agree_on(text: str) -> str:
    """Return the cleaned text, which all three ways of getting it must agree on."""
    expected = plain_clean(text)
    assert step_by_step(text) == expected
    assert clean_text(text) == expected
    return expected


# --- the steps, by hand ---


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        (cleaning.lowercase, "GoOD ÉTÉ", "good été"),
        (cleaning.remove_emoji, f"a{THUMB}b{THUMB}\U0001f3fbc", "abc"),
        (cleaning.remove_emoji, "1 # * 23", "1 # * 23"),
        (cleaning.remove_emoji, "a\ufe0eb\ufe0fc\u200dd", "abc\u200dd"),  # as the package does
        (cleaning.remove_emoji, "1\ufe0f\u20e3 and 2", " and 2"),
        (cleaning.remove_urls, "see http://a.example/x?y=1#z now", "see  now"),
        (cleaning.remove_urls, "seehttps://a.example\nnow", "see\nnow"),
        (cleaning.remove_urls, "www.a.example", ""),
        (cleaning.remove_urls, "httpd www http:/x http:// www.", "httpd www http:/x http:// www."),
        (cleaning.remove_html_tags, "<p class='x'>good</p><br/>", "good"),
        (cleaning.remove_html_tags, "i <3 it, a < b > c, 2<4>1", "i <3 it, a < b > c, 2<4>1"),
        (cleaning.remove_html_tags, "<b <i>x", "<b x"),
        (cleaning.remove_html_tags, "<a\nhref=x>y", "y"),
        (cleaning.keep_letters, "it's 5/5, good.bad\u00a0\té!", "its  goodbad\u00a0\t"),
        (cleaning.drop_stop_words, "  this is\nnot the\u00a0best ", "not best"),
        (cleaning.drop_stop_words, "no nor not", "no nor not"),
        (cleaning.stem_words, "flies  dying running\tponies", "fli die run poni"),
        (cleaning.stem_words, "", ""),
    ],
)  # fmt: skip
def test_step(step: Callable[[str], str], text: str, expected: str) -> None:
    assert step(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n\t ", ""),
        ("They ARE not lasting \U0001f621 see https://x.example <br> 2/5!!", "not last see"),
        ("good.bad", "goodbad"),
        ("good<br>bad", "goodbad"),
        ("<3 this! a < b", "b"),
        (f"h{THUMB}ttp://x.example ok", "ok"),  # emoji go before links are looked for
        (f"<{THUMB}b>ok", "ok"),
        ("<a href=http://x.example>gone too</a> ok", "href ok"),  # links go before tags
        ("a\u00a0good\u3000deal\x1cnow\u2028ok", "good deal ok"),  # all kinds of white space
        ("\u0645\u0631\u062d\u0628\u0627 nice \u202eecin", "nice ecin"),  # right to left
        ("nu\x00ll \ud83d byte\udc4d", "null byte"),  # null byte, lone surrogates
        ("\u212aeep \u0130t", "keep"),  # Kelvin sign → k; dotted capital I → i and a dot above
        ("na\u00efve caf\u00e9", "nave caf"),
        (f"fine {FAMILY}{FLAG}\u2764\ufe0f1\ufe0f\u20e3{THUMB}\U0001f3ff!", "fine"),
        ("\u24c2 great", "great"),
        ("good" + ("1" + FLAG) * 100 + "deal" + FAMILY * 50 + "ok", "gooddealok"),  # a run is cut
        # The apostrophe goes before stop words are looked up
        ("I don't, won\u2019t, isn't, shouldn't", "dont wont isnt shouldnt"),
        ("it's we're don t", ""),
        ("we'll i'll she'll", "well ill shell"),
    ],
)  # fmt: skip
def test_whole_by_hand(text: str, expected: str) -> None:
    assert agree_on(text) == expected


def test_stop_words_are_nltks_without_negations_and_apostrophes() -> None:
    listed = {word for word in NLTK_STOP_WORDS if "'" not in word}
    assert listed - {"not", "no", "nor"} == STOP_WORDS and len(STOP_WORDS) == 150


# --- what scrapers leave ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It&#39;s &quot;terrible&quot;", 'It\'s "terrible"'),
        ("a &amp;amp;lt;3 &AMP;nbsp;b", "a <3 \u00a0b"),
        ("good&not bad &unknown; R&D; &#xD800; &", "good&not bad &unknown; R&D; \ufffd &"),
        ("ok<br>fine<BR/>so<br class='x'>so&lt;br /&gt;bad</br>", "ok fine so so bad"),
        ("<brand> <b>r</b>", "<brand> <b>r</b>"),
        ("goodREAD&#77;ORE READ MORE", "goodREADMORE"),
        (" goodREAD MORE Read More\n", "good"),
        ("a\0b &amp;READ MORE", "a b &"),
        ("&&#108;t;b&gt; <br<br>>", "<b>"),
        ("", ""),
    ],
)
def test_undo_scraping_by_hand(text: str, expected: str) -> None:
    assert undo_scraping(text) == expected


SCRAPED = [
    *("&", "amp;", "&amp;", "#38;", "lt;", "&#", "l", "t;", "<br", ">", "/", " ", "<", "READ"),
    *(" MORE", "Read More", "&#108;", "&#x26;", "x", "\0", "not", "&nbsp;", "&num;", "&semi;"),
    *("br", "&quot;"),
]


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.sampled_from(SCRAPED), max_size=40).map("".join))
def test_done_twice_undoing_changes_nothing_more(text: str) -> None:
    once = undo_scraping(text)
    assert undo_scraping(once) == once
    # so a model answers alike before and after loading
    assert TextCleaner().transform([text, once])[0] == clean_text(once)


def test_entities_that_stand_for_entities_come_to_an_end() -> None:
    text = "&lt;"
    for depth in range(20):
        assert ("<" in undo_scraping(text)) == (depth < cleaning.MAX_PASSES - 1)
        assert undo_scraping(undo_scraping(text)) == undo_scraping(text)
        last = text.rindex("&") + 1
        text = f"{text[:last]}&#{ord(text[last])};{text[last + 1 :]}"


@pytest.mark.parametrize("unit", ["&amp;", "&#38;", "&", "&&#35;", "<br", "<br<br>>", "READ MORE"])
def test_undoing_is_linear_and_ends(unit: str) -> None:
    began = time.process_time()
    crafted = unit * (2**20 // len(unit))
    assert undo_scraping(undo_scraping(crafted)) == undo_scraping(crafted)
    assert time.process_time() - began < 10  # of three runs over a megabyte, on a busy machine


# --- fast path against plain ---

FRAGMENTS = [
    "http", "https", "://", "www", ".", "/", "<", "</", ">", "<br>", "a", "B", "s", " ", "\n",
    "\u00a0", "\x1c", "\x85", "\u200b", "'", "\u2019", "1", "#", "not", "we", "re", "others",
    "Purchased", "dying", "y" * 22, "READ MORE", "\u0130", "\u212a", "\u017f", "\u24c2", "\ud83d",
    "\udc4d", "\x00", "\u0645", "\u4f60", "\u2122", "\u00a9",
    THUMB, FAMILY, FLAG, "\U0001f1ee", "\U0001f3fb", "\u200d", "\ufe0e", "\ufe0f", "\u20e3",
    "\u2764", "\U0001f3f4", "\U000e0067", "\U000e007f", "1\ufe0f\u20e3", "\U0001f468\u200d",
]  # fmt: skip
# Up to 25 fragments of at most 5 emoji characters: below the 128 at which long runs are cut.
texts_of_fragments = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.characters()), max_size=25
).map("".join)


@settings(max_examples=200, deadline=None, database=None)
@given(st.one_of(texts_of_fragments, st.text(max_size=100)))
def test_fast_equals_steps_equals_plain_on_generated_text(text: str) -> None:
    cleaned = agree_on(text)
    assert re.fullmatch(r"(?:[a-z]+(?: [a-z]+)*)?", cleaned)


def test_fast_equals_plain_on_every_code_point() -> None:
    # The planes that hold more than ideographs, a block at a time, each between two letters.
    for start in (*range(0, 0x20000, 0x400), *range(0xE0000, 0xE1000, 0x400)):
        agree_on(" ".join(f"q{chr(code)}z" for code in range(start, start + 0x400)))


def test_remove_emoji_equals_the_package_for_every_emoji() -> None:
    for sequence in emoji.EMOJI_DATA:
        assert not sequence.isascii()  # on which the short cut for ASCII rests
        assert re.fullmatch(cleaning.EMOJI_RUN, sequence)
        assert cleaning.remove_emoji(f"a{sequence}b") == "ab"
        for text in (sequence[:-1], sequence[1:], f"\u200d{sequence}\u200d{sequence}x\ufe0f"):
            assert cleaning.remove_emoji(text) == emoji.replace_emoji(text)


# --- long and odd text ---

MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("good " * (MEGABYTE // 5), " ".join(["good"] * (MEGABYTE // 5)), id="words"),
        pytest.param("<" * MEGABYTE, "", id="brackets"),
        pytest.param("<b " * (MEGABYTE // 3), " ".join("b" * (MEGABYTE // 3)), id="open tags"),
        pytest.param("http://" * (MEGABYTE // 7), "", id="links"),
        pytest.param(THUMB * (MEGABYTE // 4), "", id="emoji"),
        pytest.param((THUMB + "\u200d") * (MEGABYTE // 7), "", id="joined emoji"),
        pytest.param("\ud800" * MEGABYTE + " ok", "ok", id="surrogates"),
        pytest.param("\u00e9" + "7" * MEGABYTE, "", id="digits"),
    ],
)
def test_a_megabyte_in_one_review(text: str, expected: str) -> None:
    assert clean_text(text) == expected  # the suite's time limit ends anything quadratic


def test_words_above_the_bound_are_not_stemmed() -> None:
    assert cleaning.MAX_STEM_LENGTH == 45
    longest = "x" * 38 + "lasting"
    assert agree_on(longest) == "x" * 38 + "last"
    assert agree_on("x" + longest) == "x" + longest


def test_table_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    table = cleaning._WordOutcomes()
    monkeypatch.setattr(cleaning, "MAX_CACHED_WORDS", 50)
    monkeypatch.setattr(cleaning, "_word_outcomes", table)
    words = [bench_cleaning.new_word(number) for number in range(120)]
    assert len(set(words)) == 120
    for word in words:
        assert clean_text(f"{word} lasting") == plain_clean(f"{word} lasting")
        assert 0 < len(table) <= 50
    size = len(table)
    assert clean_text("z" * 46) == "z" * 46
    assert len(table) == size


def test_threads_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MAX_CACHED_WORDS", 20)  # so that it is emptied again and again
    monkeypatch.setattr(cleaning, "_word_outcomes", cleaning._WordOutcomes())
    texts = [f"{bench_cleaning.new_word(number % 97)} is not lasting" for number in range(800)]
    expected = [plain_clean(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(clean_texts, [texts] * 4))
    assert all(result == expected for result in results)


# --- many reviews, and what is not a review ---


@pytest.mark.parametrize("wrong", [None, float("nan"), b"good"])
def test_what_is_not_a_str_is_refused_with_its_position(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"position 2 \(from 0\) must be a str, got"):
        clean_texts(["good", "bad", wrong])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a review must be a str"):
        clean_text(wrong)  # type: ignore[arg-type]


# --- in scikit-learn ---

REVIEWS = ["Flies well, not broken", "Broken feathers!!", "Worst \U0001f621", "Flies great"]
CLEANED = ["fli well not broken", "broken feather", "worst", "fli great"]


@pytest.mark.parametrize(
    "X",
    [
        REVIEWS,
        (review for review in REVIEWS),
        np.array(REVIEWS, dtype=object),
        np.array(REVIEWS).reshape(-1, 1),
        pd.Series(REVIEWS, index=[9, 3, 7, 1]),
        pd.DataFrame({"text": REVIEWS}),
    ],
    ids=["list", "generator", "objects", "column", "series", "frame"],
)
def test_cleaner_takes_what_reviews_come_in(X: object) -> None:
    assert TextCleaner().transform(X) == CLEANED


def test_cleaner_refuses_what_is_not_one_column_of_text() -> None:
    with pytest.raises(ValueError, match="expected one column of reviews, got 2"):
        TextCleaner().transform(pd.DataFrame({"text": REVIEWS, "rating": 5}))
    with pytest.raises(TypeError, match=r"position 1 .* got float \(nan\)"):
        TextCleaner().transform(pd.Series(["good", None]))
    with pytest.raises(TypeError, match="put it in a list"):
        TextCleaner().transform("good")
    check_is_fitted(TextCleaner())


# --- the second cleaning ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARK", "no_"),
        ("NEGATIONS", cleaning.NEGATIONS - {"nor"}),
        ("CONTRACTIONS", {**cleaning.CONTRACTIONS, "mustnt": "may"}),
        ("_CLAUSE_ENDS", frozenset()),
        ("_LINK_OR_TAG", re.compile("<b>")),
        ("REACH", 1),
    ],
)
def test_its_fingerprint_tells_it_from_another(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_guide, of_both = map(cleaning.cleaning_fingerprint, cleaning.CLEANINGS)
    monkeypatch.setattr(cleaning, name, value)
    assert cleaning.cleaning_fingerprint.__wrapped__() == of_guide
    changed = cleaning.cleaning_fingerprint.__wrapped__("negation") != of_both
    assert changed == (name != "REACH")  # a parameter, kept with the run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Not a good racket, sad", "not not_good not_racket sad"),  # one letter is no word
        ("not very very very good", "not not_veri not_veri veri good"),
        ("The grip isn't good.Bad", "the grip is not not_good bad"),  # punctuation is a space
        ("It does'nt last, dont buy", "it doe not not_last do not not_buy"),  # the stem of does
        ("I CAN\u2019T play; cannot hit", "can not not_play can not not_hit"),
        ("won't break but bends", "will not not_break but bend"),
        ("no but good", "no but good"),
        ("never no good", "never no not_good"),  # a negation is not marked, and begins anew
        ("without doubt (not) fine", "without not_doubt not fine"),
        ("it's we've i'll", "it we ve ll"),
        ("good<b>bad</b> seehttps://x.example/a.b sad", "good bad see sad"),
        ("not https://x.example good", "not not_good"),  # a link is no end of a clause
        ("na\u00efve caf\u00e9 K\u0130ng 5/5 1st", "nave caf king st"),
        ("not &quot;good&quot; <br> READ MORE", "not not_good"),
        ("not \U0001f44d good", "not not_good"),
    ],
)  # fmt: skip
def test_negations_are_marked(text: str, expected: str) -> None:
    assert TextCleaner("negation", reach=2).transform([text]) == [expected]


def test_the_reach_is_a_number_of_words() -> None:
    text = "not one two three four"
    for reach in range(5):
        words = TextCleaner("negation", reach).clean(text).split()
        assert [word.startswith("not_") for word in words] == [
            0 < number <= reach for number in range(5)
        ]


def test_every_word_knows_its_place() -> None:
    text = "Grip: DON'T buy, it\u2019s not a good one"
    found = cleaning.negation_words(text, 2)
    places = [(one.word, text[one.start : one.end], one.negation) for one in found]
    assert places == [
        ("grip", "Grip", None),
        ("do", "DON'T", None),
        ("not", "DON'T", None),
        ("not_buy", "buy", 2),
        ("it", "it", None),
        ("not", "not", None),
        ("not_good", "good", 5),
        ("not_one", "one", 5),
    ]


def test_places_are_those_of_letters_that_grow_when_lowered() -> None:
    text = "\u0130\u0130\u0130'ok"  # each becomes two characters
    *_, found = cleaning.negation_words(text)
    assert (found.word, text[found.start : found.end]) == ("ok", "ok")


@pytest.mark.parametrize(
    ("term", "shown"),
    [
        ("good grip", "good grip"),
        ("not_good", "not good"),
        ("not not_good", "not good"),
        ("not_good not_grip", "not good grip"),
        ("never not_good", "never good"),
    ],
)
def test_terms_as_a_reader_sees_them(term: str, shown: str) -> None:
    assert cleaning.readable(term) == shown


@pytest.mark.parametrize(
    "unit", ["not good ", "don't", "a'", "<b ", "http://", "'", "not,", "\u0130"]
)
def test_a_megabyte_of_negations(unit: str) -> None:
    words = cleaning.negation_words(unit * (MEGABYTE // len(unit)))
    assert all(one.word for one in words)  # the suite's time limit ends anything quadratic


@settings(max_examples=200, deadline=None, database=None)
@given(st.one_of(texts_of_fragments, st.text(max_size=100)), st.integers(0, 3))
def test_words_and_places_of_generated_text(text: str, reach: int) -> None:
    found = cleaning.negation_words(text, reach)
    assert all(re.fullmatch("(?:not_)?[a-z]{2,}|[a-z]", one.word) for one in found)
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert [one.start for one in found] == sorted(one.start for one in found)
    assert all((one.negation is not None) == one.word.startswith("not_") for one in found)


def test_a_cleaning_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="'other': expected one of guide, negation"):
        TextCleaner("other").transform(["good"])
    assert cleaning.cleaning_fingerprint("other") == ""


# --- fingerprint, import ---


def keep_letters(text: str) -> str:
    """As the step of this name, but a space is left behind."""
    return re.sub(r"[^a-z\s]+", " ", text)


def swapped(first: int) -> tuple[Callable[[str], str], ...]:
    steps = list(CLEANING_STEPS)
    steps[first], steps[first + 1] = steps[first + 1], steps[first]
    return tuple(steps)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("CLEANING_STEPS", CLEANING_STEPS[:i] + CLEANING_STEPS[i + 1 :]) for i in range(7)),
        *(("CLEANING_STEPS", swapped(i)) for i in range(6)),
        ("CLEANING_STEPS", (*CLEANING_STEPS[:4], keep_letters, *CLEANING_STEPS[5:])),
        ("STOP_WORDS", STOP_WORDS - {"ourselves"}),
        ("STOP_WORDS", STOP_WORDS | {"badly"}),
        ("MAX_STEM_LENGTH", 46),
        ("undo_scraping", str),
        ("MARKERS", ("READ MORE",)),
        *(("REPLACEMENTS", REPLACEMENTS[:i] + REPLACEMENTS[i + 1 :]) for i in range(4)),
        ("URL", re.compile(r"http\S+")),
        ("HTML_TAG", re.compile(r"<.*?>")),
        ("_porter_stem", lambda: PorterStemmer(mode=PorterStemmer.ORIGINAL_ALGORITHM).stem),
    ],
)
def test_fingerprint_tells_one_cleaning_from_another(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, both = map(cleaning.cleaning_fingerprint, cleaning.CLEANINGS)
    assert re.fullmatch("[0-9a-f]{12}", original) and original != both
    with monkeypatch.context() as patch:
        patch.setattr(cleaning, name, value)
        assert cleaning.cleaning_fingerprint.__wrapped__() != original
        # and by it training texts are known to a model of the second cleaning, too
        assert cleaning.cleaning_fingerprint.__wrapped__("negation") != both
    assert cleaning.cleaning_fingerprint.__wrapped__() == original


def test_fingerprint_is_of_what_the_cleaning_does(monkeypatch: pytest.MonkeyPatch) -> None:
    original = cleaning.cleaning_fingerprint()

    def renamed(text: str) -> str:
        return text.lower()

    monkeypatch.setattr(cleaning, "CLEANING_STEPS", (renamed, *CLEANING_STEPS[1:]))
    monkeypatch.setattr(cleaning, "version", lambda package: f"{package} of tomorrow")
    assert cleaning.cleaning_fingerprint.__wrapped__() == original
    assert cleaning.cleaning_packages() == "emoji emoji of tomorrow, nltk nltk of tomorrow"


def test_file_alone_in_a_folder_gives_the_same_cleaning(tmp_path: Path) -> None:
    # Another process, other hash seed, nothing of the project beside it: as inside a stored model.
    shutil.copy(cleaning.__file__, tmp_path)
    program = (
        "import sys, text_cleaning as t; assert 'nltk' not in sys.modules;"
        "print(t.__file__, t.cleaning_fingerprint(), t.clean_text('Others purchased it'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    file = tmp_path / "text_cleaning.py"
    assert done.stdout == f"{file} {cleaning.cleaning_fingerprint()} other purchas\n"


# --- the benchmark's command line ---


def test_benchmark_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_cleaning, "LONG_TEXT_LENGTHS", (100, 400))
    data = tmp_path / "reviews.csv"
    pd.DataFrame({"Review text": [*REVIEWS, None], "Ratings": 3}).to_csv(data, index=False)
    assert bench_cleaning.main(["--data", str(data), "--repeats", "1", "--sizes", "10"]) == 0
    assert "4 reviews, median of 1; identical: yes" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "Review text,Ratings\n,5\n"])
def test_benchmark_refuses_bad_data_in_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "reviews.csv"
    if content is not None:
        data.write_text(content)
    assert bench_cleaning.main(["--data", str(data)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(data) in err
