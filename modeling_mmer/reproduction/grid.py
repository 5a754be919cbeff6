"""All runs of a grid, one after the other, each done once.

Several processes may work on one folder, on one machine or many: a run that one of them has open is locked, and the
lock of a process that dies goes with it.
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
from .runs import Task, begun_settings, model_path, perform, read_record, settings
from .systems import Plan, Run

ELSEWHERE = "name another --output_dir"
PATIENCE = 5  # seconds between two looks at runs that others have open


class Status(Enum):
    """Where a run of the grid stands."""

    DONE = "its record is there and, if a run that is still to be done starts from it, its model"
    DIVERGED = "its record says so"
    HOPELESS = "a run that it starts from has diverged"
    WAITING = "a run that it starts from is not done"
    READY = "it can be done"

    @property
    def is_final(self) -> bool:
        return self in (Status.DONE, Status.DIVERGED, Status.HOPELESS)


def tasks(runs: Iterable[Run], seeds: int, folds: list[int | None]) -> list[Task]:
    """Every run with the first seed, then with the next: a grid that is stopped early has whole tables."""
    runs = list(runs)
    return [Task(run, seed, fold) for seed in range(seeds) for run in runs for fold in folds]


def work_through(grid: list[Task], plan: Plan, material: Material) -> list[str]:
    """Do what is not done yet, and wait for what others have open; the runs that diverged, or needed one that did.

    Raises:
        ValueError: a run in the folder was made, or begun, under other settings.
    """
    require_same_settings(grid, plan, material)
    pending = [task for task in grid if status(task, grid, material) not in (Status.DONE, Status.DIVERGED)]
    print(f"{len(grid) - len(pending)} of {counted(len(grid), 'run')} done before; {len(pending)} to go.")
    while pending:
        waiting = [task for task in pending if not attempt(task, grid, material)]
        if len(waiting) == len(pending):
            time.sleep(PATIENCE)
        pending = waiting
    return [task.key for task in grid if status(task, grid, material) in (Status.DIVERGED, Status.HOPELESS)]


def require_same_settings(grid: list[Task], plan: Plan, material: Material) -> None:
    """Every run of the plan that the folder has, or of the grid that was begun there, is under the present settings.

    Tables hold runs against each other, so this goes beyond those that are to be done now.
    """
    folds = material.folds()
    for record in Records(material.folder).all:
        path = material.folder / record.path
        if (record.fold is None) != (folds == [None]):
            raise ValueError(f"{path} is of a corpus {'with' if record.fold else 'without'} folds: {ELSEWHERE}.")
        if record.run in plan.runs:
            require_settings(Task(plan.runs[record.run], record.seed, record.fold), record.settings, path, material)
    for task in grid:
        if (begun := begun_settings(task, material)) is not None:
            path = material.folder / "unfinished" / task.key
            require_settings(task, begun, path, material)


def require_settings(task: Task, then: Mapping[str, Any], path: Path, material: Material) -> None:
    if told := difference(then, settings(task, material)):
        raise ValueError(f"{path} was made under other settings ({told}): {ELSEWHERE}.")


def status(task: Task, grid: list[Task], material: Material) -> Status:
    record = read_record(material.folder, task.key)
    if record is not None and not record.measured:
        return Status.DIVERGED
    if record is not None and (has_model(task.key, material) or not is_needed(task, grid, material)):
        return Status.DONE
    needed = [read_record(material.folder, key) for key in task.needs()]
    if any(record is not None and not record.measured for record in needed):
        return Status.HOPELESS
    return Status.READY if all(has_model(key, material) for key in task.needs()) else Status.WAITING


def has_model(key: str, material: Material) -> bool:
    """Whether a run has left a model that is whole: its record is written after it."""
    return read_record(material.folder, key) is not None and model_path(material.folder, key).is_dir()


def is_needed(task: Task, grid: list[Task], material: Material) -> bool:
    """Whether a run that is still to be done starts from it."""
    return any(task.key in other.needs() and read_record(material.folder, other.key) is None for other in grid)


def attempt(task: Task, grid: list[Task], material: Material) -> bool:
    """Do a run if it can be done and is not another process's; whether nothing is left to do."""
    now = status(task, grid, material)
    if now is not Status.READY:
        return now.is_final
    lock = material.folder / "unfinished" / f"{task.key}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            if status(task, grid, material) is Status.READY:  # another process may have done it in between
                print(f"\n{task.key}", flush=True)
                record = perform(task, material)
                outcome = record.failed or f"{sum(record.seconds.values()):.0f} s"
                print(f"{task.key}: {outcome}. {time_left(grid, material)}", flush=True)
            return True
    except Timeout:
        return False


def time_left(grid: list[Task], material: Material) -> str:
    """How many runs remain, and how long one process takes for them: as long as their like have taken so far."""
    taken: dict[str, list[float]] = {}
    open_tasks = []
    for task in grid:
        record = read_record(material.folder, task.key)
        if record is not None:
            taken.setdefault(task.run.name, []).append(sum(record.seconds.values()))
        elif not status(task, grid, material).is_final:
            open_tasks.append(task)
    everything = [seconds for of_run in taken.values() for seconds in of_run]
    likely = sum(np.mean(taken.get(task.run.name, everything)) for task in open_tasks)
    return f"{len(grid) - len(open_tasks)} of {counted(len(grid), 'run')} done, about {likely / 60:.0f} min left."
