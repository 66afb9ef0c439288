"""Prefect server: use the one that answers, or start one on loopback and take it down again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sentiment.errors import ServerError
from sentiment.tracking.store import PRIVATE

HOST, PORT = "127.0.0.1", 4200  # Prefect's own defaults
START_SECONDS = 120  # a cold start takes about 10–20 s here; a loaded machine needs more
STOP_SECONDS = 15
PID_FILE = "server.pid"


@dataclass
class Server:
    """A server that answers; `process` is None when it is not ours."""

    api_url: str
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def ui_url(self) -> str:
        """Where the Prefect UI is."""
        return self.api_url.removesuffix("/api")

    def start(self) -> None:
        """Start the server as a process in a session of its own, its output in `server.log`."""
        assert self.folder is not None, "a server that is not ours has no folder"
        self.folder.mkdir(parents=True, exist_ok=True)
        port = self.api_url.removesuffix("/api").rpartition(":")[2]
        command = ["-m", "prefect", "server", "start", "--host", HOST, "--port", port]
        env = {**PRIVATE, "PREFECT_HOME": str(self.folder), **os.environ}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env={**env, "PREFECT_API_URL": self.api_url},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / PID_FILE).write_text(f"{self.process.pid} {self.api_url}")

    @property
    def log(self) -> Path:
        """What the server printed."""
        return (self.folder or Path()) / "server.log"

    def restart_if_ours_died(self) -> None:
        """Start our own server again when its process is gone."""
        if self.process is not None and self.process.poll() is not None:
            self.start()


def answers(api_url: str, timeout: float = 2.0) -> bool:
    """Whether a Prefect API answers there in time."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


@contextmanager
def server_for(folder: Path, say: Callable[[str], None]) -> Iterator[Server]:
    """The server that `PREFECT_API_URL` names, else one of our own for the length of the block.

    Our own keeps its database in `folder` unless `PREFECT_HOME` is set. It runs in a session of
    its own, so that Ctrl-C reaches it only through us. Raises `ServerError`.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named and answers(named):
        yield Server(named)
        return
    if named:
        say(f"no Prefect server answers at {named}")
    _stop_orphan(folder, say)
    port = PORT if _free(PORT) else _any_free_port()
    server = Server(f"http://{HOST}:{port}/api", folder)
    server.start()
    try:
        _wait_until_it_answers(server, say)
        yield server
    finally:
        if server.process is not None:
            stop_group(server.process)
        (folder / PID_FILE).unlink(missing_ok=True)


def _wait_until_it_answers(server: Server, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    said = 0
    time.sleep(1)  # one that finds its port taken meanwhile is gone by then
    while _ended(server) or not answers(server.api_url, timeout=1.0):
        seconds = time.monotonic() - started
        if _ended(server) or seconds > START_SECONDS:
            raise ServerError(
                f"the Prefect server did not start within {seconds:.0f} s; its output is in "
                f"{server.log}"
            )
        if seconds // 5 > said:
            said = int(seconds // 5)
            say(f"waiting for the Prefect server, {seconds:.0f} s …")
        time.sleep(0.25)


def _ended(server: Server) -> bool:
    return server.process is None or server.process.poll() is not None


def _stop_orphan(folder: Path, say: Callable[[str], None]) -> None:
    """End the server of a service that was killed: two on one database would both schedule."""
    try:
        pid, api_url = (folder / PID_FILE).read_text().split()
    except (OSError, ValueError):
        return
    if not answers(api_url) or "prefect" not in _command(int(pid)):
        return
    say("a Prefect server was left behind by a service that was killed: ended")
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(int(pid), sign)
        except (ProcessLookupError, PermissionError):
            return
        until = time.monotonic() + STOP_SECONDS
        while answers(api_url, timeout=1.0) and time.monotonic() < until:
            time.sleep(0.25)


def _command(pid: int) -> str:
    """The command line of a process; where it cannot be told, one is taken for a server of ours."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else "prefect"


def stop_group(process: subprocess.Popen[bytes], first: int = signal.SIGTERM) -> None:
    """End a process that leads its own session, with its children; kill what does not end."""
    for sign in (first, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
