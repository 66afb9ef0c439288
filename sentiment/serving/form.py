"""Web form: what the page's form brings, pasted text or a file → reviews to answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from sentiment.data.reviews import TEXTS, texts_of
from sentiment.data.tables import NO_TEXT, read_table
from sentiment.errors import ReviewDataError
from sentiment.serving.schemas import Limits, RequestError, check_text

ONE, LINES = "one", "lines"  # what the pasted text is: one review, or one a line
FILE_HINT = "name it beside the file"

_SURROGATES = re.compile("[\ud800-\udfff]")  # stray bytes and broken pairs, which no page can hold


@dataclass(frozen=True)
class FormInput:
    """What was put into the form, as it is shown again; a file cannot be."""

    text: str = ""
    split: str = ONE
    column: str = ""
    answered: str = ""  # request id of the answer that the download belongs to
    given: str = ""  # `FormReviews.as_json` of the download button beside an answer
    file: FileStorage | None = None

    @property
    def is_many(self) -> bool:
        """Whether it is a list of reviews, be it of one."""
        return bool(self.given) or self.file is not None or self.split == LINES


@dataclass
class FormReviews:
    """The reviews of a form in their order; `problems[i]` says why review i cannot be answered."""

    texts: list[str] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def add(self, text: str, limits: Limits, problem: str | None = None) -> None:
        """Append a review; one that breaks a limit is kept with the reason."""
        if problem is None:
            try:
                check_text(text, "", limits)
            except RequestError as error:
                problem = error.error if text.strip() else NO_TEXT
        if problem is not None:
            self.problems[len(self.texts)] = problem
            text = _SURROGATES.sub("\ufffd", text)
        self.texts.append(text)

    def as_json(self) -> str:
        """All of it, as the download button sends it back."""
        pairs = [(text, self.problems.get(at)) for at, text in enumerate(self.texts)]
        return json.dumps(pairs, ensure_ascii=False)

    def readable(self) -> list[str]:
        """The reviews that can be answered."""
        return [text for at, text in enumerate(self.texts) if at not in self.problems]


def read_input(request: Request, limits: Limits) -> FormInput:
    """The fields of the form. Raises `RequestError` (413) when the body is too large."""
    # Flask refuses text fields of half a megabyte by itself; the whole body is bounded anyway
    request.max_form_memory_size = limits.max_body
    try:
        form, files = request.form, request.files
    except RequestEntityTooLarge:
        raise RequestError(
            413, "is too large", "What was sent", f"at most {limits.max_body:,} bytes"
        ) from None
    chosen = files.get("file")
    return FormInput(
        # browsers send a text area's line ends as \r\n
        text=form.get("text", "").replace("\r\n", "\n"),
        split=LINES if form.get("split") == LINES else ONE,
        column=form.get("column", ""),
        answered=form.get("request_id", "") if "reviews" in form else "",
        given=form.get("reviews", ""),
        file=chosen if chosen is not None and chosen.filename else None,
    )


def read_reviews(form: FormInput, limits: Limits) -> FormReviews:
    """The reviews of the file, or of the text when no file was chosen.

    Raises `RequestError`: 400 when there are none, 422 when there are too many or one is too long.
    """
    if form.given:
        reviews = _given(form.given, limits)
    elif form.file is not None:
        reviews = _uploaded(form.file, form.column, limits)
    elif form.split == LINES:
        reviews = FormReviews()
        for line in form.text.split("\n"):
            if line.strip():
                reviews.add(line, limits)
                _check_count(reviews, limits)
    else:
        return FormReviews([check_text(form.text, "The text", limits)])
    if not reviews.readable():
        first = f" ({reviews.problems[0]})" if reviews.problems else ""
        raise RequestError(
            400, f"has no review that can be read{first}", "What was sent", "one review or more"
        )
    return reviews


def _given(text: str, limits: Limits) -> FormReviews:
    reviews = FormReviews()
    try:
        for review, problem in json.loads(text):
            if not isinstance(review, str) or not isinstance(problem, str | None):
                raise TypeError("expected text")
            reviews.add(review, limits, problem)
            _check_count(reviews, limits)
    except RequestError:
        raise
    except (ValueError, TypeError, RecursionError):
        raise RequestError(
            400, "is damaged", "The field 'reviews'", "what the page put there"
        ) from None
    return reviews


def _uploaded(file: FileStorage, column: str, limits: Limits) -> FormReviews:
    reviews = FormReviews()
    try:
        table = read_table(file.stream, file.filename or "", most_bytes=limits.max_body)
        at = table.find(TEXTS, column.strip() or None, FILE_HINT)
        for chunk in table.chunks([at]):
            texts_of(chunk)  # marks the rows without text
            for row, text in enumerate(chunk.columns[0]):
                reviews.add(text, limits, chunk.problems.get(row))
                _check_count(reviews, limits)
    except ReviewDataError as error:
        raise RequestError(
            400, f"cannot be used: {error}", "The file", "a CSV or TSV with a column of reviews"
        ) from None
    return reviews


def _check_count(reviews: FormReviews, limits: Limits) -> None:
    if len(reviews.texts) > limits.max_texts:
        raise RequestError(
            422,
            f"has more than {limits.max_texts:,} reviews",
            "What was sent",
            f"at most {limits.max_texts:,}; for larger files: serve_sentiment.py score",
        )
