"""What the tests share: a small file of made-up reviews, and scripts run as a user runs them."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = str(PROJECT)  # children of the tests find the package from any folder
# A background job of a shell ignores interrupts, and all that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
GOOD = ["good", "great", "sturdy", "lovely", "fine", "fast", "perfect", "happy", "cheap", "neat"]
BAD = ["bad", "broken", "poor", "late", "torn", "fake", "useless", "slow", "weak", "sad"]
THINGS = ["shuttle", "cork", "box", "feather", "delivery", "price", "grip", "tube", "seller"]


def named(script: str) -> list[str]:
    """Return the words after `python` that run a script of the top level, or a command."""
    if script.endswith(".py"):
        return [str(PROJECT / script)]
    return ["-m", "sentiment", *([] if script == "sentiment" else [script])]
