"""All runs of a grid, one after the other, each done once.

Several processes may work on one folder, on one machine or many: a run that one of them has open is locked, and the
lock of a process that dies goes with it.
"""

import time
from collections.abc import Iterable

from filelock import FileLock, Timeout

from .material import Material
from .runs import Task, finished, model_path, perform, read_record
from .systems import Run

PATIENCE = 5  # seconds between two looks at runs that others have open


def tasks(runs: Iterable[Run], seeds: int, folds: list[int | None]) -> list[Task]:
    """Every run with the first seed, then with the next: a grid that is stopped early has whole tables."""
    runs = list(runs)
    return [Task(run, seed, fold) for seed in range(seeds) for run in runs for fold in folds]


def work_through(grid: list[Task], material: Material) -> list[str]:
    """Do what is not done yet, and wait for what others have open; the runs that diverged, or needed one that did.

    Raises:
        ValueError: a run was done before under other settings.
    """
    pending = [task for task in grid if not is_done(task, grid, material)]
    print(f"{len(grid) - len(pending)} of {len(grid)} runs are there; {len(pending)} to go.")
    while pending:
        waiting = [task for task in pending if not attempt(task, grid, material)]
        if len(waiting) == len(pending):
            time.sleep(PATIENCE)
        pending = waiting
    return [task.key for task in grid if has_failed(task.key, material) or is_hopeless(task, material)]


def is_done(task: Task, grid: list[Task], material: Material) -> bool:
    """Whether its record is there and, if a run that is to be done starts from it, its model."""
    if not finished(task, material):
        return False
    if has_failed(task.key, material) or model_path(material.folder, task.key).is_dir():
        return True
    return not any(task.key in other.needs() and not finished(other, material) for other in grid)


def has_failed(key: str, material: Material) -> bool:
    record = read_record(material.folder, key)
    return record is not None and "failed" in record


def has_model(key: str, material: Material) -> bool:
    """Whether a run has left a model that is whole: its record is written after it."""
    return read_record(material.folder, key) is not None and model_path(material.folder, key).is_dir()


def is_hopeless(task: Task, material: Material) -> bool:
    """Whether a run that it starts from has diverged."""
    return any(has_failed(key, material) for key in task.needs())


def attempt(task: Task, grid: list[Task], material: Material) -> bool:
    """Do a run unless it is done, or waits for another, or is another process's; whether nothing is left to do."""
    if is_hopeless(task, material):
        return True
    if not all(has_model(key, material) for key in task.needs()):
        return is_done(task, grid, material)
    lock = material.folder / "unfinished" / f"{task.key}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            if not is_done(task, grid, material):
                print(f"\n{task.key}", flush=True)
                record = perform(task, material)
                seconds = sum(record["seconds"].values())
                print(
                    f"{task.key}: {record.get('failed', f'{seconds:.0f} s')}. {time_left(grid, material)}", flush=True
                )
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
            taken.setdefault(task.run.name, []).append(sum(record["seconds"].values()))
        elif not is_hopeless(task, material):
            open_tasks.append(task)
    everything = [seconds for of_run in taken.values() for seconds in of_run]
    likely = sum(mean(taken.get(task.run.name, everything)) for task in open_tasks)
    return f"{len(grid) - len(open_tasks)} of {len(grid)} runs done, about {likely / 60:.0f} min left."


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
