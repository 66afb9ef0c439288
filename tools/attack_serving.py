"""Attack our server as strangers do, and measure what an honest client notices.

    python tools/attack_serving.py [--store FOLDER | --data FILE] [--clients 200] [--seconds 60]
        [--requests 20000] [--workers 1]

A real server is started on loopback, from a store that is given, or on a logistic regression that
is trained first. Meanwhile one client asks for single reviews, now on a connection it keeps, now on
a new one. Two kinds of attacks follow one another:

- so many clients at once hold their connections for so many seconds, each in one way: they send a
  byte a second, or nothing, or do not read their answers, …; one crowd is larger than what a worker
  has connections for. A client that is thrown out comes again.
- so many requests are generated (from `--seed`) that are not as they should be. A failure is a 5xx,
  or a connection that ends without an answer.

Bounded in count and time, and for servers of one's own. Exit codes: 0 all held, 1 not, 2 bad input.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from bench_serving import HOST, OURS, PROJECT, memory, running, search

LIMIT = 250.0  # milliseconds: the 99th percentile of the others
PACE = 0.01  # seconds between two requests of the honest client
PATIENCE = 25.0  # seconds for an answer; the server's own deadline is earlier
AT_ONCE = 50  # generated requests that are under way together
CROWD = 1_300  # connections, where a worker has 1,000
RAMP = 2.0  # seconds in which the clients of an attack arrive
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
URLENCODED = FORM + b"application/x-www-form-urlencoded\r\n"
MULTIPART = FORM + b"multipart/form-data; boundary=b\r\n"
# The answer is more than the buffers between server and client hold, if those are small
LONG = json.dumps({"texts": ["good"] * 400, "explain": False}).encode()


@dataclass
class Others:
    """What the honest client noticed: seconds of each request, and the requests that failed."""

    times: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, share: float) -> float:
        """The time in milliseconds that `share` per cent of the requests stayed below."""
        return float(np.percentile(self.times, share)) * 1000 if self.times else float("nan")


class Client:
    """One connection of an attacker; every call raises `OSError` when the server ends it."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.port, self.rng = port, rng
        self.socket = socket.socket()

    async def connect(self, *, narrow: bool = False) -> None:
        """Connect; `narrow` is with small packets, and small buffers at both ends."""
        self.socket.setblocking(False)
        if narrow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        await asyncio.get_running_loop().sock_connect(self.socket, (HOST, self.port))

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, size: int = 1 << 16) -> bytes:
        """Receive at most so many bytes, at least one."""
        data = await asyncio.get_running_loop().sock_recv(self.socket, size)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    async def status(self) -> int:
        """Read an answer's status, past every `100 Continue`."""
        data = b""
        while True:
            data += await self.receive()
            for line in data.split(b"\r\n"):
                words = line.split(b" ")
                if line.startswith(b"HTTP/1.") and len(words) > 1 and words[1] != b"100":
                    return int(words[1])

    def leave(self, *, abruptly: bool = False) -> None:
        """Close the connection; abruptly is by a reset."""
        if abruptly:
            linger = struct.pack("ii", 1, 0)
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


# --- clients that hold a connection ----------------------------------------------------------


async def slow_head(client: Client) -> None:
    """A byte of the head each second."""
    await client.connect()
    for byte in itertools.cycle(b"GET /health HTTP/1.1\r\nX: " + b"x" * 1_000):
        await client.send(bytes([byte]))
        await asyncio.sleep(1)


async def slow_body(client: Client) -> None:
    """The head at once, then a byte of the body each second."""
    await client.connect()
    await client.send(HEAD + b'Content-Length: 9000\r\n\r\n{"text": "')
    while True:
        await client.send(b"x")
        await asyncio.sleep(1)


async def slow_chunks(client: Client) -> None:
    """A chunk of one byte each second."""
    await client.connect()
    await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await client.send(b"1\r\nx\r\n")
        await asyncio.sleep(1)


async def silent(client: Client) -> None:
    """Not one byte."""
    await client.connect()
    await client.receive()


async def idle(client: Client) -> None:
    """One good request, and nothing after it."""
    await client.connect()
    await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while True:
        await client.receive()


