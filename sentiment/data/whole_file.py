"""Whole file: a file that appears under its name when it is complete, or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

PART = ".part"  # ends the name of a file that is not finished


@contextmanager
def appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A binary file beside `path`, which takes its name when the block ends well.

    When the block raises, Ctrl-C included, it is removed, and what was at `path` stays. What a
    killed process left behind is removed by the next one that writes there. Raises `OSError`.
    """
    with ExitStack() as files:
        folder = os.open(path.parent, os.O_RDONLY)
        files.callback(os.close, folder)
        # One process at a time looks for leftovers and makes its own. A file is locked while its
        # process lives, so that one that can be locked is a dead one's.
        fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
            with suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
        raw = files.enter_context(part.open("xb"))
        fcntl.flock(raw, fcntl.LOCK_EX)
        fcntl.flock(folder, fcntl.LOCK_UN)
        try:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
            part.replace(path)
            os.fsync(folder)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
