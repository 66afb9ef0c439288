"""Scoring folders: parts whole or absent, at addresses, on real Dask workers, one killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from support.serving import BAD_TEXT, GOOD_TEXT, UNKNOWN_TEXT, shared_store

from sentiment import cluster as cluster_module
from sentiment.cli.options import parse_command
from sentiment.console import Terminal
from sentiment.data.targets import PART
from sentiment.errors import ClusterError, ReviewDataError, UserError
from sentiment.serving import parts
from sentiment.serving.batch import Summary, score_file, score_table
from sentiment.serving.parts import NOTE, score_folder
from sentiment.tracking.store import Store

pytestmark = pytest.mark.xdist_group("serving")
TEXTS = [GOOD_TEXT, BAD_TEXT, UNKNOWN_TEXT, "GOOD", "poor, but cheap"]
# All that `score` writes, in folders of the folder too
NAMES = ["a.csv", "b.parquet", "c.tsv.gz", "day=1/d.csv"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shared_store(tmp_path_factory)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of the parts `NAMES`, and of what is no part."""
    folder = tmp_path / "in"
    (folder / "day=1").mkdir(parents=True)
    for at, name in enumerate(NAMES):
        rows = pd.DataFrame({"id": range(5), "text": TEXTS[at:] + TEXTS[:at]})
        if name.endswith(".parquet"):
            rows.to_parquet(folder / name)
        else:
            rows.to_csv(folder / name, sep="\t" if ".tsv" in name else ",", index=False)
    for other in ("_SUCCESS", ".a.csv.crc", "_old.csv", "notes.txt"):
        (folder / other).write_text("no part")
    return folder