async def blank_lines(client: Client) -> None:
    """An empty line each second, as if a request were about to begin."""
    await client.connect()
    while True:
        await client.send(b"\r\n\r\n")
        await asyncio.sleep(1)


async def slow_reader(client: Client) -> None:
    """A long answer, of which a few bytes are read each second."""
    await asyncio.sleep(client.rng.uniform(0, 20))  # predicting costs more than waiting: spread it
    await client.connect(narrow=True)
    await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(LONG) + LONG)
    while True:
        await client.receive(16)
        await asyncio.sleep(1)


async def deaf_pipeline(client: Client) -> None:
    """Hundreds of requests at once for files and pages, no answer of which is read."""
    await client.connect(narrow=True)
    await client.send(
        b"GET / HTTP/1.1\r\n\r\n" * 300 + b"GET /static/page.js HTTP/1.1\r\n\r\n" * 300
    )
    await asyncio.sleep(20)


async def urgent(client: Client) -> None:
    """One urgent byte, which a server may be woken by without end."""
    await client.connect()
    client.socket.send(b"!", socket.MSG_OOB)
    await client.receive()


async def come_and_go(client: Client) -> None:
    """Connections that end as soon as they begin."""
    await client.connect()
    client.leave(abruptly=client.rng.random() < 0.5)
    await asyncio.sleep(0.5)


async def leaving_sender(client: Client) -> None:
    """A form whose sender leaves in its middle, or with its last byte."""
    await client.connect()
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    body += b"text\r\n" + b"good\r\n" * 200 + b"--b--\r\n"
    sent = client.rng.choice([len(body) // 2, len(body)])
    await client.send(MULTIPART + b"Content-Length: %d\r\n\r\n" % len(body) + body[:sent])
    client.leave(abruptly=client.rng.random() < 0.5)
    await asyncio.sleep(client.rng.uniform(2, 6))  # what arrives whole is work, not waiting


Hold = Callable[[Client], Awaitable[None]]
HOLDS: dict[str, Hold] = {
    "slow head": slow_head,
    "slow body": slow_body,
    "slow chunks": slow_chunks,
    "silent": silent,
    "idle": idle,
    "blank lines": blank_lines,
    "slow reader": slow_reader,
    "pipeline, not read": deaf_pipeline,
    "urgent byte": urgent,
    "come and go": come_and_go,
    "form, sender leaves": leaving_sender,
}
CHEAP = (slow_head, slow_body, slow_chunks, silent, idle, blank_lines, urgent)


async def hold(ways: Sequence[Hold], clients: int, seconds: float, port: int) -> Counter[str]:
    """Let so many clients hold connections in these ways, in turn; count their visits."""
    until = time.monotonic() + seconds
    counts: Counter[str] = Counter()

    async def come_again(number: int) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.uniform(0, min(RAMP, seconds / 4)))
        while time.monotonic() < until:
            client = Client(port, rng)
            counts["requests"] += 1
            with suppress(OSError):
                await ways[number % len(ways)](client)
            client.leave()
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(come_again(number)) for number in range(clients)]
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counts


# --- requests that are not as they should be -------------------------------------------------


def chunked(rng: random.Random) -> bytes:
    """A chunked body with a wrong size, end, extension or trailer."""
    size = rng.choice([b"10", b"0x10", b"-1", b"G", b"", b" 10", b"F" * rng.randint(1, 40)])
    extension = rng.choice([b"", b";", b";a=b", b';a="\x00', b";" + b"x" * rng.randint(1, 3_000)])
    data = rng.choice([b'{"text": "good"}', b"{}", rng.randbytes(16)])
    end = rng.choice([b"\r\n", b"\n", b"", b"XX"])
    trailer = rng.choice(
        [b"", b"no colon\r\n", b": empty\r\n", b"A: \xff\x00\r\n", b"Content-Length: 5\r\n"]
    )
    body = size + extension + b"\r\n" + data + end + b"0\r\n" + trailer + b"\r\n"
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body


