"""Show on the terminal what a flow's tasks print, and warnings; Prefect's own progress is left out.

Prefect reads its settings of logging as it is imported. So this module imports none of it, and is
called before.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sentiment.masking import mask
from sentiment.tracking.store import keep_private

LEVEL, HANDLER = "PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS"
# The loggers that what is printed goes to. Of a run of a service the flow's own line is enough:
# one comes every few minutes, and the rest is in the UI.
FLOWS, TASKS = "prefect.flow_runs", "prefect.task_runs"
SERVICE = "FLOW_SERVICE_PID"  # what a run's process is told of the service that started it


def say(text: str) -> None:
    """Print a line at once, also where the output is a file."""
    print(text, flush=True)


def prepare() -> None:
    """Turn telemetry and Prefect's progress off, here and in child processes. The user's own wins.

    The first line comes at once, since the imports take seconds.
    """
    say("loading Prefect and MLflow …")
    keep_private()
    if LEVEL not in os.environ:
        os.environ.setdefault(HANDLER, f"{__name__}.{RunLines.__name__}")


class RunLines(logging.Handler):
    """The handler that writes Prefect's log to the terminal; all of it is in the UI besides.

    Where a profile has chosen another level than Prefect's default, nothing is left out.
    """

    def __init__(self, **_options: object) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record: on stdout what a task prints, on stderr all else."""
        prefect = Path(sys.modules["prefect"].__file__ or "").parent
        ours = not Path(record.pathname).is_relative_to(prefect)
        if ours and record.name in (FLOWS, TASKS) and record.levelno < logging.WARNING:
            if record.name == TASKS and SERVICE in os.environ:
                return
            at = time.strftime("%H:%M:%S", time.localtime(record.created))
            where = getattr(record, "task_name", None) or getattr(record, "flow_name", "")
            _write(sys.stdout, f"{at} {where}: {record.getMessage()}")
            return
        chosen = logging.getLogger("prefect").level != logging.INFO
        if ours or chosen or record.levelno >= logging.WARNING:
            _write(sys.stderr, self.format(record))


def _write(stream: TextIO, line: str) -> None:
    # Not `print`, which Prefect turns into a line of its log during a run. Where nobody reads any
    # more, since the service was killed, the run can still tell the server.
    with suppress(OSError):
        stream.write(f"{mask(line)}\n")
        stream.flush()
