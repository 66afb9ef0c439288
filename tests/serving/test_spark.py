"""Spark: what MLflow's function of a version says in two Python workers is what `score` says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from support import REGISTERED_MODEL
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, shared_store

from sentiment.console import Terminal
from sentiment.serving.batch import score_file
from sentiment.tracking.store import use_uri

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]
# some that a step of the cleaning is for
TEXTS = [GOOD_TEXT, BAD_TEXT, "Not good,\nbut neat 👍", "poor<br>slow", "fine &amp; fastREAD MORE"]


def test_labels_are_those_of_score(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("no Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    store = shared_store(tmp_path_factory)
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pd.DataFrame({"text": [*TEXTS, UNKNOWN_TEXT]}).to_parquet(source)
    score_file(store, source, target, terminal=Terminal(quiet=True))
    scored = pd.read_parquet(target)
    use_uri(store.uri)
    made = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = made.getOrCreate()
    try:
        uri = f"models:/{REGISTERED_MODEL}@champion"
        label = mlflow.pyfunc.spark_udf(spark, uri, result_type="long", env_manager="local")
        rows = spark.read.parquet(str(source)).repartition(2)
        answered = rows.withColumn("label", label("text")).toPandas().set_index("text")["label"]
    finally:
        spark.stop()
    names = answered.map({0: "negative", 1: "positive"})
    assert [names[text] for text in TEXTS] == scored["label"][: len(TEXTS)].tolist()
    assert set(names[TEXTS]) == {"negative", "positive"}
    # without a known word `score` gives no label, and the bare model that of its prior
    assert pd.isna(scored["label"].iloc[-1])
    assert names[UNKNOWN_TEXT] == (
        "positive" if scored["probability"].iloc[-1] >= 0.5 else "negative"
    )
