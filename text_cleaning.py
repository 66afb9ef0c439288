"""Turn a raw review into the words the models see: str in, str of stems joined by one space out.

    clean_text("The shuttles ARE not lasting 😡 see https://x.example <br> 2/5!!")
    → "shuttl not last see"

`CLEANING_STEPS` says what is done and in which order; the order is the published one and has
consequences worth knowing:

* What is removed leaves no space behind: `good.bad` becomes `goodbad`, `<br>` between two words
  glues them, and a URL takes everything up to the next white space with it.
* Apostrophes go before stop words are looked up, so `don't` arrives as `dont`, which the list does
  not hold: the negation survives as one word. `it's` (`its`) and `we're` (`were`) happen to become
  stop words and vanish; `we'll` becomes the word `well`, `i'll` `ill`.
* Clean raw text, once: a stem is not always a fixed point of the stemmer (`purchase` → `purchas`
  → `purcha`), and can be a stop word (`others` → `other`, dropped the second time).

That is the guide's cleaning. `TextCleaner("negation")` is another one, for models that are to hear
a *not*: `negation_words` says what it does.

What scrapers leave in a text is undone before that, by `undo_scraping`: on loading a file, and as
the first thing that a model's `TextCleaner` does.

`clean_text` gives what the steps give one after another. It is faster because every word is
taken through the word steps once and then looked up.

This file is stored inside every model, so it imports none of the project's other files.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from html import unescape
from html.entities import html5
from importlib.metadata import version
from typing import Any, NamedTuple, Self

import emoji
from sklearn.base import BaseEstimator, TransformerMixin

# A link with its scheme, or one that starts at "www.". The older pattern `http\S+|www\S+` needs
# neither "://" nor the dot, and would eat words such as "httpd" or the end of "awwww".
# Neither asks for white space in front, since scraped text glues links to words.
URL = re.compile(r"https?://\S+|www\.\S+")

# A letter has to follow the bracket, so that "<3" and "a < b > c" are not taken for a tag. The
# possessive `*+` never gives a character back, which keeps the search linear.
HTML_TAG = re.compile(r"</?[a-z][^<>]*+>")

# The scraper keeps the label of Flipkart's "read on" link, glued to the last word. Lower case is
# left alone: a person may well end a sentence on it.
MARKERS = ("READ MORE", "Read More")
# An ampersand that was escaped once or many times over; taken at once, since a level a pass would
# be quadratic
AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0{0,5}38|#[xX]0{0,5}26);)+")
# Only with its semicolon: browsers also read `&not` in `good&not bad` as an entity.
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
NUL = re.compile("\0")  # which no database takes
LINE_BREAK = re.compile(r"</?br(?:[\s/][^<>]*+)?>", re.IGNORECASE)
# Passes over a text whose entities stand for entities. Nobody's scraper needs more than two.
MAX_PASSES = 8

NOT_LETTER_OR_SPACE = re.compile(r"[^a-z\s]+")

# NLTK's English list without "not", "no" and "nor", which carry the sentiment. Pinned: a download
# fails offline, and a newer corpus would silently change the models that are being served. Entries
# with an apostrophe are left out because no word has one by the time they are looked up; that is
# all that the list's 179-word and 198-word editions differ in.
_STOP_WORD_LIST = """
a about above after again against ain all am an and any are aren as at be because been before
being below between both but by can couldn d did didn do does doesn doing don down during each
few for from further had hadn has hasn have haven having he her here hers herself him himself
his how i if in into is isn it its itself just ll m ma me mightn more most mustn my myself
needn now o of off on once only or other our ours ourselves out over own re s same shan she
should shouldn so some such t than that the their theirs them themselves then there these they
this those through to too under until up ve very was wasn we were weren what when where which
while who whom why will with won wouldn y you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())

# Letters. A longer "word" is noise (the longest in a large English dictionary has 45, the longest
# in the real reviews 30) and is kept as it is: stemming costs time by length, and the table of
# words must not hold megabytes.
MAX_STEM_LENGTH = 45

# Words whose outcome is remembered, about 10 MB. The real reviews have 3,267 distinct ones.
MAX_CACHED_WORDS = 2**16

