"""Calibrate classifiers: the probability is Platt's, the label the classifier's own or the user's.

    model = calibrate(classifier, decisions, matrix, labels)  # of scikit-learn's classes only
    reading = read_calibration(model)                         # what serving needs of it

All algorithms get their probabilities in one way, so these can be compared: a sigmoid of the
decision value, fitted on decisions about texts that the classifier had not seen. With balanced
class weights the label does not change at a probability of one half but at `threshold`. A
`DecisionRule` may set the threshold to a recall of negative instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB

from sentiment.errors import CalibrationError
from sentiment.metrics import Floats, Labels
from sentiment.model.nb_logistic import NBLogisticRegression

DECISION_RULE = "decision_rule"  # tag of a run and of a version: `str` of its `DecisionRule`
TO_RECALL = "recall of negative "  # and the recall
TIE = 1e-9  # decision values this near to 0 are a tie, whose label is a matter of rounding


@dataclass(frozen=True)
class DecisionRule:
    """From which probability of positive a review is labelled positive.

    It is the classifier's own, or what gives `recall_negative` (above 0, below 1) among reviews
    that it had not seen. A version keeps its rule as one tag.
    """

    recall_negative: float | None = None

    def __str__(self) -> str:
        if self.recall_negative is None:
            return "the classifier's own"
        return f"{TO_RECALL}{self.recall_negative}"

    @classmethod
    def of_tag(cls, tag: str | None) -> Self:
        """Return the rule that a tag says; without one it is the classifier's own."""
        if tag is None or not tag.startswith(TO_RECALL):
            return cls()
        return cls(float(tag.removeprefix(TO_RECALL)))


OWN = DecisionRule()


def linear_form(model: Any) -> Any:
    """Return what is linear in its terms as a plain logistic regression; others as they are.

    Of `NBLogisticRegression` that is its weights: a model file needs no class of ours for it.

    The posterior of multinomial and complement naive Bayes is a logistic function of a weighted
    sum of the term values. That is the form of a logistic regression, fitted in another way (Ng &
    Jordan 2001, "On discriminative vs. generative classifiers"), whose decision value is the log
    odds of positive. The intercept is asked of the model, with a text that has no terms: the log
    odds of the prior for `MultinomialNB`, 0 for `ComplementNB`.
    """
    if isinstance(model, NBLogisticRegression):
        return _linear(model.coef_[0], model.intercept_[0])
    if not isinstance(model, (MultinomialNB, ComplementNB)):
        return model
    negative, positive = model.feature_log_prob_
    without_terms = csr_matrix((1, len(positive)))
    (joint,) = model.predict_joint_log_proba(without_terms)
    return _linear(positive - negative, joint[1] - joint[0])


def decision_values(model: Any, matrix: Any) -> Floats:
    """Return a value per row, shape (rows,): above 0 where a fitted classifier says positive.

    Raises `CalibrationError` for a classifier that has no such value.
    """
    classifier = linear_form(model)
    if not hasattr(classifier, "decision_function"):
        raise CalibrationError(
            f"{type(model).__name__} has no decision function, so it cannot be calibrated; "
            "expected a classifier that has one, MultinomialNB or ComplementNB"
        )
    return np.asarray(classifier.decision_function(matrix), dtype=np.float64)


def term_weights(model: Any) -> Floats | None:
    """Return the weight of each term towards positive, shape (terms,); None for other classifiers.

    A decision value is the sum of term value times weight, plus the intercept.
    """
    coefficients = getattr(linear_form(model), "coef_", None)
    return None if coefficients is None else np.asarray(coefficients[0], dtype=np.float64)


