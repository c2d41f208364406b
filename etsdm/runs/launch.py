"""Several runs, one after another or side by side in processes.

`execute` is the one way in which an experiment's runs are carried out: it yields events and prints nothing. Of the runs that need the same
untrained training the first trains it, and the others start when it is trained. A worker process sends its progress through a queue, ends
by itself when the parent is gone, and leaves a folder from which the same command resumes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from etsdm.errors import EtsdmError, IntegrityError
from etsdm.recipe import Recipe
from etsdm.runs.folder import ExperimentFolder
from etsdm.runs.run import Run
from etsdm.runs.stages import STAGES, Progress
from etsdm.runs.threads import cores

__all__ = ["Event", "execute", "jobs_for", "run_in_processes", "threads_for"]

REPORT_INTERVAL_S = 0.1  # between the progress reports of a worker
POLL_INTERVAL_S = 0.2  # between the parent's looks at workers that report nothing


class Event(NamedTuple):
    """Progress of one run. Fields: label of the run; progress; `finished` after its last stage."""

    label: str
    progress: Progress | None
    finished: bool = False


def jobs_for(runs: Sequence[Run]) -> int:
    """Number of runs side by side: `compute.jobs` of the recipe, else as many as cores and threads allow, one on a GPU."""
    compute = runs[0].recipe.compute
    if compute.jobs:
        return min(compute.jobs, len(runs))
    if runs[0].train.device.type != "cpu":
        return 1
    return max(1, min(len(runs), cores() // (compute.threads or 1)))


def threads_for(runs: Sequence[Run]) -> int:
    """CPU threads of each run: `compute.threads` of the recipe, else the cores divided among the runs side by side."""
    jobs = jobs_for(runs)
    return runs[0].recipe.compute.threads or (max(1, cores() // jobs) if jobs > 1 else torch.get_num_threads())


def execute(runs: Sequence[Run], kinds: tuple[str, ...] = STAGES, jobs: int = 1) -> Iterator[Event]:
    """Runs the unfinished stages of several runs.

    Args:
        runs: in the order in which they start.
        kinds: of stages, as for `Run.run`.
        jobs: runs side by side, each in a process; one after another in this process if 1.

    Yields:
        Events of all runs, in the order in which they happen.

    Raises:
        EtsdmError: a run failed, and the others were stopped; the message names the run.
    """
    todo = [run for run in runs if not all(run.is_done(kind) for kind in kinds)]
    for run in runs:
        if run not in todo:
            yield from (Event(run.label, progress) for progress in run.run(kinds))
    if min(jobs, len(todo)) > 1:
        yield from run_in_processes(todo, kinds, jobs)
        return
    for run in todo:
        try:
            yield from (Event(run.label, progress) for progress in run.run(kinds))
        except EtsdmError as error:
            raise type(error)(f"{run.label}: {error}") from error
        yield Event(run.label, None, finished=True)


def run_in_processes(runs: Sequence[Run], kinds: tuple[str, ...] = STAGES, jobs: int | None = None) -> Iterator[Event]:
    """Runs several runs in a pool of processes; arguments, events and errors are those of `execute`, `jobs` by default `jobs_for`."""
    jobs = jobs or jobs_for(runs)
    # Workers share the cores; a recipe that sets a number of threads keeps it.
    threads = max(1, cores() // jobs)
    pool = _Pool(jobs, threads)
    waiting, labels = list(runs), {run.label: run for run in runs}
    try:
        while waiting or pool.working:
            while (run := _next_ready(waiting, pool, labels)) and len(pool.working) < jobs:
                waiting.remove(run)
                pool.submit(run, kinds)
            for event in pool.poll():
                yield event
                if event.finished:
                    pool.finish(event.label)
    finally:
        pool.stop()


def _next_ready(waiting: list[Run], pool: _Pool, runs: dict[str, Run]) -> Run | None:
    """The first waiting run whose training no worker is at."""
    trained = {runs[label].digests.train for label in pool.working if label not in pool.past_training}
    return next((run for run in waiting if run.digests.train not in trained or run.train.is_done()), None)


class _Pool:
    """Worker processes, which get no more runs than there are workers.

    Attributes:
        working: futures of the runs under way, by label.
        past_training: labels of the runs whose training is done.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        with _safe_path():
            self._events: Any = context.Queue()
        self._executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(self._events, threads))
        self._workers: dict[int | None, BaseProcess] = {}
        self._worker_of: dict[str, int] = {}
        self.working: dict[str, Future[None]] = {}
        self.past_training: set[str] = set()

    def submit(self, run: Run, kinds: tuple[str, ...]) -> None:
        """Hands a run to a worker, which is started if none is idle."""
        before = set(multiprocessing.active_children())
        recipe = run.recipe.model_dump(mode="json")
        with _safe_path():
            self.working[run.label] = self._executor.submit(_work, run.arm, recipe, run.seed, str(run.experiment.path), kinds)
        self._workers |= {process.pid: process for process in set(multiprocessing.active_children()) - before}

    def poll(self) -> Iterator[Event]:
        """The next event, if one comes soon. Raises: the error of a run that failed."""
        try:
            kind, label, content = self._events.get(timeout=POLL_INTERVAL_S)
        except queue.Empty:
            for label, future in self.working.items():
                if future.done() and (error := future.exception()):
                    raise self._failure(label, error) from error
            return
        if kind == "worker":
            self._worker_of[label] = content
        elif kind == "warning":
            warnings.warn(content, stacklevel=2)
        elif kind == "finished":
            yield Event(label, None, finished=True)
        else:
            if content.stage != STAGES[0] or content.reused:
                self.past_training.add(label)
            yield Event(label, content)

    def finish(self, label: str) -> None:
        """Forgets a run that is finished."""
        self.working.pop(label).result()

    def stop(self) -> None:
        """Ends all workers, those at work too: what they saved is whole."""
        if self.working:
            for process in self._workers.values():
                process.terminate()
        self._executor.shutdown(cancel_futures=True)

    def _failure(self, label: str, error: BaseException) -> Exception:
        if isinstance(error, BrokenProcessPool):
            return IntegrityError(f"{self._broken()}; nothing that was saved is lost, run again to go on")
        if isinstance(error, EtsdmError):
            return type(error)(f"{label}: {error}")
        return RuntimeError(f"{label}: {error!r}")

    def _broken(self) -> str:
        """Names the runs whose worker died, with the cause; all runs under way if the exit codes do not identify one."""
        self._executor.shutdown(cancel_futures=True)  # after which every worker has an exit code
        died = []
        for label, pid in self._worker_of.items():
            code = self._workers[pid].exitcode if label in self.working and pid in self._workers else None
            if code and code != -signal.SIGTERM:
                cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                died.append(f"{label}: its process ended with {cause}")
        return "; ".join(died) or f"{', '.join(self.working)}: a worker process ended"


@contextmanager
def _safe_path() -> Iterator[None]:
    """Context in which processes are started that import no modules from the working directory, where a stranger's files may lie."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


_events: Any = None  # queue of a worker process, set when it starts


def _start_worker(events: Any, threads: int) -> None:
    global _events
    _events = events
    # Ctrl-C reaches the whole group; the parent decides, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    warnings.showwarning = _send_warning


def _send_warning(message: Warning | str, *place: Any, **named: Any) -> None:
    """Sends a warning to the parent, which has it once for all workers."""
    _events.put(("warning", "", str(message)))


def _work(arm: str, recipe: dict[str, Any], seed: int, folder: str, kinds: tuple[str, ...]) -> None:
    """Carries out one run in a worker and sends its progress."""
    run = Run(arm, Recipe.model_validate(recipe), seed, ExperimentFolder(Path(folder)))
    _events.put(("worker", run.label, os.getpid()))
    sent, stage = 0.0, ""
    for progress in run.run(kinds):
        if progress.label != stage or progress.done == progress.total or time.monotonic() - sent > REPORT_INTERVAL_S:
            _events.put(("progress", run.label, progress))
            sent, stage = time.monotonic(), progress.label
    _events.put(("finished", run.label, None))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
