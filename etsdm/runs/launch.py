"""Several runs side by side, each in a process of its own.

The parent only watches: a child sends its progress through a queue, ends by itself when the parent is gone, and leaves a
folder from which the same command goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from etsdm.errors import EtsdmError, IntegrityError
from etsdm.recipe import Recipe
from etsdm.runs.folder import RunFolder
from etsdm.runs.run import STAGES, Run, StageProgress

__all__ = ["Event", "jobs_for", "run_in_processes"]

EVERY = 0.1  # seconds between a child's reports
PATIENCE = 0.5  # seconds between the parent's looks at children that send nothing


class Event(NamedTuple):
    """News of a run. Fields: label of the run; progress; `finished` with its last stage."""

    label: str
    progress: StageProgress | None
    finished: bool = False


def jobs_for(runs: Sequence[Run]) -> int:
    """How many runs go side by side: what the recipe says, else as many as cores and threads allow, one on a GPU."""
    compute = runs[0].recipe.compute
    if compute.jobs:
        return min(compute.jobs, len(runs))
    if runs[0].device.type != "cpu":
        return 1
    return max(1, min(len(runs), _cores() // (compute.threads or 1)))


def run_in_processes(runs: Sequence[Run], stages: tuple[str, ...] = STAGES) -> Iterator[Event]:
    """Carries out the stages of several runs in parallel.

    Args:
        runs: which; started in this order.
        stages: as for `Run.carry_out`.

    Yields:
        Events of all runs, as they come.

    Raises:
        EtsdmError: a run failed, and the others have been stopped; the message names the run.
    """
    jobs = jobs_for(runs)
    # A child that shares the cores gets its part of them; a recipe that names a number of threads keeps it.
    threads = max(1, _cores() // jobs)
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    waiting = list(runs)
    working: dict[str, Any] = {}
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                run = waiting.pop(0)
                plain = (run.arm, run.recipe.model_dump(mode="json"), run.seed, str(run.folder.path), stages, threads, events)
                working[run.label] = context.Process(target=_child, args=plain, name=run.label)
                working[run.label].start()
            for kind, label, content in _poll(events, working):
                if kind == "progress":
                    yield Event(label, content)
                elif kind == "finished":
                    working.pop(label).join()
                    yield Event(label, None, finished=True)
                else:
                    raise _failure(kind, label, content)
    finally:
        for process in working.values():
            process.terminate()
        for process in working.values():
            process.join()


def _failure(kind: str, label: str, content: Any) -> Exception:
    if kind == "refused":
        refused: EtsdmError = content
        return type(refused)(f"{label}: {refused}")
    if kind == "died":
        return IntegrityError(f"{label}: its process ended with {content}; nothing that was saved is lost, run again to go on")
    return RuntimeError(f"{label}: {content}")


def _poll(events: Any, working: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The next message, and the death of children that can send none."""
    try:
        yield events.get(timeout=PATIENCE)
    except queue.Empty:
        for label, process in working.items():
            if process.exitcode is not None:
                code = process.exitcode
                yield "died", label, f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                return


def _child(arm: str, recipe: dict[str, Any], seed: int, folder: str, stages: tuple[str, ...], threads: int, events: Any) -> None:
    # Ctrl-C reaches the whole group; the parent decides, and ends the children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run = Run(arm, Recipe.model_validate(recipe), seed, RunFolder(Path(folder)))
    torch.set_num_threads(threads)
    sent, stage = 0.0, ""
    try:
        for progress in run.carry_out(stages):
            if progress.stage != stage or progress.done == progress.total or time.monotonic() - sent > EVERY:
                events.put(("progress", run.label, progress))
                sent, stage = time.monotonic(), progress.stage
        events.put(("finished", run.label, None))
    except EtsdmError as error:
        events.put(("refused", run.label, error))
    except Exception:
        events.put(("broken", run.label, traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