# A run of characters of which emoji are made: the bases of keycaps, "©" and "®", the joiner, the
# symbols, the variation selectors, the pictographs, the tags of flags. Ranges that hold more than
# emoji do no harm, and are searched many times faster than a class of the 1,460 exact characters.
# No more than 128 at once: the time of `replace_emoji` is quadratic in the emoji that are joined by
# U+200D (9 s for 50,000 characters). The longest emoji has 10 characters.
EMOJI_RUN = re.compile(
    "[#*0-9\u00a9\u00ae\u200d\u203c-\u3299\ufe0e\ufe0f"
    "\U0001f000-\U0001faff\U000e0020-\U000e007f]{1,128}"
)


def _character(entity: re.Match[str]) -> str:
    known = entity[0][1] == "#" or entity[0][1:] in html5
    return unescape(entity[0]) if known else entity[0]


# What `undo_scraping` replaces by what, in this order, over and over until nothing changes
REPLACEMENTS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (AMPERSANDS, "&"),
    (ENTITY, _character),
    (LINE_BREAK, " "),
    (NUL, " "),
)


def undo_scraping(text: str) -> str:
    """Return `text` as a person saw it, without outer white space.

    HTML entities become their characters, however often they were escaped, `<br>` and NUL a
    blank; trailing `MARKERS` go. Done twice it changes nothing more. Time is linear in the length.
    """
    if "&" in text or "<" in text or "\0" in text:
        for _ in range(MAX_PASSES):
            before = text
            for pattern, replacement in REPLACEMENTS:
                text = pattern.sub(replacement, text)
            if text == before:
                break
        else:  # crafted: make an end of it
            text = text.replace("&", " ").replace("<", " ")
    text = text.strip()
    end = len(text)
    while text.endswith(MARKERS, 0, end):
        end -= len(MARKERS[0])
        while text[end - 1 : end].isspace():
            end -= 1
    return text[:end]


def lowercase(text: str) -> str:
    """Return `text` in lower case, by Unicode's rules (`str.lower`)."""
    return text.lower()


def remove_emoji(text: str) -> str:
    """Return `text` without the emoji sequences that the emoji package lists.

    The same as `emoji.replace_emoji(text)`, but in linear time. Of more than 128 characters of
    `EMOJI_RUN` that stand together a part may be left; `keep_letters` removes that too.
    """
    if text.isascii():  # every emoji, keycaps included, has a character that is not ASCII
        return text
    return EMOJI_RUN.sub(
        lambda run: run[0] if run[0].isascii() else emoji.replace_emoji(run[0]), text
    )


def remove_urls(text: str) -> str:
    """Return lower-case `text` without its links (`URL`)."""
    if "://" in text or "www." in text:  # far cheaper than a search that finds nothing
        return URL.sub("", text)
    return text


def remove_html_tags(text: str) -> str:
    """Return lower-case `text` without its HTML tags; what they enclose stays, `<!…>` too."""
    return HTML_TAG.sub("", text) if "<" in text else text


def keep_letters(text: str) -> str:
    """Return lower-case `text` with nothing left but a–z and white space, of any Unicode kind."""
    return NOT_LETTER_OR_SPACE.sub("", text)


def drop_stop_words(text: str) -> str:
    """Return the words of `text` that are not in `STOP_WORDS`, joined by one space."""
    return " ".join([word for word in text.split() if word not in STOP_WORDS])


def stem_words(text: str) -> str:
    """Return the Porter stems of the words of `text`, joined by one space.

    NLTK's default mode. A word of more than `MAX_STEM_LENGTH` letters is kept as it is.
    """
    stem = _porter_stem()
    return " ".join([stem(w) if len(w) <= MAX_STEM_LENGTH else w for w in text.split()])


@cache
def _porter_stem() -> Callable[[str], str]:
    # Here and not at the top: there is no way to this class but through all of NLTK, over a second.
    from nltk.stem.porter import PorterStemmer

    stem: Callable[[str], str] = PorterStemmer().stem
    return stem


CLEANING_STEPS: tuple[Callable[[str], str], ...] = (
    lowercase,
    remove_emoji,
    remove_urls,
    remove_html_tags,
    keep_letters,
    drop_stop_words,
    stem_words,
)

# From this step on each word is treated by itself, whatever stands beside it, and each step gives
# one word or none. A new step belongs before it or after it accordingly.
_FIRST_WORD_STEP = CLEANING_STEPS.index(drop_stop_words)
_TEXT_STEPS = CLEANING_STEPS[:_FIRST_WORD_STEP]
_WORD_STEPS = CLEANING_STEPS[_FIRST_WORD_STEP:]


