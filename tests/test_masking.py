"""No password or token leaves the program, however it is written, cut up or encoded."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT

import ml_orchestration_flipkart as flow
import sentiment_mlflow_optuna as experiment
from sentiment import __main__ as commands
from sentiment import masking
from sentiment.errors import TrackingError
from sentiment.flows import service
from sentiment.masking import mask, mask_logs, remember

PASSWORD = "g/h@im77"  # as nobody should write it into an address, and somebody does
ENCODED = "g%2Fh%40im77"
LEAKS = re.compile("im77|g/h|g%2fh|h%40|h@im|gh0ok", re.IGNORECASE)


@pytest.mark.parametrize(
    ("address", "said", "shown"),
    [
        (f"http://ada:{ENCODED}@host:1", f"to http://ada:{ENCODED}@host:1/api", "to http://…@host"),
        (f"http://ada:{ENCODED}@host", f"password {PASSWORD!r} is wrong", "password '…' is wrong"),
        (f"http://ada:{ENCODED}@host", "auth=g%252Fh%2540im77&x=1", "auth=…&x=1"),
        (f"http://ada:{ENCODED}@host", "g\\/h@im77", "…"),
        (f"http://ada:{PASSWORD}@host", "Name or service not known: im77", "not known: …"),
        (f"http://ada:{PASSWORD}@host", f"went to http://ada:{PASSWORD}@host", "://…@host"),
        (f"postgresql://ada:{PASSWORD}@host/db", "Authorization: YWRhOmcvaEBpbTc3", ": …"),
        ("postgresql://host/db?password=geheim77&x=1", "geheim77 is wrong", "… is wrong"),
        ("http://geheim77@host", "token geheim77", "token …"),
        ("http://host", "http://host/?sslpassword=geheim77&token=geheim77&x=1", "&token=…&x=1"),
        ("http://host", "http://eve:geheim77@elsewhere", "http://…@elsewhere"),
        ("postgresql://ada:it's-geheim77@host/db", "it's-geheim77 is wrong", "… is wrong"),
        ('--log-url=postgresql://ada:"a geheim77@host/db', '"a geheim77', "…"),
        ("postgresql://host/db?password=abc;geheim77&x=1", "abc;geheim77 is", "… is"),
        ("http://host", "at http://host/?password=abc;geheim77&x=1", "?password=…&x=1"),
        ("http://host", "at http://host/?token=geheim77;x=1", "?token=…;x=1"),
        ("postgresql://ada:postgres@host", "ada%3Apostgres%40 postgresql", "%3A…%40 postgresql"),
    ],
)
def test_secrets_of_addresses(address: str, said: str, shown: str) -> None:
    remember(address)
    assert shown in mask(said)
    assert not LEAKS.search(mask(said)) and "geheim77" not in mask(said)


def test_what_is_no_secret_stays() -> None:
    remember("postgresql://test:test@host/test", "sqlite:////home/a@b/log.db", "no address")
    said = "test_f1 of the contest, testing http://host/x?y=1, ada@example.org: postgresql"
    assert mask(said) == said
    assert mask("test is wrong") == "… is wrong"


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIMENT_API_TOKEN", "t0ken77")
    monkeypatch.setenv("ALERT_URL", "https://hooks.slack.com/services/T0AB/B0CD/gh0okgh0ok")
    assert mask("Bearer t0ken77, gh0okgh0ok: url: /services/T0AB/B0CD/gh0okgh0ok") == (
        "Bearer …, …: url: /…"
    )
    monkeypatch.setenv("ALERT_URL", "https://hooks.example.com/hook/gh0okgh0ok@team")
    assert mask("gh0okgh0ok is unknown") == "… is unknown"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:prefect:77")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mlflow77")
    assert mask("prefect:77 YWRhOnByZWZlY3Q6Nzc= YWRhOm1sZmxvdzc3 mlflow77 ada") == "… … … … ada"
    monkeypatch.setenv("ALERT_URL", "slack://xoxb77aa77/xoxb77bb77 mailto://ada:g77@example.org")
    assert not re.search("77", mask("xoxb77aa77 xoxb77bb77 g77"))


def test_an_error_is_masked_where_it_is_made_and_a_log_whoever_writes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    remember(f"http://ada:{ENCODED}@host")
    assert str(TrackingError(f"{PASSWORD} at http://ada:{ENCODED}@host")) == "… at http://…@host"
    make = logging.getLogRecordFactory()
    try:
        mask_logs()
        mask_logs()
        assert caplog.handler.formatter is not None
        try:
            raise OSError(f"no route to {PASSWORD}")
        except OSError:
            logging.getLogger("urllib3").exception("again: %s", ENCODED)
        record = logging.getLogger().makeRecord(
            "n", logging.INFO, "f", 1, "m", (), None, sinfo=f"f({PASSWORD!r})"
        )
        assert record.stack_info == "f('…')"
    finally:
        logging.setLogRecordFactory(make)
    text = caplog.handler.format(caplog.records[0])
    assert not LEAKS.search(text) and "again: …" in text and "OSError: no route to …" in text


def test_a_program_masks_what_it_prints_and_its_traceback() -> None:
    program = (
        "import sys, os; from sentiment.masking import mask_output, remember\n"
        "mask_output(); remember(sys.argv[1])\n"
        "print('to', sys.argv[1]); print('to', sys.argv[1], file=sys.stderr)\n"
        "os.environ['PGPASSWORD'] = 'gh0ok'; print('gh0ok')\n"
        "raise ValueError(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"http://ada:{PASSWORD}@host"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "to http://…@host\n…\n"
    assert "ValueError: http://…@host" in done.stderr and not LEAKS.search(done.stderr)


SERVERS = {  # none of them answers
    "encoded": f"http://ada:{ENCODED}@127.0.0.1:1",
    "as it is": f"http://ada:{PASSWORD}@127.0.0.1:1",
    "token": "http://gh0okgh0ok@127.0.0.1:1/?token=gh0okgh0ok",
    "PostgreSQL": f"postgresql+psycopg://ada:{ENCODED}@127.0.0.1:1/db",
    "PostgreSQL, as it is": f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:1/db?password=gh0ok",
    "no driver": f"mysql://ada:{ENCODED}@127.0.0.1:1/db",
    "no such thing": f"gopher://ada:{ENCODED}@127.0.0.1:1/db",
}
COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "list": (commands.main, []),
    "which": (commands.main, []),
    "verify": (commands.main, ["1"]),
    "rollback": (commands.main, []),
    "card": (commands.main, ["0a1b"]),
    "drift": (commands.main, []),
    "score": (commands.main, ["--in", "r.csv", "--out", "out.csv"]),
    "experiment": (experiment.main, ["--quiet", "--data", "r.csv"]),
    "flow": (flow.main, ["--once", "--data", "r.csv"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_server_that_is_away_is_one_line_without_its_password(
    name: str,
    small_reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each command with one or more of the servers; a pass and a flow read their file first."""
    (tmp_path / "r.csv").write_bytes(small_reviews.read_bytes())
    monkeypatch.chdir(tmp_path)
    run, words = COMMANDS[name]
    command = [*([name] if run is commands.main else []), *words]
    for address in list(SERVERS.values())[: None if name == "list" else 1]:
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            os.environ.pop(variable, None)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert run(command) == 2
        out, err = capfd.readouterr()
        assert not LEAKS.search(out + err), address
        assert err.count("\n") == 1 and "127.0.0.1:1" in err, err
        monkeypatch.setattr(masking, "_told", set())


