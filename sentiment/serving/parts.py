"""Score a folder of parts: one after the other, or spread over the workers of a Dask cluster.

    score_folder(open_store(), "reviews/", "s3://bucket/scored", terminal=Terminal())
    score_folder(…, dask="tcp://scheduler:8786")

Each part is a file, and its answer a file of the same name. It is in the target whole or not at
all, so that a run that was stopped carries on where it was. A worker is sent the version itself,
and needs neither the store nor MLflow's server; the rows go from the source to the target and never
through this process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sentiment.cluster import check_installed, connect
from sentiment.data.folders import Folder, open_folder
from sentiment.data.sources import Reading
from sentiment.data.tables import AS_WRITTEN
from sentiment.errors import ClusterError, LostWorkError, ReviewDataError, UserError
from sentiment.masking import line
from sentiment.model.predictor import LoadedVersion, load_version
from sentiment.serving.batch import Summary, score_table
from sentiment.tracking.artifact import REQUIREMENTS

if TYPE_CHECKING:
    from sentiment.console import Terminal
    from sentiment.tracking.store import Store

# In the target: what scored the parts that are there. The `_` keeps readers of the folder off it
NOTE = "_scored.json"
FAULTS_SHOWN = 3  # parts that could not be scored


@dataclass(frozen=True)
class Job:
    """What is the same for all parts; it is sent to each worker."""

    source: Folder
    target: Folder
    text_column: str | None
    reading: Reading
    escape_formulas: bool


Outcome = tuple[str, Summary | str]  # name of a part, and its counts or what was wrong with it


def score_folder(  # noqa: PLR0913  # each is an option of the command
    store: Store,
    source: str,
    target: str,
    *,
    version: str = "champion",
    text_column: str | None = None,
    reading: Reading = AS_WRITTEN,
    escape_formulas: bool = True,
    dask: str | None = None,
    terminal: Terminal,
) -> Summary:
    """Score every part of the folder `source` that is not yet in `target`, as `score_file` does.

    Both are folders or addresses of them; that of the target is made. `dask` is the address of a
    scheduler. A part that cannot be scored does not stop the others. Afterwards `ReviewDataError`
    says how many there were, and what was wrong with the first; the next run tries them again.
    Raises what `score_file` raises, `ReviewDataError` also where the parts in the target are of
    another version or others than `score` wrote them, and `ClusterError`.
    """
    if dask is not None:
        check_installed()
    job = Job(
        open_folder(source, "--in"),
        open_folder(target, "--out"),
        text_column,
        reading,
        escape_formulas,
    )
    if job.target.inside(job.source):
        raise ReviewDataError(f"{job.target}: is in the input; name another folder with --out")
    names, there = job.source.parts(), job.target.there()
    loaded = load_version(store, version)
    note = {
        "model": store.settings.registered_model,
        "version": loaded.version,
        "run": loaded.run_id,
        "text_column": text_column,
        "escape_formulas": escape_formulas,
    }
    left = [name for name in names if name not in there]
    _check_note(job.target, note, there, is_new=len(left) == len(names))
    summary, faults, begun = Summary(loaded.version), list[str](), time.perf_counter()
    with _progress(len(left), summary) as show:
        scored = _in_turn(job, loaded, left, show) if dask is None else []
        if dask is not None and left:
            scored = _on_cluster(dask, job, loaded, left, terminal)
        for name, outcome in scored:
            if isinstance(outcome, Summary):
                summary.add(outcome, name)
            else:
                faults.append(outcome)
            show(1.0)
    summary.seconds = time.perf_counter() - begun
    summary.show(str(job.source), str(job.target), terminal)
    terminal.say(
        f"{len(left) - len(faults):,} of {len(names):,} parts scored, {len(names) - len(left):,} "
        f"were there already; {summary.rows / max(summary.seconds, 1e-9):,.0f} rows/s"
    )
    if faults:
        first = "; ".join(faults[:FAULTS_SHOWN])
        raise ReviewDataError(
            f"{len(faults):,} of {len(left):,} parts could not be scored; the same command tries "
            f"them again: {first}"
        )
    lost = set(names) - job.target.there()
    if lost:
        raise ClusterError(
            f"{len(lost):,} parts that workers have written are not in {job.target}, as "
            f"{line(min(lost))}; name a folder that all machines share"
        )
    return summary


def _check_note(target: Folder, note: dict[str, Any], there: set[str], *, is_new: bool) -> None:
    """Write into a new target what scores it; raise `ReviewDataError` where another did."""
    if NOTE not in there:
        if not is_new:
            raise ReviewDataError(
                f"{target}: has files of the same names that `score` did not write (no {NOTE}); "
                "name another folder with --out"
            )
        target.write(NOTE, json.dumps(note, indent=1).encode())
        return
    try:
        found = json.loads(target.read(NOTE))
        of = {name: found[name] for name in note}
    except (ValueError, TypeError, KeyError):
        raise ReviewDataError(f"{target}/{NOTE}: is damaged; name another folder") from None
    other = [name for name in note if of[name] != note[name]]
    if other:
        said = ", ".join(f"{name} {line(of[name], 40)}, now {note[name]}" for name in other)
        raise ReviewDataError(
            f"{target}: its parts were scored otherwise ({said}); name another folder with --out, "
            "or the same options"
        )


def _score_part(
    job: Job, loaded: LoadedVersion, name: str, advance: Callable[[float], None]
) -> Outcome:
    """Score one part; return with its name what is wrong with it, where something is."""
    try:
        with (
            job.source.open_table(name, "--in", job.reading) as table,
            job.target.writing(name) as path,
        ):
            return name, score_table(
                lambda: loaded,
                table,
                path,
                text_column=job.text_column,
                escape_formulas=job.escape_formulas,
                advance=advance,
            )
    except UserError as error:
        return name, str(error)


def _in_turn(
    job: Job, loaded: LoadedVersion, names: list[str], show: Callable[[float], None]
) -> Iterator[Outcome]:
    for name in names:
        # the last step is shown by whoever counts the part
        yield _score_part(job, loaded, name, lambda share: show(min(share, 0.999)))


def _on_cluster(
    address: str, job: Job, loaded: LoadedVersion, names: list[str], terminal: Terminal
) -> Iterator[Outcome]:
    """Yield the outcome of each part as workers come to its end; one that dies costs its part."""
    with connect(address, terminal, REQUIREMENTS) as cluster:
        # the version is replaced by itself to leave out what it has worked out by now
        shared = cluster.send((job, replace(loaded)))
        of_task = {cluster.begin(score_there, name, shared=shared): name for name in names}
        for task in cluster.ended(list(of_task)):
            try:
                yield cluster.result(task)
            except LostWorkError as error:
                yield of_task[task], f"{job.source.place(of_task[task])}: {error}"
            except UserError:
                raise
            except Exception as error:
                reason = line(f"{type(error).__name__}: {error}")
                yield of_task[task], f"{job.source.place(of_task[task])}: {reason}"


def score_there(sent: tuple[Job, LoadedVersion], name: str) -> Outcome:
    """Score a part on a worker; `sent` is what `score_folder` sent."""
    return _score_part(*sent, name, lambda share: None)


@contextmanager
def _progress(total: int, summary: Summary) -> Iterator[Callable[[float], None]]:
    """Show a bar of parts, on a terminal; call it with the share of the part that is done."""
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn("{task.fields[left]:,} parts left"),
        TextColumn("{task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    hidden, begun, done = not console.is_terminal or not total, time.perf_counter(), 0
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total, left=total, speed=0.0)

        def show(share: float) -> None:
            nonlocal done
            done += share >= 1
            speed = summary.rows / (time.perf_counter() - begun)
            at = done if share >= 1 else done + share
            bar.update(task, completed=at, left=total - done, speed=speed)

        yield show
