"""Load client: sends one prepared HTTP request again and again over kept-alive connections.

As plain as can be, since it shares the processors with the server it measures: sockets, threads,
no parsing but of the length of the answer.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BUFFER = 1 << 16


@dataclass(frozen=True)
class Load:
    """What a burst of requests took: `times` in seconds, one a request; `seconds` over all."""

    times: npt.NDArray[np.float64]
    seconds: float
    failed: int

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return len(self.times) / self.seconds

    def percentile(self, share: float) -> float:
        """The time in milliseconds that `share` per cent of the requests stayed below."""
        return float(np.percentile(self.times, share)) * 1000


def post(host: str, port: int, path: str, bodies: Sequence[Any]) -> list[bytes]:
    """The bytes of a POST request for each body, written as JSON."""
    requests = []
    for body in bodies:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        requests.append(head.encode() + data)
    return requests


def drive(
    host: str, port: int, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Load:
    """Send the requests in turn over so many connections at once, for so many seconds.

    Each connection sends its next request when the last was answered. A status other than 200
    counts as failed.
    """
    until = time.perf_counter() + seconds
    times: list[list[float]] = [[] for _ in range(connections)]
    failed = [0] * connections

    def work(number: int) -> None:
        with socket.create_connection((host, port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            turn = number * 7  # connections do not all ask the same at the same time
            while time.perf_counter() < until:
                request = requests[turn % len(requests)]
                turn += 1
                begun = time.perf_counter()
                connection.sendall(request)
                status = _read_answer(connection)
                times[number].append(time.perf_counter() - begun)
                failed[number] += status != 200

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    return Load(np.concatenate([np.array(part) for part in times]), taken, sum(failed))


def _read_answer(connection: socket.socket) -> int:
    """Read one answer to its end and return its status."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _receive(connection)
    head = data[:end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    missing = end + 4 + length - len(data)
    while missing > 0:
        missing -= len(_receive(connection))
    return int(head.split(b" ", 2)[1])


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(BUFFER)
    if not data:
        raise ConnectionError("the server closed the connection in the middle of an answer")
    return data
