"""Executes the runs of a grid, each once.

Several processes, also on several machines, can share one output folder: a process locks the run that it works on, and
the lock is released if the process dies.
"""

import time
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ..corpora.schema import counted
from ..report.records import Records
from ..training.fingerprint import difference
from .material import Material
from .runs import Task, checkpoint_settings, model_path, read_record, run_task, settings
from .systems import Plan, Run

REMEDY = "choose another --output_dir"
POLL_SECONDS = 5  # interval at which runs of other processes are checked


class Status(Enum):
    """The status of a run."""

    DONE = "it has a record and, if a pending run starts from it, a model"
    DIVERGED = "its record says that training diverged"
    BLOCKED = "a run that it starts from has diverged"
    WAITING = "a run that it starts from is not finished"
    READY = "it can start"

    @property
    def is_final(self) -> bool:
        return self in (Status.DONE, Status.DIVERGED, Status.BLOCKED)


def tasks(runs: Iterable[Run], seeds: int, folds: list[int | None]) -> list[Task]:
    """All runs with the first seed, then with the next, so that a grid that is stopped early has complete tables."""
    runs = list(runs)
    return [Task(run, seed, fold) for seed in range(seeds) for run in runs for fold in folds]


def run_grid(grid: list[Task], plan: Plan, material: Material) -> list[str]:
    """Execute all unfinished runs, and wait for those of other processes. Returns the keys of runs without figures,
    because they or a run that they start from diverged.

    Raises:
        ValueError: the folder has a finished or unfinished run with other settings.
    """
    require_same_settings(grid, plan, material)
    pending = [task for task in grid if status(task, grid, material) not in (Status.DONE, Status.DIVERGED)]
    print(f"{len(grid) - len(pending)} of {counted(len(grid), 'run')} finished, {len(pending)} remain.")
    while pending:
        waiting = [task for task in pending if not attempt(task, grid, material)]
        if len(waiting) == len(pending):
            time.sleep(POLL_SECONDS)
        pending = waiting
    return [task.key for task in grid if status(task, grid, material) in (Status.DIVERGED, Status.BLOCKED)]


def require_same_settings(grid: list[Task], plan: Plan, material: Material) -> None:
    """Raise a ValueError if a finished run of the plan or an unfinished run of the grid has other settings.

    This includes runs that are not selected now, because tables compare them with the selected ones.
    """
    folds = material.folds()
    for record in Records(material.folder).all:
        path = material.folder / record.path
        if (record.fold is None) != (folds == [None]):
            raise ValueError(f"{path} is for a corpus {'with' if record.fold else 'without'} folds: {REMEDY}.")
        if record.run in plan.runs:
            require_settings(Task(plan.runs[record.run], record.seed, record.fold), record.settings, path, material)
    for task in grid:
        if (begun := checkpoint_settings(task, material)) is not None:
            path = material.folder / "unfinished" / task.key
            require_settings(task, begun, path, material)


def require_settings(task: Task, then: Mapping[str, Any], path: Path, material: Material) -> None:
    if changes := difference(then, settings(task, material)):
        raise ValueError(f"{path} has other settings ({changes}): {REMEDY}.")


def status(task: Task, grid: list[Task], material: Material) -> Status:
    record = read_record(material.folder, task.key)
    if record is not None and not record.measured:
        return Status.DIVERGED
    if record is not None and (has_model(task.key, material) or not is_needed(task, grid, material)):
        return Status.DONE
    needed = [read_record(material.folder, key) for key in task.needs()]
    if any(record is not None and not record.measured for record in needed):
        return Status.BLOCKED
    return Status.READY if all(has_model(key, material) for key in task.needs()) else Status.WAITING


def has_model(key: str, material: Material) -> bool:
    """Whether a run has a complete model. Its record is written after it."""
    return read_record(material.folder, key) is not None and model_path(material.folder, key).is_dir()


def is_needed(task: Task, grid: list[Task], material: Material) -> bool:
    """Whether an unfinished run starts from this one."""
    return any(task.key in other.needs() and read_record(material.folder, other.key) is None for other in grid)


def attempt(task: Task, grid: list[Task], material: Material) -> bool:
    """Execute a run if it is ready and no other process works on it. Returns whether it needs no further attempt."""
    now = status(task, grid, material)
    if now is not Status.READY:
        return now.is_final
    lock = material.folder / "unfinished" / f"{task.key}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            if status(task, grid, material) is Status.READY:  # another process may have finished it
                print(f"\n{task.key}", flush=True)
                record = run_task(task, material)
                outcome = record.failed or f"{sum(record.seconds.values()):.0f} s"
                print(f"{task.key}: {outcome}. {time_left(grid, material)}", flush=True)
            return True
    except Timeout:
        return False


def time_left(grid: list[Task], material: Material) -> str:
    """Progress, and the time one process needs for the remaining runs, estimated from finished runs of each name."""
    taken: dict[str, list[float]] = {}
    open_tasks = []
    for task in grid:
        record = read_record(material.folder, task.key)
        if record is not None:
            taken.setdefault(task.run.name, []).append(sum(record.seconds.values()))
        elif not status(task, grid, material).is_final:
            open_tasks.append(task)
    everything = [seconds for times in taken.values() for seconds in times]
    likely = sum(np.mean(taken.get(task.run.name, everything)) for task in open_tasks)
    return f"{len(grid) - len(open_tasks)} of {counted(len(grid), 'run')} done, about {likely / 60:.0f} min left."
