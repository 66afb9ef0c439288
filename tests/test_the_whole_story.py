"""The whole story: trained, promoted, served, gone stale, noticed, retrained, served, rolled back.

Every part is the real one: the two scripts in processes of their own, as a user runs them, a server
that is never restarted, a Prefect server, one store. Only the commands are called in this process.
The second story, of reviews that grow, also calls the experiment, the flow and the app here.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from conftest import PROJECT
from support.drift_reviews import made_up
from support.loop_reviews import in_other_words, write_labelled
from support.prediction_logs import write_arms
from support.serving import Running, running_app, running_server, wait_until
from support.webhook import receiving

import ml_orchestration_flipkart as script
import sentiment_mlflow_optuna as experiment
from sentiment.__main__ import main as command
from sentiment.data.labels import CLASS_NAMES
from sentiment.errors import EXIT_DRIFTED
from sentiment.flows.prefect_server import server_for
from sentiment.metrics import score
from sentiment.predictions.log import default_log_url
from sentiment.registry.lifecycle import production_version, stage
from sentiment.tracking.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("story"), pytest.mark.timeout(600)]

SENT, LABELLED, HELD_BACK = 400, 300, 200  # reviews in other words
SECONDS = 180  # at most, for the server to follow a change; it looks at the registry each second


@dataclass
class Shop:
    """One store, the file it was begun with, and the server of the version in production."""

    store: Path
    data: Path
    server: Running = field(init=False)

    def call(self, *words: str, expected: int = 0) -> str:
        """Run a command on the store and return what it printed."""
        with redirect_stdout(io.StringIO()) as printed:
            assert command([*words, "--store", str(self.store)]) == expected
        return printed.getvalue()

    def run(self, script: str, *options: str, **env: str) -> str:
        """Run a script on the store and return what it printed."""
        left_out = ("PREFECT_API_URL", "ALERT_URL")
        own = {key: value for key, value in os.environ.items() if key not in left_out}
        found = subprocess.run(
            [sys.executable, str(PROJECT / script), *options, "--store", str(self.store)],
            env={**own, **env},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
        return found.stdout

    def ask(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the server answers."""
        status, answer = self.server.ask("POST", "/predict", {"texts": list(texts)})
        assert status == 200, answer
        return dict(answer)

    def tell(self, request_id: str, position: int, label: int) -> None:
        """What a customer meant: every third gives stars, the others a label."""
        feedback: dict[str, Any] = {"request_id": request_id, "position": position}
        if position % 3:
            feedback["label"] = CLASS_NAMES[label]
        else:
            feedback["rating"] = (2, 4)[label]
        # 503 where the log did not answer within a fifth of a second: to be sent again
        wait_until(lambda: self.server.ask("POST", "/feedback", feedback)[0] in (200, 202))

    def f1(self, texts: Sequence[str], labels: Any) -> float:
        """Macro-F1 of the server's answers; a review without a known word counts as positive."""
        answers = self.ask(texts)["predictions"]
        said = np.array([int(one["label"] != "negative") for one in answers])
        return score(labels, said)

    def wait_for_version(self, version: str) -> None:
        """Until the server answers with it."""
        until = time.monotonic() + SECONDS
        while (now := self.ask(["good box"])["version"]) != version:
            assert time.monotonic() < until, f"version {now} answers, expected {version}"
            time.sleep(0.2)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Trained by the experiment on 1,000 reviews, promoted, and served."""
    data = write_labelled(tmp_path / "reviews.csv", *made_up(1000, 1))
    made = Shop(tmp_path / "store", data)
    options = ("--trials", "3", "--models", "LogisticRegression", "--promote", "--quiet")
    made.run("sentiment_mlflow_optuna.py", *options, "--data", str(data))
    with running_server("--store", made.store, "--refresh", "1") as made.server:
        yield made


def test_it_goes_stale_is_noticed_retrained_served_and_can_be_rolled_back(shop: Shop) -> None:
    held_back, truth = made_up(HELD_BACK, seed=2)
    held_back = in_other_words(held_back)
    first = shop.ask(held_back)
    assert first["version"] == "1"
    before = shop.f1(held_back, truth)

    # customers begin to say it in other words, and some of them what they meant
    texts, labels = made_up(SENT, seed=3)
    answer = shop.ask(in_other_words(texts))
    for position in range(LABELLED):
        shop.tell(answer["request_id"], position, int(labels[position]))

    # that is noticed
    report = json.loads(shop.call("drift", "--json", expected=EXIT_DRIFTED))
    assert report["verdict"] == "drifted"
    named = {signal["name"]: signal["state"] for signal in report["signals"]}
    assert named["unknown_words"] == "drifted"
    assert report["performance"]["labelled"] == LABELLED  # each has a known word, and so an answer

    # the flow finds it too, says so, learns from what they meant, and the gate lets it through
    with receiving() as (address, told):
        said = shop.run(
            *("ml_orchestration_flipkart.py", "--once", "--data", str(shop.data)),
            ALERT_URL=address,
        )
    assert [body["state"] for body in told] == ["drifted", "promoted"]
    ui = said.rpartition("see ")[2].strip()  # of the Prefect server that it started, and ended
    with pytest.raises(URLError):
        urlopen(ui)
    history = shop.call("history")
    assert "better than version 1" in history, said

    # the server, which nobody restarted, answers with the new version, and answers better
    shop.wait_for_version("2")
    assert shop.server.process.poll() is None
    after = shop.f1(held_back, truth)
    assert after > before + 0.1, (before, after)

    # and the way back is open: the old version gives the very answers it gave
    shop.call("rollback")
    shop.wait_for_version("1")
    again = shop.ask(held_back)
    assert again["predictions"] == first["predictions"]
    assert shop.server.stop()[0] == 0


# Confusions of real models, rows true: the second one misses more of the negative reviews
GIVES_MORE_AWAY = ([[4010, 590], [2440, 17960]], [[2970, 1630], [1375, 19025]])


def test_the_reviews_grow_and_all_parts_say_the_same(tmp_path: Path) -> None:
    texts, labels = made_up(1600, 1)
    data = tmp_path / "reviews.csv"

    def write(rows: Sequence[int]) -> None:
        write_labelled(data, [texts[row] for row in rows], [labels[row] for row in rows])

    def retrain() -> str:
        return str(script.flipkart_sentiment_flow(data=str(data), store=str(tmp_path)))

    write(range(500))
    options = ("--trials", "2", "--models", "LogisticRegression", "--promote", "--quiet")
    assert experiment.main([*options, "--data", str(data), "--store", str(tmp_path)]) == 0
    store = open_store(tmp_path)
    log_url = default_log_url(tmp_path)
    with server_for(tmp_path / ".prefect"):
        # customers write as ever: no drift, whatever the order of the file
        with running_app(store, tmp_path, log_url=log_url) as app:
            app.test_client().post("/predict", json={"texts": made_up(400, 2)[0]})
        drift = ("drift", "--store", str(tmp_path), "--quiet")
        assert command(drift) == 0
        write(range(499, -1, -1))
        assert "version 1 already covers this data: it is in production" in retrain()

        # one review more is no new data: an equal model does not replace the old one by luck
        write([500, *range(500)])
        verdict = retrain()
        assert verdict.startswith("refused: ") and "the same data" in verdict
        assert production_version(store) == "1"

        # a thousand more are
        write(range(1300))
        verdict = retrain()
        assert verdict.startswith("promoted: ") and "new data" in verdict, verdict
        assert production_version(store) == "3"

        # an A/B test runs: nothing is promoted under it, and its guardrail catches the challenger
        stage(store, "2", "to compare it")
        write(range(1600))
        with running_app(store, tmp_path, log_url=log_url, ab=("challenger", 0.5)) as app:
            write_arms(log_url, *GIVES_MORE_AWAY, experiment="3-vs-2", versions=("3", "2"))
            wait_until(lambda: app.test_client().get("/ab").get_json()["experiment"] == "3-vs-2")
            found = app.test_client().get("/ab").get_json()
            assert found["comparison"]["verdict"] == "challenger worse"
            assert "recall of negative falls" in found["comparison"]["sentence"]
            wait_until(lambda: app.extensions["serving"].comparisons.known)
            held = retrain()
            assert "an A/B test of version 2 against 3 runs" in held
            assert production_version(store) == "3"

        # without it the same version is judged again, and what ended stays readable
        with running_app(store, tmp_path, log_url=log_url) as app:
            client = app.test_client()
            wait_until(lambda: all(one["ended"] for one in client.get("/ab").get_json()["past"]))
            last = client.get("/ab").get_json()["past"][0]
            assert last["experiment"] == "3-vs-2" and "without a challenger" in last["why"]
            assert last["verdict"].startswith("challenger worse")
            verdict = retrain()
            assert held.endswith(verdict) and production_version(store) == (
                "4" if verdict.startswith("promoted: ") else "3"
            )
            app.extensions["serving"].watcher.check()

            # customers begin to say it in other words
            client.post("/predict", json={"texts": in_other_words(made_up(400, 3)[0])})
        assert command(drift) == EXIT_DRIFTED