def test_prefect_keeps_the_address_of_the_log_without_its_password(
    store_folder: Path, small_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do the processes of its runs, which take the rest from their environment."""
    kept: list[str] = []

    def serve(_: object, deployments: list[object], __: object) -> int:
        kept.extend(repr(one) for one in deployments)
        return 0

    def run_once(_: object, __: object, parameters: dict[str, object]) -> int:
        kept.append(repr(parameters))
        return 0

    monkeypatch.setattr(flow, "server_for", lambda _: service.only_one(store_folder / "l", "it"))
    monkeypatch.setattr(flow, "forget_old_runs", lambda *_: None)
    monkeypatch.setattr(service, "serve", serve)
    monkeypatch.setattr(service, "run_once", run_once)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(PROJECT)
    url = f"postgresql+psycopg://ada:{ENCODED}@127.0.0.1:1/db"
    options = ["--data", str(small_reviews), "--store", str(store_folder), "--log-url", url]
    for more in ([], ["--once"]):
        monkeypatch.setenv(masking.LOG_URL, "")
        assert flow.main([*options, *more]) == 0
        assert os.environ[masking.LOG_URL] == url
    assert len(kept) == 3 and all("ada@127.0.0.1:1/db" in one for one in kept)
    assert not LEAKS.search(" ".join(kept))
