"""Keep freed memory in the process. By default, glibc returns it after every tensor, which causes page faults."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt in <malloc.h>
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory. Does nothing on other platforms.

    Without it a training step from encoder states took 1.09 × as long on a CPU (`benchmarks/run.py`).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _NEVER)