def odd_headers(rng: random.Random) -> bytes:
    """Headers that servers believe, or stumble over."""
    header = rng.choice(
        [
            *(b"SCRIPT_NAME: /x", b"Script-Name: /x", b"SCRIPT_NAME: \xff", b"PATH_INFO: /x"),
            *(b"X-Forwarded-Prefix: /x", b"X-Forwarded-For: \xff, 1.1.1.1", b"Forwarded: for=;;"),
            *(b"Transfer-Encoding: rot13", b"Transfer-Encoding: chunked, chunked", b"Expect: x"),
            *(b"Content-Length: 1_0", b"Content-Length: +2", b"Content-Length: " + b"9" * 5_000),
            *(
                b"Content-Length: 2\r\nContent-Length: 3",
                b"Host: [",
                b"Host: a\x00b",
                b"Host: \xff",
            ),
            *(b"Accept: */*;q=x", b"Accept: " + b"a/b," * 2_000, b"Authorization: Basic \xff=="),
            *(b"Authorization: Basic " + b"A" * 3_001, b"Cookie: " + b"a=b;" * 2_000, b"Range: x"),
            *(
                b"If-Modified-Since: x",
                b"If-None-Match: \x01",
                b" folded: x",
                b"A: b\r\n c",
                b"\xe2: x",
            ),
        ]
    )
    target = rng.choice(
        [
            *(b"/", b"/health", b"/model", b"/static/page.js", b"/static/%2e%2e/app.py", b"//x"),
            *(
                b"http://[",
                b"http://[::1",
                b"//[x]/",
                b"*",
                b"/%ff%00",
                b"/\xff",
                b"/?" + b"a=%&" * 99,
            ),
            *(b"/" + b"x" * 20_000, b"http://x/health", b"/a/../b", b"/#x", b"?x", b"x"),
        ]
    )
    method = rng.choice([b"GET", b"HEAD", b"OPTIONS", b"POST", b"TRACE", b"PUT", b"get", b"G\x00T"])
    version = rng.choice([b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/9.9"])
    return method + b" " + target + version + b"\r\nHost: localhost\r\n" + header + b"\r\n\r\n"


def odd_json(rng: random.Random) -> bytes:
    """A body for /predict or /feedback that is no good JSON, or none at all."""
    body = rng.choice(
        [
            *(b"", b"{}", b"[]", b"null", b"[" * 5_000, b'{"text": 1}', b'{"text": "\\ud800"}'),
            *(
                b'{"text": "a", "text": "b"}',
                b'{"text": "\xff"}',
                b'{"texts": []}',
                b'{"texts": [1]}',
            ),
            *(
                b'{"text": "' + b"x" * 30_000 + b'"}',
                b'{"text": NaN}',
                b"9" * 5_000,
                b"\xef\xbb\xbf{}",
            ),
            *(b'{"text": "a", "user_id": "\\udfff"}', b'{"request_id": "x", "label": "y"}'),
            *(b'{"request_id": "' + b"0" * 32 + b'", "rating": 1e999}', rng.randbytes(40)),
        ]
    )
    path = rng.choice([b"/predict", b"/feedback"])
    kind = rng.choice([b"application/json", b"text/plain", b"application/json; charset=x", b"\xff"])
    head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + kind + b"\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def odd_form(rng: random.Random) -> bytes:
    """A form of the page with lone surrogates, wrong parts, or from another site."""
    name = rng.choice([b"text", b"file", b"column", b"\xed\xa0\x80", b""])
    value = rng.choice(
        [b"good", b"%ED%A0%80", b"%FF", b"\xed\xa0\x80", b"=HYPERLINK(1)", b"%", b""]
    )
    if rng.random() < 0.4:
        body, head = b"&".join([name + b"=" + value] * rng.choice([1, 2, 900])), URLENCODED
    else:
        quoted = rng.choice([b'"%s"' % name, b'"\xff\x00"', b'"' + name, b""])
        disposition = rng.choice([b"form-data; name=", b"form-data;", b"", b"\xff; name="])
        filename = rng.choice(
            [b"", b'; filename="a.csv"', b"; filename*=UTF-8''%FF", b'; filename="']
        )
        content = rng.choice(
            [b"text\r\ngood", b"\xff\xfe", b"PK\x03\x04x", b"\x1f\x8bx", b'"' * 999]
        )
        part = b"Content-Disposition: " + disposition + quoted + filename + b"\r\n\r\n" + content
        end = rng.choice([b"--b--\r\n", b"--b", b"", b"--c--"])
        parts = (b"--b\r\n" + part + b"\r\n") * rng.choice([1, 1, 2, 1_100])
        body, head = parts + end, MULTIPART
    origin = rng.choice(
        [b"", b"Origin: http://evil.example\r\n", b"Origin: null\r\n", b"Origin: [\r\n"]
    )
    site = rng.choice([b"", b"Sec-Fetch-Site: cross-site\r\n", b"Sec-Fetch-Site: \xff\r\n"])
    path = rng.choice([b"/", b"/file", b"/predict"])
    head = head.replace(b"POST / ", b"POST " + path + b" ") + origin + site
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def too_large(rng: random.Random) -> bytes:
    """A head or a body beyond every limit, sent to its end."""
    if rng.random() < 0.5:
        return (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n"
            + b"a:\r\n" * rng.choice([3_000, 9_000])
            + b"\r\n"
        )
    size = rng.choice([1_100_000, 3_000_000])
    head = rng.choice([HEAD, URLENCODED, MULTIPART])
    expect = rng.choice([b"", b"Expect: 100-continue\r\n"])
    return head + expect + b"Content-Length: %d\r\n\r\n" % size + b"x" * size


def mutated(rng: random.Random) -> bytes:
    """A good request with some bytes changed, cut out or doubled, and blank lines after it."""
    body = b'{"text": "good"}'
    good = rng.choice(
        [
            HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n" + body + b"\r\n0\r\n\r\n",
            b"GET /model HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
            URLENCODED + b"Content-Length: 9\r\n\r\ntext=good",
        ]
    )
    data = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        change = rng.choice(
            [bytes([rng.randrange(256)]), b"", bytes(data[at : at + 9]), b"\r", b"\n"]
        )
        data[at : at + rng.randint(0, 2)] = change
    return bytes(data) + b"\r\n\r\n" * 500


Generate = Callable[[random.Random], bytes]
GENERATED: dict[str, Generate] = {
    "bad chunks and trailers": chunked,
    "odd heads": odd_headers,
    "odd JSON": odd_json,
    "odd forms, other sites": odd_form,
    "too large": too_large,
    "random changes": mutated,
    "truncated": mutated,
}
SHARES = {"too large": 0.02}  # the others share the rest alike


async def ask(
    generate: Generate, count: int, seed: int, patience: float, port: int
) -> Counter[str]:
    """Send so many generated requests; count failures.

    `patience` is how long an answer is waited for, in seconds; with 0 each is left before its end.
    """
    cut = not patience
    numbers, counts = iter(range(count)), Counter[str]()

    async def one(number: int) -> None:
        rng = random.Random(f"{seed} {generate.__name__} {number}")
        data, client = generate(rng), Client(port, rng)
        if cut:
            data = data.rstrip()[: -rng.randint(1, 30)]
        counts["requests"] += 1
        try:
            await client.connect()
            # a server that refuses what it has not read may break off while this is being sent
            with suppress(ConnectionError):
                await client.send(data)
            if not cut:
                status = await asyncio.wait_for(client.status(), patience)
                counts["failures"] += status >= 500
                counts[str(status)] += 1
        except TimeoutError:
            counts["failures"] += patience == PATIENCE
            counts["waits"] += 1
        except OSError:
            counts["failures"] += 1
            counts["no answer"] += 1
        finally:
            client.leave(abruptly=cut and number % 2 == 0)

    async def work() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return counts


# --- all of it -------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all attacks and print the table."""
    parser = argparse.ArgumentParser(
        description="Attack our server on loopback; see what others notice."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--store", help="a store with a version in production (default: train one)")
    source.add_argument(
        "--data", default=str(PROJECT / "data.csv"), help="file of reviews to train on"
    )
    parser.add_argument("--clients", type=int, default=200, help="at once, of each kind (200)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each attack (60)")
    parser.add_argument(
        "--requests", type=int, default=20_000, help="generated ones in all (20000)"
    )
    parser.add_argument("--workers", type=int, default=1, help="the server's (1)")
    parser.add_argument("--seed", type=int, default=42, help="of the generated requests (42)")
    parser.add_argument(
        "--only", default="", help="parts of the names of attacks, with commas (all)"
    )
    options = parser.parse_args(arguments)
    given = Path(options.store) / "mlflow.db" if options.store else Path(options.data)
    if not given.is_file() or min(options.clients, options.requests, options.workers) < 1:
        print(
            f"attack_serving: {given}: no such file, or fewer than one client, request or worker; "
            "name a store with --store, or reviews with --data",
            file=sys.stderr,
        )
        return 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * CROWD)), hard))
    with ExitStack() as stack:
        store = options.store or stack.enter_context(tempfile.TemporaryDirectory())
        if not options.store:
            search(options.data, store)
        errors = stack.enter_context(tempfile.TemporaryFile())
        server = stack.enter_context(
            running(OURS, str(Path(store).resolve()), options.workers, errors)
        )
        print(
            f"{'attack':<26}{'requests':>9}{'failures':>9}   others: requests failed p50 ms p99 ms"
        )
        print(f"memory before: {memory(server.process.pid)}")
        held = [_run(name, attack, server.port) for name, attack in _attacks(options)]
        print(f"memory after: {memory(server.process.pid)}")
        errors.seek(0)
        said = errors.read().decode().splitlines()
        print(f"the server wrote {len(said)} lines to stderr", *said[:20], sep="\n  ")
    return 0 if all(held) and not said else 1


