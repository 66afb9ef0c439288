"""Training fingerprint: all that a trained model follows from, in 16 hexadecimal digits.

Every version carries it as a tag, whether the experiment registered it or the flow: the same
fingerprint again would be the same model again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sklearn

from sentiment.model.algorithms import Candidate
from sentiment.tracking.store import PROJECT
from text_cleaning import cleaning_fingerprint

FINGERPRINT = "training_fingerprint"  # tag of a version
# What a fitted model depends on besides data and configuration.
CODE = (
    "text_cleaning.py",
    "sentiment/data/reviews.py",
    "sentiment/model/algorithms.py",
    "sentiment/model/calibration.py",
    "sentiment/training/report.py",
)


def training_fingerprint(data_digest: str, candidate: Candidate) -> str:
    """16 hexadecimal digits of data, parameters, cleaning, code and the version of scikit-learn.

    `data_digest` is `reviews.data_digest` of the checked frame; the candidate may be fitted or not.
    """
    code = hashlib.sha256()
    for name in CODE:
        code.update((PROJECT / name).read_bytes())
    # every parameter, logged or not
    parameters = [
        sorted((name, str(value)) for name, value in part.get_params(deep=False).items())
        for part in (candidate.vectorizer, candidate.model)
    ]
    followed: dict[str, Any] = {
        "data": data_digest,
        "parameters": parameters,
        "cleaning": cleaning_fingerprint(),
        "scikit-learn": sklearn.__version__,
        "code": code.hexdigest(),
    }
    return hashlib.sha256(json.dumps(followed, sort_keys=True).encode()).hexdigest()[:16]
