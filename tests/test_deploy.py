"""The files of the containers: they fit the requirements, the options and one another."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT

from sentiment.cli.options import parse_command, parse_experiment, parse_flow

DEPLOY = PROJECT / "deploy"
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def test_the_lock_of_the_image_is_a_part_of_the_one_that_is_tested() -> None:
    tested = dict(PIN.findall((PROJECT / "requirements.lock").read_text()))
    text = (DEPLOY / "requirements.lock").read_text()
    held = dict(PIN.findall(text))
    assert {name: tested.get(name) for name in held} == held
    direct = (PROJECT / "requirements.txt").read_text()
    assert set(re.findall(r"^([a-z-]+)", direct, re.MULTILINE)) <= set(held)
    assert not {"pytest", "ruff", "mypy"} & set(held)
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z])", text, flags=re.M)[1:])


def test_the_variables_that_are_set_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for parse, words in (
        (parse_experiment, []),
        (parse_flow, []),
        (parse_command, ["serve"]),
    ):
        with pytest.raises(SystemExit):
            parse([*words, "--help"])
    known = set(re.findall(r"SENTIMENT_[A-Z_]+", capsys.readouterr().out))
    known |= {"SENTIMENT_MLFLOW_UI", "SENTIMENT_PREFECT_UI", "SENTIMENT_IMAGE"}
    for file in (PROJECT / "compose.yaml", *DEPLOY.rglob("*.yaml")):
        for name in re.findall(r"SENTIMENT_[A-Z_]+", file.read_text()):
            assert name.removesuffix("_FILE") in known, f"{file.name}: {name}"


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (PROJECT / ".dockerignore").read_text().split() if line[0] == "!"}
    dockerfile = (PROJECT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    assert {name for names in copied for name in names.split()} == sent
    assert all((PROJECT / name).exists() for name in sent)


def test_services_are_safe_and_stop_after_their_work() -> None:
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    assert set(services) == {"postgres", "mlflow", "prefect", "flow", "api", "experiment"}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] if name != "postgres" else True
        assert service["mem_limit"] and service["stop_grace_period"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert ("healthcheck" in service) == (name not in {"flow", "experiment"})


@pytest.mark.parametrize("password", ["s3cret", None])
def test_the_password_of_postgresql_comes_from_a_file(tmp_path: Path, password: str | None) -> None:
    env = {"PATH": "/usr/bin:/bin"}
    if password is not None:
        (tmp_path / "password").write_text(f"{password}\n")
        env["PGPASSWORD_FILE"] = str(tmp_path / "password")
    command = [str(DEPLOY / "entrypoint.sh"), "sh", "-c", 'echo "${PGPASSWORD-none} $1"', "", "a b"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{password or 'none'} a b\n"
