"""Find the Prefect server to use: the one that is named and answers, or one of our own on loopback.

Our own server is a child process. It ends by itself when the process that started it is gone,
however that died, so that a `kill -9` leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from filelock import FileLock
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_API_KEEPALIVE_TIMEOUT,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)

from sentiment.errors import ServerError
from sentiment.tracking.store import PRIVATE, PROJECT

HOST, PORT = "127.0.0.1", 4200  # Prefect's own defaults
START_SECONDS = 120  # a cold start takes about 10 s here; a loaded machine needs more
STOP_SECONDS = 15
ORPHAN_SECONDS = 5  # less than a new service takes to start
LOOK_SECONDS = 0.25


class Server:
    """A Prefect server at `api_url`; our own has a `process`, and a `folder` for its files."""

    def __init__(self, api_url: str, folder: Path | None = None) -> None:
        self.api_url, self.folder = api_url, folder
        self.ui_url = api_url.removesuffix("/api")
        self.process: subprocess.Popen[bytes] | None = None

    def answers(self, timeout: float = 2.0) -> bool:
        """Return whether the Prefect API answers within `timeout` seconds."""
        try:
            with urlopen(f"{self.api_url}/health", timeout=timeout) as response:
                return bool(response.status == 200)
        except (OSError, ValueError):
            return False

    def restart_if_ours_died(self) -> None:
        """Start our own server again, on its port, if its process ended and the port is free."""
        if self.process is not None and self.process.poll() is not None:
            with suppress(OSError):
                self._start(socket.create_server((HOST, int(self.ui_url.rpartition(":")[2]))))

    def stop(self) -> None:
        """End our own server, and kill it if it does not end within `STOP_SECONDS`."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @classmethod
    def own(cls, folder: Path) -> Server:
        """Start a server on loopback, with Prefect's usual port unless that is taken.

        The database is in `folder` unless `PREFECT_HOME` is set, the output in `server.log` there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            listening = socket.create_server((HOST, PORT))
        except OSError:
            listening = socket.create_server((HOST, 0))
        server = cls(f"http://{HOST}:{listening.getsockname()[1]}/api", folder)
        server._start(listening)
        return server

    def _start(self, listening: socket.socket) -> None:
        assert self.folder is not None, "only our own server is started"
        number = listening.fileno()  # inherited, so that nobody else can take the port meanwhile
        arguments = [str(number), str(os.getpid()), str(self.folder)]
        env = {**PRIVATE, "PREFECT_HOME": str(self.folder), **os.environ}
        with listening, (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sentiment.flows.prefect_server", *arguments],
                cwd=PROJECT,
                env={**env, "PREFECT_API_URL": self.api_url},
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[number],
                start_new_session=True,  # Ctrl-C reaches it only through us
            )

    def wait_until_it_answers(self) -> None:
        """Wait for our own server, and say so every 5 seconds. Raises `ServerError`."""
        began, said = time.monotonic(), 0
        while not self.answers(timeout=1.0):
            seconds = time.monotonic() - began
            if self.process is None or self.process.poll() is not None or seconds > START_SECONDS:
                raise ServerError(
                    f"the Prefect server did not start within {seconds:.0f} s; its output is in "
                    f"{self.folder}/server.log"
                )
            if seconds // 5 > said:
                said = int(seconds // 5)
                say(f"waiting for the Prefect server, {seconds:.0f} s …")
            time.sleep(LOOK_SECONDS)


def say(text: str) -> None:
    """Print a line at once, also where the output is a file."""
    print(text, flush=True)


@contextmanager
def server_for(folder: Path) -> Iterator[Server]:
    """Yield the server that `PREFECT_API_URL` names, or our own where none answers there.

    Within the block Prefect's clients talk to it. Our own is taken down at the end. Raises
    `ServerError`.
    """
    named = os.environ.get("PREFECT_API_URL")
    server = Server(named) if named else None
    if server is None or not server.answers():
        if named:
            say(f"no Prefect server answers at {named}")
        server = Server.own(folder)
    try:
        if server.process is not None:
            server.wait_until_it_answers()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield server
    finally:
        server.stop()


def end_with(parent: int) -> None:
    """End this process when its parent is gone: with SIGTERM, and SIGKILL if that does not do.

    `parent` is the id of the process that started this one. Returns at once; a thread watches.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def run_server(listening: int, parent: int, folder: Path) -> None:
    """Run a Prefect server in this process, on a socket that it inherited, until it is ended."""
    import uvicorn
    from prefect.server.api.server import create_app

    end_with(parent)
    with FileLock(folder / "server.lock"):  # one whose parent was killed may still be ending
        config = uvicorn.Config(
            create_app(final=True),
            timeout_keep_alive=PREFECT_SERVER_API_KEEPALIVE_TIMEOUT.value(),
            log_level=PREFECT_SERVER_LOGGING_LEVEL.value().lower(),
        )
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    run_server(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