class _WordOutcomes(dict[str, str]):
    """Word → what some word steps leave of it ("" for nothing); worked out when first asked for.

    At most `MAX_CACHED_WORDS` words, none longer than `MAX_STEM_LENGTH`. When full it is emptied:
    the common words are back within a few reviews. Threads may share it: each reads or writes by
    single dict operations, and any of them would write the same.
    """

    def __init__(self, steps: tuple[Callable[[str], str], ...] = _WORD_STEPS) -> None:
        super().__init__()
        self._steps = steps

    def __missing__(self, word: str) -> str:
        outcome = word
        for step in self._steps:
            outcome = step(outcome)
        if len(word) <= MAX_STEM_LENGTH:
            if len(self) >= MAX_CACHED_WORDS:
                self.clear()
            self[word] = outcome
        return outcome


_word_outcomes = _WordOutcomes()


def _clean(text: str) -> str:
    for step in _TEXT_STEPS:
        text = step(text)
    return " ".join(filter(None, map(_word_outcomes.__getitem__, text.split())))


def clean_text(text: str) -> str:
    """Return `text` after all `CLEANING_STEPS`: stems of a–z joined by one space, or "".

    Any str will do: empty, of any script, with null bytes or lone surrogates. Time is linear in
    its length. Raises TypeError for anything but a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"a review must be a str, got {type(text).__name__} ({text!r:.50})")
    return _clean(text)


def clean_texts(texts: Iterable[str], clean: Callable[[str], str] = _clean) -> list[str]:
    """Return `[clean(text) for text in texts]`, by default the guide's cleaning.

    Raises TypeError with the position, from 0, of the first item that is not a str, and for a
    single str, whose characters nobody means as reviews.
    """
    if isinstance(texts, str):
        raise TypeError("expected a collection of reviews, got one str; put it in a list")
    cleaned = []
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"the review at position {position} (from 0) must be a str, "
                f"got {type(text).__name__} ({text!r:.50}); drop rows without text first"
            )
        cleaned.append(clean(text))
    return cleaned


# --- the second cleaning ---

CLEANINGS = ("guide", "negation")
MARK = "not_"  # in front of a word that a negation reaches; no cleaned word has it otherwise
REACH = 2  # words: one or none is worse on the real reviews, and more gains nothing
NEGATIONS = frozenset({"not", "no", "never", "nor", "without"})  # more words gain nothing
_WITH_NOT = """
are could dare did do does had has have is might must need ought should was were would
"""
# Without its apostrophe, wherever that stands: people write "dont" and "do'nt"
CONTRACTIONS = {f"{verb}nt": verb for verb in _WITH_NOT.split()}
CONTRACTIONS |= {"cant": "can", "cannot": "can", "wont": "will", "shant": "shall", "aint": "is"}
CONTRACTIONS |= {"dnt": "do"}
_LINK_OR_TAG = re.compile(f"{URL.pattern}|{HTML_TAG.pattern}", re.IGNORECASE)
_APOSTROPHE = re.compile("['\u2019\u2018`\u00b4]")
_WORD_OR_END = re.compile(
    "([^\\W\\d_]+(?:['\u2019\u2018`\u00b4][^\\W\\d_]+)*)|[.,;:!?()\u2026\n\u0964]"
)
_NOT_LETTER = re.compile(r"[^a-z]+")
_CLAUSE_ENDS = frozenset({"but"})
_stems = _WordOutcomes((stem_words,))


class Word(NamedTuple):
    """A word of the second cleaning, and its characters in the text, the last one excluded.

    `negation` is the number, from 0, of the word that negates it; None when nothing does.
    """

    word: str
    start: int
    end: int
    negation: int | None = None


def negation_words(text: str, reach: int = REACH) -> list[Word]:
    """Return the words that the second cleaning leaves of a text, with their places.

    * Punctuation, links, tags and whatever else is no letter separates words; one letter is none.
    * *n't* becomes *not*, also where its apostrophe is missing or stands wrong; *cannot* is two.
    * Stop words stay. Words are stemmed as the guide's are.
    * The `reach` words after one of `NEGATIONS` are marked, until punctuation or *but*: with a
      reach of 2 "not a good racket, sad" becomes `not not_good not_racket sad`.

    Time is linear in the length of the text.
    """
    if "<" in text or "://" in text or "www." in text.lower():
        text = _LINK_OR_TAG.sub(lambda found: " " * len(found[0]), text)
    words: list[Word] = []
    negation, left = None, 0
    for found in _WORD_OR_END.finditer(text):
        written = found[1]
        if written is None:
            left = 0
            continue
        start, end = found.span()
        for word, first, last in _split(written, start, end):
            if word in _CLAUSE_ENDS:
                left = 0
            if word in NEGATIONS:
                words.append(Word(_stems[word], first, last))
                negation, left = len(words) - 1, reach
            elif left > 0:
                words.append(Word(MARK + _stems[word], first, last, negation))
                left -= 1
            else:
                words.append(Word(_stems[word], first, last))
    return words


def _split(written: str, start: int, end: int) -> Iterable[tuple[str, int, int]]:
    """Return the words of a to z that something without a space stands for, with their places."""
    lowered = written.lower()  # which may be longer: İ becomes two characters
    together = _NOT_LETTER.sub("", lowered)
    verb = CONTRACTIONS.get(together)
    if verb is not None:
        return (verb, start, end), ("not", start, end)
    if together == lowered:
        return ((lowered, start, end),) if len(lowered) > 1 else ()
    parts, at = [], start
    for part in _APOSTROPHE.split(written):
        word = _NOT_LETTER.sub("", part.lower())
        if len(word) > 1:
            parts.append((word, at, at + len(part)))
        at += len(part) + 1
    return parts


def readable(term: str) -> str:
    """Return a term as a reader sees it: `not_good not_racket` is "not good racket"."""
    if MARK not in term:
        return term
    words = term.split(" ")
    shown = [word.removeprefix(MARK) for word in words]
    if words[0] != shown[0]:  # the negation itself stands in front of the term
        shown.insert(0, MARK.rstrip("_"))
    return " ".join(shown)


class TextCleaner(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """`undo_scraping` and a cleaning as the first step of a scikit-learn pipeline.

    Parameters
    ----------
    cleaning : "guide" or "negation"
        `CLEANING_STEPS`, or `negation_words`. Any other name is refused when texts are cleaned.
    reach : int, default 2
        Words after a negation that are marked, 0 for none. The guide's cleaning has no use for it.

    It learns nothing.

    """

    def __init__(self, cleaning: str = "guide", reach: int = REACH) -> None:
        self.cleaning = cleaning
        self.reach = reach

    def clean(self, text: str) -> str:
        """Return the cleaned words, joined by one space, of a text after `undo_scraping`."""
        if self.cleaning == "guide":
            return _clean(text)
        if self.cleaning != "negation":
            raise ValueError(f"cleaning {self.cleaning!r}: expected one of {', '.join(CLEANINGS)}")
        return " ".join([found.word for found in negation_words(text, self.reach)])

    def fit(self, X: Any, y: Any = None) -> Self:
        """Return self; `X` and `y` are not looked at."""
        return self

    def transform(self, X: Any) -> list[str]:
        """Return the cleaned reviews in the order of `X`.

        `X` is an iterable of n str, or a data frame or array of shape (n, 1), which is what MLflow
        passes on. Raises TypeError as `clean_texts` does and ValueError for more columns.
        """
        shape: tuple[int, ...] = getattr(X, "shape", ())
        if len(shape) == 2:
            if shape[1] != 1:
                raise ValueError(f"expected one column of reviews, got {shape[1]}")
            X = X.iloc[:, 0] if hasattr(X, "iloc") else X[:, 0]
        if isinstance(X, str):
            return clean_texts(X)  # refused
        texts = (undo_scraping(text) if isinstance(text, str) else text for text in X)
        return clean_texts(texts, self.clean)

    def __sklearn_is_fitted__(self) -> bool:
        return True


# Something for every step to act on: a change of any of them shows in the outcome of some text.
_PROBE_WORDS = """
racket rackets shuttle shuttles deliver delivered delivery deliveries quality qualities disappoint
disappointed disappointing disappointment happy happily happiness purchase purchased purchases
refund refunded refunding return returning broken breaking breakable use used user useful useless
usefulness last lasting lasted lastly play plays playing played player players string stringing
strung die dying lie lying sky skies fly flies tie ties shoe shoes agree agreed agreement feed need
needed worry worried worrying copy copied copying size sized sizing hop hopped hopping tan tanned
fall falling hiss hissing control controlling controlled roll rolling rate rated cease early only
gently idle idly singly proceed exceed succeed news rational rationalize national relational
conditional operate operator operational general generalize generalization formal formalize hope
hopeful hopefulness electric electrical electricity allow allowance infer inference adjust
adjustable adjustment replace replacement depend dependent adopt adoption common communism active
activate activity effective probable probably probability sensitive sensitivity durable durability
hesitancy digitizer radical radically different differently analogous analogously decisive callous
predicate predication triplicate revive revival irritate irritant homologous angular angularity
others doubt doubtfully ying yes why by cry say worst worse badly best never always hardly very
"""
_PROBE_TEXTS = (
    "Don't BUY\u00a0it: İ <3 <b>flies</b> https://x.example www.x.example 1\ufe0f\u20e3",
    "a<\U0001f44d\U0001f3fbb> \U0001f468\u200d\U0001f469\u200d\U0001f467 skies, doubtfully!",
    "isn't wasn't can't won't we'll i'll it's we're they've you'd",
    "https:/\U0001f44d/x.example a<\u24c2\ufe0fb> <a href=https://x.example>link</a>",
    "http://x.example/a?b=c&d httpd www awwww. www.x see:http://y.example,good",
    "x <br> y <br/> z </p> <!-- note --> a < b > c <3 <i class='k'>loud</i> < p>",
    "good.bad good,bad good-bad good/bad 2/5 5* 10% #1 v2.0",
    "\t two\n\nlines\r\nand\u2003wide\u3000spaces ",
    "Größe naïve café ﬁne Straße ΑΒΓ привет अच्छा 好",
    "&quot;bad&QUOT; it&amp;#39;s&nbsp;ok&lt;br /&gt;bad &amp;amp;amp;eacute; &unknown; &not R&D;",
    "&" + "amp;" * 9 + "quot;worse not\0good bad",
    "not<br>good<BR/>x&l<br>t; &&#108;t;b&gt; <br<br>> Read More READ MORE ",
    "\u00a9 \u00ae \u2122 \u263a\ufe0f \u2764 \U0001f1ee\U0001f1f3 \U0001f621\U0001f621 ok",
    "not no nor NOT good",
    "ying" * 11,
    "ying" * 12,
    "s" * 44 + "es",
    "s" * 43 + "es",
    "",
)

_NEGATION_PROBES = (
    "Not a good racket, nor a bad one. It does'nt last but works; isn\u2019t it's i'll we've",
    "never had one like this before in my life no no good without any doubt cannot can not play",
)


@cache
def cleaning_fingerprint(cleaning: str = "guide") -> str:
    """Return 12 hex digits that change when one of `CLEANINGS` does; logged with every model.

    The guide's is taken over what `undo_scraping` and each of `CLEANING_STEPS` make of some hundred
    texts: every stop word, words for the rules of the stemmer, and whatever else a step acts on. So
    another release of a package, or a comment that is edited, changes nothing unless it changes
    what comes out. That of the second cleaning is taken over both, since training texts are known
    by what the guide's makes of them, whatever their model reads; one reach has that of another. It
    is "" of a cleaning that is not known here.
    """
    if cleaning not in CLEANINGS:
        return ""
    outcomes = []
    for outcome in (*_PROBE_TEXTS, *sorted(STOP_WORDS), *_PROBE_WORDS.split()):
        for step in (undo_scraping, *CLEANING_STEPS):
            outcome = step(outcome)  # noqa: PLW2901
        outcomes.append(outcome)
    if cleaning != "guide":
        probes = (
            *_PROBE_TEXTS,
            *_NEGATION_PROBES,
            *sorted(NEGATIONS),
            *CONTRACTIONS,
            *_PROBE_WORDS.split(),
        )
        outcomes += TextCleaner(cleaning).transform(probes)
    return hashlib.sha256(json.dumps(outcomes).encode()).hexdigest()[:12]


def cleaning_packages() -> str:
    """Return the packages whose data and rules the cleaning uses, with their versions."""
    return ", ".join(f"{package} {version(package)}" for package in ("emoji", "nltk"))
