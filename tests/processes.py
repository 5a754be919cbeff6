"""Processes for tests, forked from a process that has already imported the libraries, which would take five seconds.

The parent imports only libraries, not the package. It computes nothing, because OpenMP threads do not survive a fork.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parents[1]
LIBRARIES = (
    *("torch", "transformers.trainer", "transformers.pipelines", "transformers.models.whisper.modeling_whisper"),
    *("accelerate", "datasets", "evaluate", "pandas", "matplotlib.pyplot", "soundfile", "soxr", "yaml", "pytest"),
)
LONGEST = 600  # seconds; a process that takes longer hangs


@cache
def server():
    """The context whose processes are forked from the one that has imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    return context


def spawn(function, args: tuple, processes: int = 2) -> None:
    """`function(rank, *args)` in several processes; an exception in one of them is raised here."""
    server()
    torch.multiprocessing.start_processes(function, args=args, nprocs=processes, start_method="forkserver")


def start(command: list[str], stdout: str | Path = os.devnull, stderr: str | Path = os.devnull, cwd=REPOSITORY):
    """`python *command`, started; its output goes to files."""
    process = server().Process(target=_become, args=(command, str(cwd), str(stdout), str(stderr), dict(os.environ)))
    process.start()
    return process


def reaches(process, condition) -> None:
    """Waits until a process has made the condition true."""
    while not condition():
        assert process.is_alive(), "it ended before that"
        time.sleep(0.002)


def run(*command: str, cwd=REPOSITORY, env=None, fresh: bool = False) -> subprocess.CompletedProcess:
    """`python *command`, run to its end.

    Args:
        env: what libraries read when they are imported has its say only in a process that imports them itself.
        fresh: one that does, where that is the point.
    """
    if fresh or env is not None:
        whole = [sys.executable, *command]
        return subprocess.run(whole, cwd=cwd, env=env, capture_output=True, text=True, timeout=LONGEST)
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(list(command), *printed, cwd=cwd)
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, LONGEST)
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in printed))


def _become(command: list[str], cwd: str, stdout: str, stderr: str, environment: dict[str, str]) -> None:
    """What the interpreter does with its arguments."""
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # as in a process started by hand, for those that load data
    kind, *rest = command
    sys.path.insert(0, str(Path(kind).parent.resolve()) if kind not in ("-c", "-m") else "")
    sys.argv = command if kind not in ("-c", "-m") else ["-c", *rest[1:]] if kind == "-c" else rest
    if kind == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


@contextmanager
def process_group(rank: int, processes: int, folder: str):
    """One of several processes that meet over gloo in an empty folder, as a launcher would start it."""
    torch.set_num_threads(1)
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in where.items()}
    how = {"init_method": f"file://{folder}/rendezvous", "timeout": timedelta(minutes=5)}  # one that hangs is an error
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes, **how)
    yield
    torch.distributed.destroy_process_group()
