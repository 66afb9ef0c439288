"""Serve the page at `/`: its form (pasted text or a file) and the answers, in HTML and as a CSV.

Everything is rendered here: no inline script or style, nothing from another host, and it works
without JavaScript. Under each answer are two buttons that say what the review really was. Who may
press them may also send feedback to the API: with a token set, those alone who give it.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from flask import Blueprint, Request, Response, render_template, request
from markupsafe import Markup, escape
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from sentiment.data.labels import CLASS_NAMES
from sentiment.data.reviews import TEXTS, texts_of
from sentiment.data.tables import NO_TEXT, read_table
from sentiment.data.targets import without_formula
from sentiment.errors import ReviewDataError
from sentiment.model.explanation import Contribution, Range
from sentiment.model.predictor import Prediction
from sentiment.serving.api import as_json, check_token, has_token, keep_feedback, prefers_html
from sentiment.serving.schemas import RequestChecks, RequestError
from sentiment.serving.service import Answer, NotReadyError, Service
from text_cleaning import TextCleaner, clean_text, negation_words

ONE, LINES = "one", "lines"  # what the pasted text is: one review, or one a line
SENT = "What was sent"
FILE_HINT = "name it beside the file"
TERMS_SHOWN = 8
ROWS_A_PAGE = 50  # of many reviews; without JavaScript the rest is in the download
ROWS_MARKED = 200  # have their words marked, which takes five times as long as the answers
EXAMPLES = ("Superb quality, worth every rupee", "Not good, broke after one game", "ok ok")
SCORED_COLUMNS = ("review", "label", "probability", "known_words", "reason", "version")
# Shares of the review's heaviest word from which a word is marked faintly, clearly and strongly
STRENGTHS = (0.05, 1 / 3, 2 / 3)

MARK = Markup('<mark class="{} strength-{}" title="{}">{}</mark>')

Reviews = Sequence[tuple[str, str]]  # each with what is wrong with it, or ""

_SURROGATES = re.compile("[\ud800-\udfff]")  # stray bytes and broken pairs
_POSITION = re.compile("[0-9]{1,9}", re.ASCII)
_WORD = re.compile(r"\S+")
_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)  # without the punctuation around it


def create_page(service: Service, checks: RequestChecks) -> Blueprint:
    """Return the blueprint with `GET /` and `POST /`, and `POST /right` for the buttons.

    What is wrong with the input is said on the page, with a status of 4xx or 503, and the input
    stays in the form.
    """
    blueprint = Blueprint("page", __name__)
    token = service.config.token

    def shown(form: FormInput, status: int = 200, **what: Any) -> Response:
        page = {"form": form, "examples": EXAMPLES, "may_label": has_token(request, token), **what}
        return Response(render_template("page.html", **page), status)

    @blueprint.get("/")
    def empty() -> Response:
        return shown(FormInput(), headline="Review sentiment")

    @blueprint.post("/")
    def read() -> Response:
        form = FormInput()
        try:
            form = read_input(request, checks)
            reviews, taken = read_reviews(form, checks)
            explain = not form.is_many
            answer = service.answer(_readable(reviews), explain=explain, source="page")
        except (RequestError, NotReadyError) as error:
            status = 503
            problem = f"The model does not answer ({error}); expected a version in production."
            if isinstance(error, RequestError):
                status = error.status
                problem = f"{error.where} {error.error}; expected {error.expected}."
            lost = form.file is not None
            what = {"headline": "Not answered", "problem": problem, "lost_file": lost}
            return shown(form, status, **what)
        view = _many_view(reviews, answer) if form.is_many else _single_view(reviews, answer)
        return shown(form, answered=answer, taken=taken, **view)

    @blueprint.post("/right")
    def right() -> Response:
        """Keep what one of the two buttons says: `said` is `3:negative`, of the fourth review."""
        check_token(request, token)
        position, _, label = request.form.get("said", "").partition(":")
        given = {
            "request_id": _storable(request.form.get("request_id", "")),
            "position": int(position) if _POSITION.fullmatch(position) else -1,
            "label": _storable(label),
        }
        kept, status = keep_feedback(service, checks.feedback(given))
        if not prefers_html(request):
            return as_json(kept, status)
        return Response(render_template("kept.html", kept=kept, later=status == 202), status)

    return blueprint


# --- what the form brings --------------------------------------------------------------------


@dataclass(frozen=True)
class FormInput:
    """What was put into the form, as it is shown again; a file cannot be."""

    text: str = ""
    split: str = ONE
    column: str = ""
    file: FileStorage | None = None

    @property
    def is_many(self) -> bool:
        """Whether it is a list of reviews, be it of one."""
        return self.file is not None or self.split == LINES


def read_input(request: Request, checks: RequestChecks) -> FormInput:
    """Return the fields of the form. Raises `RequestError` (413) when the body is too large."""
    # Flask refuses text fields of half a megabyte by itself; the whole body is bounded anyway
    request.max_form_memory_size = checks.limits.max_body
    try:
        form, files = request.form, request.files
    except RequestEntityTooLarge:
        expected = f"at most {checks.limits.max_body:,} bytes"
        raise RequestError(413, "is too large", SENT, expected) from None
    chosen = files.get("file")
    return FormInput(
        # browsers send a text area's line ends as \r\n
        text=_storable(form.get("text", "")).replace("\r\n", "\n"),
        split=LINES if form.get("split") == LINES else ONE,
        column=_storable(form.get("column", "")),
        file=chosen if chosen is not None and chosen.filename else None,
    )


def _storable(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which no page can hold."""
    return _SURROGATES.sub("\ufffd", text)


