"""Find the Prefect server to use: the one that is named, or else one of our own on loopback.

Prefect's settings name one: `PREFECT_API_URL`, a profile, or a file such as `prefect.toml`.

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
from urllib.parse import urlsplit

from filelock import FileLock
from httpx import HTTPError, HTTPStatusError, InvalidURL, Timeout
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_API_KEEPALIVE_TIMEOUT,
    PREFECT_SERVER_LOGGING_LEVEL,
    PREFECT_UI_URL,
    temporary_settings,
)

from sentiment.errors import ServerError
from sentiment.flows.terminal import say
from sentiment.masking import mask, mask_output, remember, remember_secret
from sentiment.tracking.store import PRIVATE, PROJECT

HOST, PORT = "127.0.0.1", 4200  # Prefect's own defaults
START_SECONDS = 120  # a cold start takes about 10 s here; a loaded machine needs more
NAMED_SECONDS = 120.0  # for one that is named: it may be starting at the same time as we
ANSWER_SECONDS = 5.0
UI_VARIABLE = "SENTIMENT_PREFECT_UI"  # the address that people open, where it is another
STOP_SECONDS = 15
REFUSALS = (401, 403)
ORPHAN_SECONDS = 5  # less than a new service takes to start
LOOK_SECONDS = 0.25


class Server:
    """A Prefect server at `api_url`; our own has a `process`, and a `folder` for its files."""

    def __init__(self, api_url: str, folder: Path | None = None) -> None:
        self.api_url, self.folder = api_url, folder
        self.ui_url = mask(api_url.removesuffix("/api"))
        self.process: subprocess.Popen[bytes] | None = None

    def answers(self, timeout: float = 2.0) -> bool:
        """Return whether the Prefect API answers within `timeout` seconds.

        Raises `ServerError` if it refuses the credentials.
        """
        once = {PREFECT_API_URL: self.api_url, PREFECT_CLIENT_MAX_RETRIES: 0}
        try:
            # Not /health: that needs no password, and at an address without `/api` a page answers
            with (
                temporary_settings(once),
                get_client({"timeout": Timeout(timeout)}, sync_client=True) as client,
            ):
                client.read_flows(limit=1)
        except HTTPStatusError as error:
            if error.response.status_code in REFUSALS:
                raise ServerError(
                    f"the Prefect server at {self.api_url} refuses: "
                    f"{error.response.status_code} {error.response.reason_phrase}; correct "
                    "PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
                ) from None
            return False
        except (HTTPError, InvalidURL, ValueError, OSError):
            return False
        return True

    def restart_if_ours_died(self) -> None:
        """Start our own server again, on its port, if its process ended and the port is free."""
        if self.process is not None and self.process.poll() is not None:
            with suppress(OSError):
                self._start(socket.create_server((HOST, urlsplit(self.api_url).port or PORT)))

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
    def named(cls, address: str) -> Server:
        """Return the server at an address, which may lack `/api`, as soon as it answers.

        Raises `ServerError` if it does not within `NAMED_SECONDS`, or refuses.
        """
        address = address.rstrip("/")
        shown = mask(address)[:100]
        until = time.monotonic() + NAMED_SECONDS
        said = False
        while True:
            for url in (address, f"{address}/api"):
                server = cls(url)
                if server.answers(timeout=min(ANSWER_SECONDS, NAMED_SECONDS)):
                    if url == address and PREFECT_UI_URL.value():  # Prefect Cloud's is elsewhere
                        server.ui_url = mask(PREFECT_UI_URL.value())
                    return server
            if time.monotonic() > until or not address.startswith(("http://", "https://")):
                raise ServerError(
                    f"no Prefect server answers at {shown}, which PREFECT_API_URL or the profile "
                    "names; start it, or unset it (`prefect config unset PREFECT_API_URL`)"
                )
            if not said:
                said = True
                say(f"waiting for the Prefect server at {shown}, up to {NAMED_SECONDS:.0f} s …")
            time.sleep(LOOK_SECONDS)

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


@contextmanager
def server_for(folder: Path) -> Iterator[Server]:
    """Yield the server that Prefect's settings name, or else our own.

    Within the block Prefect's clients talk to it. Our own is taken down at the end. Raises
    `ServerError`: where one is named, no other is started in its stead.
    """
    named = PREFECT_API_URL.value()
    remember(named or "")  # which a profile may name, not the environment
    for secret in (PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value()):
        if secret is not None:
            remember_secret(secret.get_secret_value())
    server = Server.named(named) if named else Server.own(folder)
    server.ui_url = (os.environ.get(UI_VARIABLE) or server.ui_url).rstrip("/")
    try:
        if server.process is not None:
            server.wait_until_it_answers()
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_UI_URL: server.ui_url}):
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

    mask_output()
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
