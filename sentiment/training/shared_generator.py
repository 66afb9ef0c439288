"""Shared generator: which fits draw random numbers from the one that liblinear has per process."""

from __future__ import annotations

from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.svm import SVC, LinearSVC, LinearSVR, NuSVC


def draws_from_shared_generator(model: ClassifierMixin, n_samples: int, n_features: int) -> bool:
    """Tell whether a fit draws from that generator.

    Two such fits at a time would draw each other's numbers (scikit-learn's newrand.h has a
    global Mersenne Twister). Liblinear's coordinate descent draws: all its dual solvers and those
    with an l1 penalty. Its primal Newton solvers do not.

    Parameters
    ----------
    model : classifier
        Unfitted. Estimators among its parameters are looked at too, and taken to draw where
        only the data they will be given can tell.
    n_samples, n_features : int
        Shape of the training matrix: `LinearSVC(dual="auto")` decides by it.

    Returns
    -------
    bool
        True also for the support vector machines of libsvm, which share a generator likewise.

    """

    def draws(part: Any) -> bool:
        if isinstance(part, LinearSVC):
            primal = part.dual is False or (
                part.dual == "auto" and part is model and n_samples >= n_features
            )
            newton = (part.penalty, part.loss, part.multi_class) == ("l2", "squared_hinge", "ovr")
            return not (primal and newton)
        if getattr(part, "solver", None) == "liblinear":
            l2 = part.penalty != "l1" and getattr(part, "l1_ratio", None) == 0
            return bool(part.dual) or not l2
        return isinstance(part, (LinearSVR, SVC, NuSVC))

    return any(map(draws, (model, *model.get_params().values())))