def read_reviews(form: FormInput, checks: RequestChecks) -> tuple[Reviews, str]:
    """Return the reviews of the file, or of the text when no file was chosen; and how it was read.

    Of many, one that breaks a limit is kept with the reason. Raises `RequestError`: 400 when none
    can be read, 422 when there are too many or a single one is too long.
    """
    if not form.is_many:
        return [(checks.text(form.text, "The text"), "")], ""
    lines = [(line, "") for line in form.text.split("\n") if line.strip()]
    taken = list[str]()
    given = lines if form.file is None else _rows_of_file(form.file, form.column, checks, taken)
    most, reviews = checks.limits.max_texts, list[tuple[str, str]]()
    for text, problem in given:
        if len(reviews) == most:
            expected = f"at most {most:,}; for larger files: python -m sentiment score"
            raise RequestError(422, f"has more than {most:,} reviews", SENT, expected)
        fault = problem or _fault(text, checks)
        reviews.append((_storable(text) if fault else text, fault))
    if not _readable(reviews):
        first = f" ({reviews[0][1]})" if reviews else ""
        fault = f"has no review that can be read{first}"
        raise RequestError(400, fault, SENT, "one review or more")
    return reviews, "".join(taken)


def _rows_of_file(
    file: FileStorage, column: str, checks: RequestChecks, taken: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield each row's text and what is wrong with it; put into `taken` how the file was read."""
    most = checks.limits.max_body
    try:
        table = read_table(file.stream, file.filename or "", most_bytes=most)
        at = table.find(TEXTS, column.strip() or None, FILE_HINT)
        taken.append(_storable(f"{table.described(('texts', at))}, of {len(table.names)} columns"))
        for chunk in table.chunks([at]):
            texts = texts_of(chunk)  # and marks the rows without text
            for row, (text, cell) in enumerate(zip(texts, chunk.columns[0], strict=True)):
                yield text or cell, chunk.problems.get(row, "")
    except ReviewDataError as error:
        expected = "a CSV, TSV, JSON or Excel file with a column of reviews"
        raise RequestError(400, f"cannot be used: {error}", "The file", expected) from None


def _fault(text: str, checks: RequestChecks) -> str:
    try:
        checks.text(text, "")
    except RequestError as error:
        return error.error if text.strip() else NO_TEXT
    return ""


def _readable(reviews: Reviews) -> list[str]:
    return [text for text, problem in reviews if not problem]


def _answered(
    reviews: Reviews, predictions: Iterable[Prediction]
) -> Iterator[tuple[str, str, Any]]:
    """Yield each review, what is wrong with it, and otherwise its prediction."""
    given = iter(predictions)
    for text, problem in reviews:
        yield text, problem, None if problem else next(given)


# --- what the page shows ---------------------------------------------------------------------


def _single_view(reviews: Reviews, answer: Answer) -> dict[str, Any]:
    """Return what the page shows of one review."""
    ((text, _),), (prediction,) = reviews, answer.predictions
    version, label = answer.version, _label(prediction)
    percent, threshold = percents(prediction.probability, version.threshold)
    start = "before any word"
    if version.intercept > 0 and version.prior > 0.5:
        start = "most reviews are positive"
    return {
        "headline": f"{label.capitalize()}, {percent}" if label else "No known words",
        "single": prediction,
        "text": text,
        "label": label,
        "percent": percent,
        "threshold": threshold,
        "marked": mark_words(text, prediction.contributions, answer.version.cleaner),
        "terms": prediction.contributions[:TERMS_SHOWN],
        "start": start,
        "signed": signed,
    }


def _many_view(reviews: Reviews, answer: Answer) -> dict[str, Any]:
    """Return what the page shows of many reviews: counts, the first rows, the download."""
    total, threshold = len(reviews), answer.version.threshold
    labels = Counter(map(_label, answer.predictions))
    counts = {name: labels[name] for name in reversed(CLASS_NAMES)}
    neither = total - sum(counts.values())
    return {
        "headline": f"{total:,} {'review' if total == 1 else 'reviews'}: "
        + ", ".join(f"{count:,} {name}" for name, count in counts.items()),
        "many": _rows(reviews, answer),
        "rows_a_page": ROWS_A_PAGE,
        "total": total,
        "counts": counts | {"neither": neither},
        "unknown": labels[""],
        "unread": total - len(_readable(reviews)),
        "threshold": percents(threshold, threshold)[0],
        "download": base64.b64encode(_scored_csv(reviews, answer)).decode(),
    }


def percents(probability: float, threshold: float) -> tuple[str, str]:
    """Return both in per cent with one decimal, or as many as tell them apart."""
    for digits in range(1, 15):
        found = [f"{value:.{digits}%}" for value in (probability, threshold)]
        if probability == threshold or found[0] != found[1]:
            break
    return _percent(probability, digits), _percent(threshold, digits)


def _percent(share: float, digits: int) -> str:
    """Return it in per cent; what is not 0 or 1 is not rounded to it."""
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 < share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def _rows(reviews: Reviews, answer: Answer) -> list[dict[str, Any]]:
    """Return the first rows as the page shows them, explained by the version that answered.

    `position` is that of the review in the answer; one that could not be read has none.
    """
    explained = answer.version.predict(_readable(reviews)[:ROWS_MARKED])
    positions, rows = count(), list[dict[str, Any]]()
    for text, problem, found in islice(_answered(reviews, explained), ROWS_MARKED):
        row = dict[str, Any](marked=text, label="", reason=problem, percent="", position=None)
        if not problem:
            row["marked"] = mark_words(text, found.contributions, answer.version.cleaner)
            row |= {"reason": found.reason, "position": next(positions), "label": _label(found)}
            if row["label"]:
                row["percent"] = percents(found.probability, answer.version.threshold)[0]
        rows.append(row)
    return rows


def _label(prediction: Prediction) -> str:
    return "" if prediction.label is None else CLASS_NAMES[prediction.label]


def _scored_csv(reviews: Reviews, answer: Answer) -> bytes:
    """Return the scored reviews, with the byte order mark by which spreadsheets know UTF-8.

    A review that could not be read is left out, but for its row and our reason.
    """
    out = io.StringIO(newline="")
    # all quoted: spreadsheets that separate by a semicolon would cut a review at one
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(SCORED_COLUMNS)
    for text, problem, found in _answered(reviews, answer.predictions):
        row = ("", "", "", "", problem)
        if not problem:
            made = _label(found), found.probability, found.known_words, found.reason or ""
            row = (without_formula(text), *made)
        writer.writerow((*row, answer.version.version))
    return out.getvalue().encode("utf-8-sig")


# --- the words that decided ------------------------------------------------------------------
# A term can be two words or occur twice; a reader looks at words. So each contribution is shared
# out evenly among its occurrences and the words that each of them covers.


@dataclass(frozen=True)
class WeighedWord:
    """A word of a review: its characters, and its part of the decision value."""

    start: int
    end: int
    weight: float


def weigh_words(
    text: str, contributions: Sequence[Contribution], cleaner: TextCleaner | None = None
) -> list[WeighedWord]:
    """Return the words of the text that weigh something, in order.

    The weights add up to those of the contributions whose places are known. Words that the
    cleaning drops, such as "the" within "out of the box", get no share of a term that spans them.
    `cleaner` is the model's, by default the guide's.
    """
    if cleaner is None or cleaner.cleaning == "guide":
        words = [found.span() for found in _WORD.finditer(text) if clean_text(found[0])]
    else:  # "don't" is two words in one place
        words = sorted({(word.start, word.end) for word in negation_words(text)})
    starts, ends = [start for start, _ in words], [end for _, end in words]
    shares: dict[Range, list[tuple[int, int, float]]] = {}
    for contribution in contributions:
        for first, last in contribution.at:
            # a place without a word of its own, as between the parts of a tag, is its own word
            covered = words[bisect_right(ends, first) : bisect_left(starts, last)]
            covered = covered or [(first, last)]
            weight = contribution.weight / len(contribution.at) / len(covered)
            for start, end in covered:
                place = (max(start, first), min(end, last), weight)
                shares.setdefault((start, end), []).append(place)
    return [
        WeighedWord(min(start), max(end), sum(weight))
        for start, end, weight in (zip(*shares[word], strict=True) for word in sorted(shares))
    ]


def mark_words(
    text: str, contributions: Sequence[Contribution], cleaner: TextCleaner | None = None
) -> Markup:
    """Return the text, escaped, with `<mark>` around the words that weigh, by sign and strength.

    The classes are `positive` or `negative`, and `strength-1` to `strength-3`, relative to the
    review's heaviest word; `title` is the weight. `cleaner` is the model's.
    """
    words = weigh_words(text, contributions, cleaner)
    heaviest = max((abs(word.weight) for word in words), default=0.0)
    parts, done = [], 0
    for word in words:
        strength = sum(abs(word.weight) >= heaviest * share for share in STRENGTHS)
        if word.weight == 0.0 or strength == 0 or word.start < done:
            continue
        core = _CORE.search(text, word.start, word.end)
        start, end = core.span() if core else (word.start, word.end)
        sign = "positive" if word.weight > 0 else "negative"
        mark = MARK.format(sign, strength, signed(word.weight), text[start:end])
        parts += [escape(text[done:start]), mark]
        done = end
    return Markup("").join([*parts, escape(text[done:])])


def signed(weight: float) -> str:
    """Return the number with its sign and two decimals, with a true minus: `+0.84`, `−1.20`."""
    return f"{weight:+.2f}".replace("-", "−")
