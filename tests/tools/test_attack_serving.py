"""Attack serving: the short form against a real server, and bad input."""

from __future__ import annotations

import attack_serving
import pytest
from support.serving import copy_store, shared_store

pytestmark = pytest.mark.xdist_group("serving")
ONLY = "slow head,slow body,slow reader,at once,chunks,odd heads,odd JSON,random,truncated"


@pytest.mark.slow
def test_the_server_holds(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("attacked") / "store"
    copy_store(shared_store(tmp_path_factory), folder)
    options = ["--seconds", "0.7", "--clients", "10", "--requests", "150", "--only", ONLY]
    attack_serving.main(["--store", str(folder), *options])  # how fast is not for a busy machine
    lines = capsys.readouterr().out.splitlines()
    rows = [line[26:].split() for line in lines if line.startswith(tuple(attack_serving.GENERATED))]
    rows += [line[26:].split() for line in lines if line.startswith(tuple(attack_serving.HOLDS))]
    assert len(rows) == 9
    for requests, failures, honest, failed, *_ in rows:
        assert int(requests) >= 10 and int(honest) >= 10
        assert (failures, failed) == ("0", "0")
    assert lines[-1] == "the server wrote 0 lines to stderr"


@pytest.mark.parametrize("options", [["--store", "nowhere"], ["--clients", "0"]])
def test_bad_input_is_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert attack_serving.main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("attack_serving: ") and error.count("\n") == 1