def calibrate(
    model: Any, decisions: Floats, matrix: Any, labels: Labels, rule: DecisionRule = OWN
) -> FixedThresholdClassifier:
    """Put Platt's sigmoid and the threshold of `rule` on a fitted binary classifier.

    Parameters
    ----------
    model : classifier
        Fitted on `matrix` and `labels`.
    decisions : array of shape (n,)
        `decision_values` of the training texts by models that had not seen them. In-sample
        decisions would be too sure of themselves, and so would the probabilities.
    matrix, labels : csr_matrix of shape (n, terms), array of shape (n,)
        TF-IDF of the training texts; 0 or 1, both present.
    rule : DecisionRule
        How the threshold is set.

    Returns
    -------
    FixedThresholdClassifier
        Fitted; around a `CalibratedClassifierCV` with the model (naive Bayes in its linear form).
        `predict` gives 1 exactly where `predict_proba` gives at least `threshold`. The attribute
        `prior_` is added: the share of positive labels.

    Raises
    ------
    CalibrationError
        The labels on the training matrix are not those of the model's own `predict`, by which it
        was scored; or a higher decision value does not make positive more probable; or the recall
        of `rule` cannot be had (`threshold_at_recall`).

    Notes
    -----
    The sigmoid is fitted by maximum likelihood to Platt's targets (Platt 1999, "Probabilistic
    outputs for support vector machines", section 2.2). `CalibratedClassifierCV(model,
    ensemble=False)` would work out the decisions itself, but on a matrix whose vocabulary and idf
    come from the held-out texts too. So it is fitted on decisions that are there already, as if
    they were a single term of weight 1, and is given the model afterwards.

    """
    rows = np.arange(len(labels))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_linear(np.ones(1), 0.0)),
        method="sigmoid",
        ensemble=False,
        cv=[(rows, rows)],  # nothing is left to be fitted on other rows
    ).fit(np.asarray(decisions, dtype=np.float64)[:, np.newaxis], labels)
    (pair,) = calibrated.calibrated_classifiers_
    (sigmoid,) = pair.calibrators
    sigmoid.a_, sigmoid.b_ = float(sigmoid.a_), float(sigmoid.b_)  # NumPy's take a file each
    if sigmoid.a_ >= 0:
        raise CalibrationError(
            f"{type(model).__name__}: among reviews that it had not seen, those that it finds more "
            "positive are not more often positive; such a model is not registered"
        )
    pair.estimator = FrozenEstimator(linear_form(model))
    calibrated.set_params(estimator=pair.estimator, cv=None)
    calibrated.n_features_in_ = matrix.shape[1]
    # a decision of exactly 0 is negative to every classifier of scikit-learn
    threshold = np.nextafter(expit(-sigmoid.b_), 1)
    final = FixedThresholdClassifier(
        calibrated, threshold=float(threshold), response_method="predict_proba"
    )
    final.prior_ = float(np.mean(labels))
    clear = np.abs(decision_values(model, matrix)) > TIE
    different = int((final.predict(matrix) != model.predict(matrix))[clear].sum())
    if different:
        raise CalibrationError(
            f"{type(model).__name__}: calibrated, {different:,} of {len(labels):,} training "
            "reviews get another label than by the model's own predict, by which it was scored; "
            "such a model is not registered"
        )
    if rule.recall_negative is not None:
        probabilities = read_calibration(final).probability(decisions)
        final.threshold = threshold_at_recall(probabilities, labels, rule.recall_negative)
    return final


def threshold_at_recall(probabilities: Floats, labels: Labels, recall: float) -> float:
    """Return the lowest threshold below which the share `recall` of the negative reviews lies.

    `probabilities` of positive, 0–1, are of reviews that the model had not seen, shape (n,), and
    `labels` are theirs, 0 or 1, both present. Equal probabilities are on one side, so the recall
    reached may be higher. Raises `CalibrationError` when a coin would do as well: the recalls of
    both classes do not add up to more than 1, as where every review is called negative.
    """
    negative = np.sort(probabilities[labels == 0])
    needed = max(1, math.ceil(recall * len(negative) - TIE))
    threshold = float(np.nextafter(negative[needed - 1], 1))
    reached = float(np.mean(negative < threshold))
    kept = float(np.mean(probabilities[labels == 1] >= threshold))
    if reached < recall - TIE or reached + kept <= 1:
        raise CalibrationError(
            f"a recall of negative of {recall:g} is out of reach: among reviews that the model had "
            f"not seen it leaves {kept:.1%} of the positive ones positive; ask for a lower one"
        )
    return threshold


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` put together, taken apart for serving.

    `threshold` and `prior` are probabilities of positive, 0–1; `slope` and `offset` are the
    sigmoid's: `expit(slope * decision + offset)`. `weights` and `intercept` are the classifier's,
    None and 0 where it is not linear.
    """

    classifier: Any
    weights: Floats | None
    intercept: float
    slope: float
    offset: float
    threshold: float
    prior: float

    def probability(self, decisions: Floats) -> Floats:
        """Return the probability of positive, 0–1, of decision values; of the same shape."""
        return np.asarray(expit(self.slope * decisions + self.offset))

    def answers(self, matrix: Any) -> tuple[Floats, Floats]:
        """Return the decision value and the probability of positive of each TF-IDF row.

        Both have shape (rows,). Probabilities are those of `predict_proba` to the last bit, which
        takes many times longer, but for rows without any term: they get the prior.
        """
        if self.weights is None:
            decisions = decision_values(self.classifier, matrix)
        else:
            decisions = np.asarray(matrix @ self.weights + self.intercept)
        probabilities = self.probability(decisions)
        probabilities[np.diff(matrix.indptr) == 0] = self.prior
        return decisions, probabilities


def read_calibration(model: Any) -> Calibration:
    """Take a model of `calibrate` apart. Raises `CalibrationError` for any other model."""
    try:
        (pair,) = model.estimator.calibrated_classifiers_
        classifier, (sigmoid,) = pair.estimator.estimator, pair.calibrators
        weights = term_weights(classifier)
        return Calibration(
            classifier=classifier,
            weights=weights,
            intercept=0.0 if weights is None else float(classifier.intercept_[0]),
            slope=-sigmoid.a_,  # scikit-learn's sigmoid is expit(-(a_ * decision + b_))
            offset=-sigmoid.b_,
            threshold=float(model.threshold),
            prior=model.prior_,
        )
    except (AttributeError, TypeError, ValueError):
        raise CalibrationError("its probabilities are not calibrated") from None


def _linear(weights: Floats, intercept: float) -> LogisticRegression:
    """Return a logistic regression that is fitted already, of labels 0 and 1."""
    linear = LogisticRegression()
    linear.classes_ = np.array([0, 1])
    linear.coef_ = np.asarray(weights, dtype=np.float64)[np.newaxis]
    linear.intercept_ = np.array([float(intercept)])
    linear.n_features_in_ = len(weights)
    return linear
