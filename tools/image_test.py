"""Bring up the whole stack of `compose.yaml` in containers, use it, and take it down.

    make image-test

It needs podman, and to be root. Where no registry of images answers, the base image is made of
Debian's packages by mmdebstrap, and PostgreSQL's of the same base. What this machine cannot do is
said (`skipped: why`, exit code 0): make the base images, run a container as `compose.yaml` wants,
reach a package index in a build. What is wrong with the stack ends it with exit code 1.

Images are made in a folder of their own and removed in the end, unless `IMAGE_TEST_FOLDER` names
one to keep: then the next run takes a minute.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PYTHON = "docker.io/library/python:3.11-slim-bookworm"
POSTGRES = "docker.io/library/postgres:17-bookworm"
OWN_PYTHON, OWN_POSTGRES = "localhost/python:3.11-slim-bookworm", "localhost/postgres:bookworm"
IMAGE = "localhost/sentiment:test"
PROGRAMS = ("podman", "runc", "conmon", "catatonit", "iptables")
# What pip needs of this machine while an image is built, and must not stay in it
MOUNTS = ("/etc/ssl/certs", "/etc/pip.conf")
PACKAGES = "ca-certificates,libgomp1,python3-pip,python3.11,python3.11-venv"
SECONDS = 900  # for anything that is waited for: the machine may be slow and loaded
FREE_BYTES = 8_000_000_000  # the images take 4 GB, and a build as much again for a while
ANSWERS = 150  # more than a drift check needs
SERVICES = ("api", "flow", "prefect", "mlflow", "postgres")  # in the order they are stopped
WHO = "select string_agg(version || ' ' || label, ',' order by position) from sentiment_predictions"
HOW_MANY = "select count(*) from sentiment_predictions"
DEPLOYMENTS = ("flipkart-sentiment-logistic-deployment", "flipkart-sentiment-drift-deployment")
# crun and systemd's cgroups are not everywhere where a container runs in a machine's container
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=4096:8192", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{0}/storage"
runroot = "{0}/run"
"""
BASE_FILE = """
FROM localhost/bookworm
RUN ln -s /usr/bin/python3.11 /usr/local/bin/python3.11
"""
POSTGRES_FILE = """
FROM localhost/bookworm
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql-15 > /dev/null
COPY entrypoint /entrypoint
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin
STOPSIGNAL SIGINT
ENTRYPOINT ["/entrypoint"]
"""
# What PostgreSQL's own image does, as far as compose.yaml needs it
POSTGRES_ENTRYPOINT = """#!/bin/sh
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" && chown postgres "$PGDATA" /var/run/postgresql && chmod 700 "$PGDATA"
    cp "$POSTGRES_PASSWORD_FILE" /tmp/password && chown postgres /tmp/password
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 \\
        --auth-local=trust --encoding=UTF8 > /dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start > /dev/null
    createdb --username="$POSTGRES_USER" "$POSTGRES_USER"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --quiet --username="$POSTGRES_USER" --file="$file" -v ON_ERROR_STOP=1
    done
    pg_ctl --wait --mode=fast stop > /dev/null
fi
exec postgres -c listen_addresses='*'
"""


class SkippedError(Exception):
    """The test cannot be run on this machine."""


class FailedError(Exception):
    """The stack does not do what it should."""


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def run(*command: str, within: float = 1_800.0, **options: Any) -> str:
    """Return what a command prints. Raises `FailedError` with the end of its output."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"{' '.join(command)[:200]}: not done after {within:.0f} s") from error
    if done.returncode:
        raise FailedError(
            f"{' '.join(command)[:200]}: exit code {done.returncode}\n{done.stdout[-3000:]}"
        )
    return str(done.stdout).strip()


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """Return what `look` returns as soon as that is true. Raises `FailedError` after `SECONDS`."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            found, why = look(), ""
        except (OSError, ValueError, FailedError) as error:
            found, why = None, str(error)
        if found:
            return found
        if time.monotonic() > until:
            raise FailedError(f"{what}: not within {SECONDS} s {why[-1000:]}")
        time.sleep(1.0)


def check(what: str, found: object, expected: object) -> None:
    """Say that it is so. Raises `FailedError` where it is not."""
    if found != expected:
        raise FailedError(f"{what}: {found!r}, expected {expected!r}")
    say(f"  checked: {what}")


# --- images ----------------------------------------------------------------------------------


def image_there(name: str) -> bool:
    """Return whether podman has an image of this name."""
    there = subprocess.run(["podman", "image", "exists", name], check=False)
    return there.returncode == 0


