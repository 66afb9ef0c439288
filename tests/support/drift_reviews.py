"""Made-up reviews for the drift tests, a small calibrated pipeline, and its reference."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from conftest import BAD, GOOD, THINGS
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from sentiment.drift.features import WindowFeatures, row_features
from sentiment.drift.reference import Reference
from sentiment.metrics import Ints
from sentiment.model.calibration import calibrate
from sentiment.training.folds import FoldMatrices
from text_cleaning import TextCleaner, clean_texts

KETTLE = ["kettle", "lid", "spout", "boils", "steam", "handle", "element", "switch"]


def made_up(count: int, seed: int, *, negative: float = 0.25) -> tuple[list[str], Ints]:
    """Return reviews of two to nine words and their labels; one in eight contradicts its label.

    One in ten has an emoji, one in fifteen an accent, one in ten a word that nobody else uses.
    """
    rng = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        label = int(rng.random() >= negative)
        says_good = label == 1 if rng.random() < 0.875 else label == 0
        words = [rng.choice(GOOD if says_good else BAD)]
        words += [rng.choice(THINGS) for _ in range(rng.randint(1, 8))]
        if rng.random() < 0.1:
            words.append(f"zz{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}word")
        rng.shuffle(words)
        text = " ".join(words)
        text += " \N{THUMBS UP SIGN}" if rng.random() < 0.1 else ""
        text += " café" if rng.random() < 1 / 15 else ""
        texts.append(text)
        labels.append(label)
    return texts, np.array(labels)


@cache
def fitted() -> Pipeline:
    """Return a pipeline trained on 800 made-up reviews and calibrated on their folds."""
    texts, labels = made_up(800, 1)
    cleaned = clean_texts(texts)
    vectorizer = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True)
    matrix = vectorizer.fit_transform(cleaned)
    model = LogisticRegression(class_weight="balanced").fit(matrix, labels)
    decisions = FoldMatrices(cleaned, labels).decisions(vectorizer, model)
    calibrated = calibrate(model, decisions, matrix, labels)
    return Pipeline([("clean", TextCleaner()), ("tfidf", vectorizer), ("model", calibrated)])


def window_of(count: int, seed: int, *, negative: float = 0.25) -> tuple[WindowFeatures, Ints]:
    """Return the features of made-up reviews and their true labels."""
    texts, labels = made_up(count, seed, negative=negative)
    return row_features(texts, fitted()), labels


def kettles(count: int, seed: int) -> tuple[list[str], Ints]:
    """Return made-up reviews to which three words of another product are added."""
    texts, labels = made_up(count, seed)
    words = [[KETTLE[(row + at) % len(KETTLE)] for at in range(3)] for row in range(count)]
    return [f"{text} {' '.join(more)}" for text, more in zip(texts, words, strict=True)], labels


@cache
def reference() -> Reference:
    """Return the reference of `fitted`, of 600 made-up reviews."""
    return Reference.build(fitted(), *made_up(600, 3))