def score(store: Store, source: object, target: object, **options: Any) -> Summary:
    return score_folder(store, str(source), str(target), terminal=Terminal(quiet=True), **options)


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, hidden files too, but not the note."""
    found = (file for file in folder.rglob("*") if file.is_file() and file.name != NOTE)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_each_part_is_what_score_file_makes_of_it(
    store: Store, source: Path, tmp_path: Path
) -> None:
    summary = score(store, source, tmp_path / "out")
    assert sorted(files(tmp_path / "out")) == NAMES
    for name, found in files(tmp_path / "out").items():
        alone = tmp_path / name.replace("/", "_")
        score_file(store, source / name, alone, terminal=Terminal(quiet=True))
        assert found == alone.read_bytes(), name
    # each text once a part; "zzz qqq 12345" has no known word
    assert summary.rows == 20 and summary.labels[""] == 4
    assert summary.labels["positive"] + summary.labels["negative"] == 16


def test_parts_that_are_there_are_not_scored_again(
    store: Store, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped in its third part is carried on with that part."""
    out, real, begun = tmp_path / "out", score_table, list[str]()

    def stop_at_the_third(load: Any, table: Any, target: Path, **more: Any) -> Summary:
        begun.append(target.name)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(load, table, target, **more)

    monkeypatch.setattr(parts, "score_table", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        score(store, source, out)
    assert sorted(files(out)) == NAMES[:2]
    summary = score(store, source, out)
    assert begun == ["a.csv", "b.parquet", "c.tsv.gz", "c.tsv.gz", "d.csv"]
    assert summary.rows == 10 and sorted(files(out)) == NAMES
    assert score(store, source, out).rows == 0


def test_a_part_that_cannot_be_scored_does_not_stop_the_others(
    store: Store, source: Path, tmp_path: Path
) -> None:
    (source / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(
        ReviewDataError, match=r"1 of 4 parts could not be scored.*b.parquet"
    ) as one:
        score(store, source, tmp_path / "out")
    assert "\n" not in str(one.value)
    assert sorted(files(tmp_path / "out")) == [name for name in NAMES if name != "b.parquet"]
    pd.DataFrame({"text": TEXTS}).to_parquet(source / "b.parquet")
    assert score(store, source, tmp_path / "out").rows == 5


def test_parts_of_two_versions_are_never_mixed(store: Store, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(store, source, out)
    before = files(out)
    (out / "a.csv").unlink()
    with pytest.raises(ReviewDataError, match="version 1, now 2"):
        score(store, source, out, version="2")
    assert score(store, source, out, version="1").rows == 5
    assert files(out) == before
    (out / NOTE).unlink()  # as in a folder that somebody else has filled
    with pytest.raises(ReviewDataError, match=r"that `score` did not write"):
        score(store, source, out)
    (out / NOTE).write_text("[]")
    with pytest.raises(ReviewDataError, match="is damaged"):
        score(store, source, out)


def test_what_is_wrong_is_said_in_a_line_and_makes_no_folder(
    store: Store, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def message(source: object, target: object) -> str:
        with pytest.raises(UserError) as caught:
            score(store, source, target)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "no part in it" in message(tmp_path / "empty", out)
    assert "is in the input" in message(source, source)
    assert "is in the input" in message(source, source / "scored")
    assert "is a file, expected a folder" in message(source / "a.csv", out)
    (tmp_path / "file").touch()
    assert "is a file, expected a folder" in message(source, tmp_path / "file")
    assert "no such folder" in message("memory://nothing/here", out)
    assert "xyz" in message("xyz://bucket/in", out)
    for missing, package in (("s3://bucket/in", "s3fs"), ("gs://bucket/in", "gcsfs")):
        if not _installed(package):
            assert package in message(missing, out)
    assert not out.exists()


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def test_addresses_are_read_and_written_alike(store: Store, source: Path, tmp_path: Path) -> None:
    """`memory://` is another file system of fsspec; `file://` is a folder of this machine."""
    score(store, source, tmp_path / "out")
    expected = files(tmp_path / "out")
    memory = fsspec.filesystem("memory")
    for name, data in files(source).items():
        memory.pipe(f"/parts/in/{name}", data)
    try:
        assert score(store, "memory://parts/in", "memory://parts/out").rows == 20
        found = {
            path.removeprefix("/parts/out/"): memory.cat(path)
            for path in memory.find("/parts/out")
            if not path.endswith(NOTE)
        }
        assert found == expected  # and nothing under a name of its own
        assert score(store, "memory://parts/in", "memory://parts/out").rows == 0
    finally:
        memory.rm("/parts", recursive=True)
    score(store, source.as_uri(), (tmp_path / "again").as_uri())
    assert files(tmp_path / "again") == expected


def test_a_part_at_an_address_is_whole_or_absent(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "mv", _no_space)
    try:
        with pytest.raises(UserError, match="No space left"):
            score(store, source, "memory://broken/out")
        assert memory.find("/broken") == []
    finally:
        memory.store.clear()


def _no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_dask_is_of_folders_and_a_missing_package_is_a_line(
    store: Store,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    for where in ([str(source / "a.csv"), "tcp://host:1"], [str(source), "host:8786"]):
        with pytest.raises(SystemExit) as caught:
            parse_command(["score", "--in", where[0], "--out", out, "--dask", where[1]])
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.count("\n") == 1 and "--dask" in said
    monkeypatch.setenv("SENTIMENT_DASK", "tcp://host:1")  # which is for folders
    assert parse_command(["score", "--in", str(source / "a.csv"), "--out", out]).dask is None
    assert parse_command(["score", "--in", str(source), "--out", out]).dask == "tcp://host:1"
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install -r requirements-dask.txt"):
        score(store, source, out, dask="tcp://127.0.0.1:9")
    assert not (tmp_path / "out").exists()


# --- on real workers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process with a nanny that starts it again when it dies."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as made:
        yield made


@pytest.mark.slow
def test_workers_write_the_same_and_their_faults_are_said(
    store: Store, source: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(store, source, tmp_path / "alone")
    summary = score(store, source, tmp_path / "out", dask=cluster.scheduler_address)
    assert files(tmp_path / "out") == files(tmp_path / "alone")
    assert summary.rows == 20 and summary.labels[""] == 4
    (source / "b.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "out" / "b.parquet").unlink()
    with pytest.raises(ReviewDataError, match=r"1 of 1 parts could not be scored.*b.parquet"):
        score(store, source, tmp_path / "out", dask=cluster.scheduler_address)
    monkeypatch.setattr(cluster_module, "SECONDS_TO_CONNECT", 1)
    with pytest.raises(ClusterError, match="no scheduler answers"):
        score(store, source, tmp_path / "out", dask="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(
    store: Store, tmp_path: Path, cluster: Any
) -> None:
    """With -9, as soon as the first part is there, while each worker is at another one."""
    source, out, draw = tmp_path / "in", tmp_path / "out", random.Random(0)
    source.mkdir()
    for at in range(8):
        texts = [" ".join(draw.choices((*TEXTS, "fast", "late"), k=4)) for _ in range(3_000)]
        pd.DataFrame({"text": texts}).to_csv(source / f"part-{at}.csv", index=False)
    score(store, source, tmp_path / "alone")
    worker = next(iter(cluster.workers.values()))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(score, store, source, out, dask=cluster.scheduler_address)
        while not list(out.glob("part-*")) and not run.done():
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        assert len(list(out.glob("part-*"))) < 8  # or it came too late
        summary = run.result(120)
    assert summary.rows == 24_000
    assert files(out) == files(tmp_path / "alone")
    assert not list(out.glob(f".*{PART}"))
    assert json.loads((out / NOTE).read_text())["version"] == "1"