Attack = Callable[[int], Coroutine[Any, Any, Counter[str]]]


def _attacks(options: argparse.Namespace) -> list[tuple[str, Attack]]:
    clients, seconds = options.clients, options.seconds
    crowd = max(CROWD, clients) if clients >= 200 else clients
    found: list[tuple[str, Attack]] = [
        ("nobody", partial(hold, [silent], 0, min(seconds, 10))),
        *((name, partial(hold, [way], clients, seconds)) for name, way in HOLDS.items()),
        ("all of these", partial(hold, [*HOLDS.values()], clients, seconds)),
        (f"{crowd:,} at once", partial(hold, CHEAP, crowd, seconds)),
    ]
    rest = (1 - sum(SHARES.values())) / (len(GENERATED) - len(SHARES))
    patience = PATIENCE if seconds >= PATIENCE else 1.0  # what is incomplete is answered late
    for name, generate in GENERATED.items():
        count = max(1, round(options.requests * SHARES.get(name, rest)))
        wait = 0.0 if name == "truncated" else patience
        found.append((name, partial(ask, generate, count, options.seed, wait)))
    return [
        (name, attack)
        for name, attack in found
        if any(part in name for part in options.only.split(","))
    ]


def _run(name: str, attack: Attack, port: int) -> bool:
    """Run an attack beside an honest client and print its row; return whether the server held."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        sender.send(asyncio.run(attack(port)))

    attacker = context.Process(target=work, daemon=True)
    attacker.start()
    others = Others()
    while attacker.is_alive() and not receiver.poll():
        _ask_honestly(port, others)
    counts: Counter[str] = receiver.recv() if receiver.poll(5) else Counter(failures=1)
    attacker.join()
    p99 = others.percentile(99)
    print(
        f"{name:<26}{counts['requests']:>9,}{counts['failures']:>9,}   {len(others.times):>16,}"
        f"{others.failed:>8,}{others.percentile(50):>8.1f}{p99:>8.1f}  {_statuses(counts)}",
        flush=True,
    )
    return not counts["failures"] and not others.failed and p99 < LIMIT


def _statuses(counts: Counter[str]) -> str:
    found = sorted(key for key in counts if key.isdigit() or key in ("no answer", "waits"))
    return ", ".join(f"{key}: {counts[key]:,}" for key in found)


def _ask_honestly(port: int, others: Others) -> None:
    """Ask ten times: five on a connection that is kept, five each on one of its own."""
    kept = HTTPConnection(HOST, port, timeout=30)
    for turn in range(10):
        connection = kept if turn % 2 else HTTPConnection(HOST, port, timeout=30)
        begun = time.perf_counter()
        try:
            body = json.dumps({"text": f"good shuttle number {turn}"})
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer: Any = connection.getresponse()
            answer.read()
            others.failed += answer.status != 200
        except (OSError, HTTPException):
            others.failed += 1
            connection.close()
        others.times.append(time.perf_counter() - begun)
        if connection is not kept:
            connection.close()
        time.sleep(PACE)
    kept.close()


if __name__ == "__main__":
    sys.exit(main())