def pulled(name: str) -> bool:
    """Return whether the image came from its registry."""
    try:
        run("podman", "pull", "--quiet", name, within=120.0)
    except FailedError:
        return False
    return True


def build(tag: str, folder: Path, *options: str) -> None:
    """Build an image; on the network of this machine, so that it reaches the same sources."""
    run("podman", "build", "--network=host", *options, f"--tag={tag}", str(folder))


def make_bookworm(folder: Path) -> None:
    """Make an image of Debian's packages, from the sources of packages that this machine uses."""
    if image_there("localhost/bookworm"):
        return
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if shutil.which("mmdebstrap") is None or not sources.is_file():
        raise SkippedError("no registry of images answers, and there is no mmdebstrap to make one")
    root = folder / "root.tar"
    command = ("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm")
    try:
        run(*command, str(root), str(sources))
        run("podman", "import", str(root), "localhost/bookworm")
    except FailedError as error:
        raise SkippedError(f"the base image cannot be made here: {str(error)[-300:]}") from None
    root.unlink()


def make_images(folder: Path, commit: str) -> str:
    """Make or pull all images and return the name of PostgreSQL's."""
    with ThreadPoolExecutor() as pool:
        have_base, have_postgres = pool.map(pulled, (PYTHON, POSTGRES))
        if not (have_base and have_postgres):
            make_bookworm(folder)
        base = PYTHON if have_base else OWN_PYTHON
        if not have_base:
            make_own(folder, OWN_PYTHON, BASE_FILE)
        can_run(base)
        postgres = POSTGRES
        if not have_postgres:
            postgres = OWN_POSTGRES
            other = pool.submit(make_own, folder, postgres, POSTGRES_FILE)
        make_project(base, commit)
        if not have_postgres:
            other.result()
    return postgres


def make_own(folder: Path, tag: str, file: str) -> None:
    """Make a base image for this test. Raises `SkippedError`: it is no part of the stack."""
    made = Path(tempfile.mkdtemp(dir=folder))
    (made / "Dockerfile").write_text(file)
    (made / "entrypoint").write_text(POSTGRES_ENTRYPOINT)
    (made / "entrypoint").chmod(0o755)
    try:
        build(tag, made)
    except FailedError as error:
        raise SkippedError(f"{tag} cannot be made here: {str(error)[-300:]}") from None
    finally:
        shutil.rmtree(made)


def make_project(base: str, commit: str) -> None:
    """Build the image of the project; twice, since a download may break off."""
    began = time.monotonic()
    mounts = [f"--volume={path}:{path}:ro" for path in MOUNTS if Path(path).exists()]
    # what is used once need not be kept step by step, a gigabyte each
    kept = "true" if os.environ.get("IMAGE_TEST_FOLDER") else "false"
    arguments = [f"--build-arg=BASE={base}", f"--build-arg=COMMIT={commit}"]
    options = (*mounts, f"--layers={kept}", *arguments)
    try:
        build(IMAGE, PROJECT, *options)
    except FailedError as error:
        download = ("-m", "pip", "download", "--no-deps", "--dest=/tmp/probe", "packaging")
        try:
            run("podman", "run", "--rm", "--network=host", *mounts, base, "python3.11", *download)
        except FailedError as no_index:
            why = f"no package index is reached in a build: {str(no_index)[-300:]}"
            raise SkippedError(why) from None
        say(f"once more, since this failed: {error}")
        build(IMAGE, PROJECT, *options)
    size = int(run("podman", "image", "inspect", "--format={{.Size}}", IMAGE))
    say(f"image: {size / 1e9:.2f} GB, built in {time.monotonic() - began:.0f} s")


def can_run(image: str) -> None:
    """Raise `SkippedError` unless containers run here with all that compose.yaml asks for.

    That is: no rights, limits of memory, a port, and a network where one finds another by name.
    """
    options = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--init", "--memory=256m")
    safe = ("--security-opt=no-new-privileges", "--network=probe")
    try:
        run("podman", "network", "create", "probe")
        one = ("--detach", "--name=first", "--publish=127.0.0.1::80", *options, *safe)
        run("podman", "run", *one, image, "sleep", str(SECONDS))
        run("podman", "run", "--rm", *options, *safe, image, "getent", "hosts", "first")
    except FailedError as error:
        raise SkippedError(f"podman cannot run containers here: {str(error)[-300:]}") from None
    finally:
        podman_tries("network", "rm", "--force", "probe")


