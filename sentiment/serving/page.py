"""Web page: the form at `/`, its answers in HTML and as a CSV, and the A/B test as a page.

Everything is rendered here: no inline script or style, nothing from another host, and it works
without JavaScript.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Blueprint, Response, render_template, request

from sentiment.data.reviews import CLASS_NAMES
from sentiment.model.predictor import LoadedVersion, Prediction
from sentiment.serving.ab_page import comparison_view
from sentiment.serving.ab_results import RunningComparison
from sentiment.serving.form import FormInput, FormReviews, read_input, read_reviews
from sentiment.serving.markup import mark_words, signed
from sentiment.serving.schemas import Limits, RequestError
from sentiment.serving.service import Answer, AnsweringService, NotReadyError

TERMS_SHOWN = 8
ROWS_SHOWN = 200  # of many reviews; more is for a spreadsheet
SCORED_COLUMNS = ("review", "label", "probability", "known_words", "reason", "version")
# A spreadsheet takes a cell that begins so for a formula, and reviews are written by strangers
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def create_page(service: AnsweringService, limits: Limits) -> Blueprint:
    """The blueprint with `GET /`, `POST /` and `POST /scored.csv`.

    What is wrong with the input is said on the page, with a status of 4xx or 503, and the input
    stays in the form.
    """
    blueprint = Blueprint("page", __name__)

    def shown(form: FormInput, status: int = 200, **what: Any) -> Response:
        arms = service.watcher.arms
        tested = arms is not None and bool(arms.experiment)
        page = {"root": request.script_root, "tested": tested, "form": form, **what}
        return Response(render_template("page.html", **page), status)

    def refused(form: FormInput, error: RequestError) -> Response:
        problem = f"{error.where} {error.error}; expected {error.expected}."
        lost = form.file is not None
        return shown(form, error.status, headline="Not answered", problem=problem, lost_file=lost)

    def answered(form: FormInput, *, explain: bool) -> tuple[FormReviews, Answer]:
        reviews = read_reviews(form, limits)
        # the arm that gave the answer on the page gives its download too
        unit, again = form.answered or None, bool(form.answered)
        try:
            return reviews, service.answer(reviews.readable(), unit, explain, again=again)
        except NotReadyError as error:
            raise RequestError(
                503, f"does not answer ({error})", "The model", "a version in production"
            ) from None

    @blueprint.get("/")
    def empty() -> Response:
        return shown(FormInput(), headline="Review sentiment")

    @blueprint.post("/")
    def read() -> Response:
        form = FormInput()
        try:
            form = read_input(request, limits)
            reviews, answer = answered(form, explain=not form.is_many)
        except RequestError as error:
            return refused(form, error)
        facts = _answer_facts(answer)
        if form.is_many:
            many = _many_view(reviews, answer)
            return shown(form, headline=many["headline"], many=many, answered=facts)
        single = _single_view(reviews.texts[0], answer.predictions[0], answer.version)
        return shown(form, headline=single["headline"], single=single, answered=facts)

    @blueprint.post("/scored.csv")
    def download() -> Response:
        form = FormInput()
        try:
            form = read_input(request, limits)
            reviews, answer = answered(form, explain=False)
        except RequestError as error:
            return refused(form, error)
        return Response(
            _scored_csv(reviews, answer),
            mimetype="text/csv",
            headers={"Content-Disposition": 'attachment; filename="scored.csv"'},
        )

    return blueprint


def render_ab(running: RunningComparison) -> str:
    """The running comparison as an HTML page; within a request."""
    view = comparison_view(running)
    return render_template(
        "ab.html", root=request.script_root, tested=True, here="ab", running=running, view=view
    )


def percents(probability: float, threshold: float) -> tuple[str, str]:
    """Both in per cent with one decimal, or as many as tell them apart."""
    for digits in range(1, 15):
        found = [f"{value:.{digits}%}" for value in (probability, threshold)]
        if probability == threshold or found[0] != found[1]:
            break
    return _percent(probability, digits), _percent(threshold, digits)


def _percent(share: float, digits: int) -> str:
    """In per cent; what is not 0 or 1 is not rounded to it."""
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 < share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def _single_view(text: str, prediction: Prediction, version: LoadedVersion) -> dict[str, Any]:
    """What the page shows of one review: label, scale, marked text, the terms and their sum."""
    probability, threshold = percents(prediction.probability, version.threshold)
    label = _label(prediction)
    shown = prediction.contributions[:TERMS_SHOWN]
    heaviest = max((abs(term.weight) for term in shown), default=0.0) or 1.0
    total = prediction.decision - version.intercept
    return {
        "headline": f"{label.capitalize()}, {probability}" if label else "No known words",
        "label": label,
        "percent": probability,
        "threshold": threshold,
        "at": f"{prediction.probability:.3%}"[:-1],
        "threshold_at": f"{version.threshold:.3%}"[:-1],
        "anchor": _anchor(version.threshold),
        "marked": mark_words(text, prediction.contributions),
        "terms": [
            {
                "words": text[slice(*term.at[0])] if term.at else term.term,
                "sign": "positive" if term.weight > 0 else "negative",
                "left": 50 + min(term.weight, 0.0) / heaviest * 50,
                "width": abs(term.weight) / heaviest * 50,
                "weight": signed(term.weight),
            }
            for term in shown
        ],
        "others": len(prediction.contributions) - len(shown),
        "sum": (
            f"All terms {signed(total)} and the intercept {signed(version.intercept)} make a "
            f"decision value of {signed(prediction.decision)}; above 0 is positive."
        ),
    }


def _anchor(share: float) -> str:
    """Which part of a caption stands at its place, so that the caption keeps within the picture."""
    if share < 0.1:
        return "start"
    return "end" if share > 0.9 else "middle"


def _many_view(reviews: FormReviews, answer: Answer) -> dict[str, Any]:
    """What the page shows of many reviews: the counts, the first rows, what the download needs."""
    version = answer.version
    # explained by the version that answered, and not logged a second time
    explained = iter(version.predict(reviews.readable()[:ROWS_SHOWN]))
    rows = []
    for at, text in enumerate(reviews.texts[:ROWS_SHOWN]):
        row: dict[str, Any] = {"number": f"{at + 1:,}", "marked": text}
        if at in reviews.problems:
            row |= {"label": "", "reason": reviews.problems[at], "percent": ""}
        else:
            found = next(explained)
            row |= {
                "marked": mark_words(text, found.contributions),
                "label": _label(found),
                "reason": found.reason,
                "percent": percents(found.probability, version.threshold)[0],
            }
        rows.append(row)
    labels = [_label(prediction) for prediction in answer.predictions]
    counts = {name: labels.count(name) for name in (CLASS_NAMES[1], CLASS_NAMES[0])}
    unknown, unread = labels.count(""), len(reviews.problems)
    extra = [
        f"{count:,} {what}."
        for count, what in ((unknown, "without known words"), (unread, "could not be read"))
        if count
    ]
    total = len(reviews.texts)
    parts, left = [], 0.0
    for name, count in (*counts.items(), ("neither", unknown + unread)):
        parts.append({"label": name, "left": left, "width": 100 * count / total})
        left += 100 * count / total
    return {
        "headline": f"{total:,} {'review' if total == 1 else 'reviews'}: "
        f"{counts['positive']:,} positive, {counts['negative']:,} negative",
        "words": " ".join(extra),
        "parts": parts,
        "rows": rows,
        "left_out": total - len(rows),
        "threshold": percents(version.threshold, version.threshold)[0],
        "given": reviews.as_json(),
    }


def _answer_facts(answer: Answer) -> dict[str, str]:
    return {
        "version": answer.version.version,
        "algorithm": answer.version.algorithm,
        "arm": answer.arm,
        "time": f"{answer.milliseconds:,.1f} ms",
        "request_id": answer.request_id,
    }


def _label(prediction: Prediction) -> str:
    return "" if prediction.label is None else CLASS_NAMES[prediction.label]


def _scored_csv(reviews: FormReviews, answer: Answer) -> bytes:
    """The reviews and their scores; with a byte order mark, by which spreadsheets know UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(SCORED_COLUMNS)
    writer.writerows(_scored_rows(reviews, answer))
    return out.getvalue().encode("utf-8-sig")


def _scored_rows(reviews: FormReviews, answer: Answer) -> Iterator[Sequence[object]]:
    predictions = iter(answer.predictions)
    for at, text in enumerate(reviews.texts):
        review = f"'{text}" if text.startswith(FORMULA_STARTS) else text
        if at in reviews.problems:
            yield review, "", "", "", reviews.problems[at], answer.version.version
            continue
        found = next(predictions)
        yield (
            review,
            _label(found),
            found.probability,
            found.known_words,
            found.reason or "",
            answer.version.version,
        )