def podman_tries(*words: str) -> None:
    """Run a command of podman that may fail: there may be nothing to remove."""
    subprocess.run(["podman", *words], capture_output=True, check=False)


# --- the stack -------------------------------------------------------------------------------


class Stack:
    """The services of a copy of compose.yaml in a folder, with secrets and ports of its own."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder = folder / "stack"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(PROJECT / "deploy", self.folder / "deploy")
        (self.folder / "secrets").mkdir()
        for name in ("compose.yaml", "data.csv"):
            shutil.copy(PROJECT / name, self.folder / name)
        self.token = secrets.token_hex(16)
        (self.folder / "secrets" / "postgres_password").write_text(secrets.token_hex(16) + "\n")
        (self.folder / "secrets" / "api_token").write_text(self.token + "\n")
        self.ports = {name: free_port() for name in ("API_PORT", "MLFLOW_PORT", "PREFECT_PORT")}
        ports = {name: str(port) for name, port in self.ports.items()}
        images = {"SENTIMENT_IMAGE": IMAGE, "POSTGRES_IMAGE": postgres}
        self.env = {**os.environ, **images, **ports}

    def compose(self, *words: str) -> str:
        """Run a command of podman-compose."""
        command = (sys.executable, "-m", "podman_compose", *words)
        return run(*command, cwd=self.folder, env=self.env)

    def up(self, *services: str) -> None:
        """Start services and what they need."""
        self.compose("up", "--detach", "--no-build", *services)

    def healthy(self, *services: str) -> None:
        """Wait until the services' own health checks say that they are healthy."""
        for name in services:
            probe = partial(run, "podman", "healthcheck", "run", container(name))
            wait_for(f"health of {name}", lambda probe=probe: probe() is not None)  # type: ignore[misc]
            say(f"  checked: {name} is healthy")

    def sentiment(self, *words: str) -> str:
        """Run a command of the project beside the flow."""
        return run("podman", "exec", container("flow"), *("python", "-m", "sentiment"), *words)

    def sql(self, query: str) -> str:
        """Return what PostgreSQL answers to a query of the predictions."""
        words = ("psql", "--username=sentiment", "--no-align", "--tuples-only", "--command")
        return run("podman", "exec", container("postgres"), *words, query, "predictions")

    def ask(self, port: str, path: str, body: object = None, token: str = "") -> Any:
        """Return the JSON that a service answers, or the status of a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        address = f"http://127.0.0.1:{self.ports[port]}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(address, data, headers), timeout=120
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code

    def down(self) -> None:
        """Remove containers, network and volumes."""
        self.compose("--profile", "experiment", "down", "--volumes")


def container(service: str) -> str:
    """Return what podman-compose calls the one container of a service."""
    return f"sentiment_{service}_1"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def use(stack: Stack, commit: str) -> None:
    """Train, promote, serve, predict, retrain, promote another, stop. Raises `FailedError`."""
    stack.up("postgres", "mlflow", "prefect")
    stack.healthy("postgres", "mlflow", "prefect")
    few = ("-e", "SENTIMENT_TRIALS=2")
    told = stack.compose("--profile", "experiment", "run", "--rm", "-T", *few, "experiment")
    check("the experiment promotes a version", "is in production" in told, True)
    stack.up("flow", "api")
    stack.healthy("api")
    for service in SERVICES[:-1]:
        shown = json.loads(run("podman", "inspect", container(service)))[0]
        safe = shown["HostConfig"]["ReadonlyRootfs"], shown["Config"]["User"]
        check(f"{service} has no rights and a read-only file system", safe, (True, "10001:10001"))
    label = '{{index .Labels "org.opencontainers.image.revision"}} {{.Config.Volumes}}'
    shown = run("podman", "image", "inspect", f"--format={label}", IMAGE)
    check("the image has its commit, and no volume", shown, f"{commit} map[]")
    code = "from sentiment.tracking import store; print(store.git_commit())"
    said = run("podman", "exec", container("flow"), "python", "-c", code)
    check("so has what runs in it", said.splitlines()[-1], commit)

    production = stack.sentiment("which").splitlines()[-1].partition(":")[0]
    texts = {"texts": ["Not good, broke after one game", "Superb quality"]}
    answer = stack.ask("API_PORT", "/predict", texts)
    labels = [one["label"] for one in answer["predictions"]]
    check("labels over HTTP", labels, ["negative", "positive"])
    served = answer["version"]
    check("the version in production answers", served, production)
    wanted = f"{served} 0,{served} 1"
    wait_for("the log", lambda: stack.sql(WHO) == wanted)
    check("the log in PostgreSQL has them", stack.sql(WHO), wanted)
    check("the token guards", stack.ask("API_PORT", "/ab"), 401)
    check("the token from its file opens", stack.ask("API_PORT", "/ab", token=stack.token), 404)

    with (PROJECT / "data.csv").open(encoding="utf-8", newline="") as file:
        reviews = [row["Review text"] for row in islice(csv.DictReader(file), ANSWERS)]
    stack.ask("API_PORT", "/predict", {"texts": reviews})
    wait_for("all answers in the log", lambda: stack.sql(HOW_MANY) == str(2 + ANSWERS))
    retrains(stack)
    drift = stack.ask("API_PORT", "/drift", token=stack.token)
    check("/drift has the check that another container made", drift["version"], served)
    other = next(number for number in "123" if number != served)
    promoting = ("promote", other, "--to", "production", "--force", "--reason", "a test")
    stack.sentiment(*promoting)
    wait_for(
        "the promotion",
        lambda: stack.ask("API_PORT", "/predict", texts)["version"] == other,
    )
    say(f"  checked: the API followed the promotion of version {other}")
    for service in SERVICES:
        began = time.monotonic()
        run("podman", "stop", f"--time={SECONDS}", container(service))
        shown = json.loads(run("podman", "inspect", container(service)))[0]["State"]
        what = f"{service} stops by itself, in {time.monotonic() - began:.1f} s"
        check(what, (shown["ExitCode"], shown["OOMKilled"]), (0, False))


def retrains(stack: Stack) -> None:
    """Let the deployments run once, as if they came due, and wait until they are done."""

    def found(what: str, filters: object) -> Any:
        return stack.ask("PREFECT_PORT", f"/api/{what}/filter", filters)

    started = {}
    for name in DEPLOYMENTS:
        named = {"deployments": {"name": {"any_": [name]}}}
        deployment = wait_for(name, partial(found, "deployments", named))[0]["id"]
        stack.ask("PREFECT_PORT", f"/api/deployments/{deployment}/create_flow_run", {})
        started[name] = deployment
    for name, deployment in started.items():
        ended = {
            "flow_runs": {
                "deployment_id": {"any_": [deployment]},
                "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}},
            }
        }
        runs = wait_for(f"a run of {name}", partial(found, "flow_runs", ended))
        check(f"a run of {name}", runs[0]["state_type"], "COMPLETED")


@contextmanager
def workshop() -> Iterator[Path]:
    """Yield the folder of all images and files; podman is told of it by two variables."""
    kept = os.environ.get("IMAGE_TEST_FOLDER")
    folder = Path(kept or tempfile.mkdtemp(prefix="image_test_", dir="/var/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise SkippedError(f"{folder}: less than {FREE_BYTES / 1e9:.0f} GB are free")
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    (folder / "storage.conf").write_text(STORAGE_CONF.format(folder))
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
    if kept:  # what a test that was killed has left
        podman_tries("rm", "--all", "--force")
        podman_tries("volume", "rm", "--all", "--force")
    try:
        yield folder
    finally:
        if not kept:
            podman_tries("rm", "--all", "--force")
            podman_tries("rmi", "--all", "--force")
            shutil.rmtree(folder, ignore_errors=True)


def test(commit: str) -> None:
    """Do all of it. Raises `SkippedError` and `FailedError`."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        raise SkippedError(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        raise SkippedError("podman is tried as root only")
    with workshop() as folder:
        stack = Stack(folder, make_images(folder, commit))
        try:
            use(stack, commit)
        except Exception:
            for service in SERVICES:
                logs = subprocess.run(
                    ["podman", "logs", "--tail=30", container(service)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                say(f"--- {service}\n{logs.stdout[-3000:]}{logs.stderr[-3000:]}")
            raise
        finally:
            stack.down()
        network = ("network", "ls", "--filter=name=sentiment_")
        kinds = (("ps", "--all"), ("volume", "ls"), network)
        left = [run("podman", *words, "--quiet") for words in kinds]
        check("no container, volume or network is left", left, ["", "", ""])


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/libexec/podman"])


def main(_: Sequence[str] | None = None) -> int:
    """Return 0 when all is well or nothing could be tried, else 1."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it is taken down
    git = ["git", "rev-parse", "HEAD"]
    said = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True, check=False)
    try:
        test(said.stdout.strip() or "unknown")
    except SkippedError as reason:
        say(f"skipped: {reason}")
        return 0
    except FailedError as error:
        say(f"image-test failed: {error}")
        return 1
    say(f"image-test passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
