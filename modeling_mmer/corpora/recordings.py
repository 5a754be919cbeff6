"""Recordings on disk: what a file's header says, and what reading it to its end shows.

Both answer with a `Recording`, whatever the file is: a fault has a name, and keeps no other file from being read.
Reading to the end costs little beside training, whose every epoch does it too: a core decodes a thousand (Opus) to ten
thousand times (WAV) faster than recordings last, so that 100,000 utterances take minutes.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm.auto import tqdm

from ..processing_mmer import LOUDEST
from ..windows import rate_fault

MOST_SAMPLES = (
    2**30
)  # 18 hours at 16 kHz: a reader makes room for what the header says, and a damaged one says anything

_READERS = 16  # threads: soundfile and hashlib let others run while they work, and headers wait for the disk
_SHARE = 64  # files that a thread takes at once
_BLOCK = 2**16  # samples read at once
_CUT_SHORT = re.compile(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", re.MULTILINE)  # libsndfile on WAV and AIFF
_UNKNOWN_SIZE = 0x7FFF0000  # bytes: a size from here on is what a program writes that does not know it yet


@dataclass(frozen=True)
class Recording:
    """What is known of a file.

    Args:
        seconds: that it lasts, by its samples if they were read, otherwise by its header; None if it cannot be decoded.
        kind: of fault; None if there is none. missing, unreadable, empty; and, of a file that was read to its end,
            truncated (fewer samples than its header declares, or than are estimated of an MP3 that declares none), not
            finite (NaN, infinity, or numbers too large for any sound), silent (all zero).
        detail: of the fault, where there is more to say.
        digest: SHA-256 of its rate, channels and samples; None if they were not read, or not all of them.
    """

    seconds: float | None
    kind: str | None = None
    detail: str = ""
    digest: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a model can hear it. A truncated or silent one it can, as far as it goes."""
        return self.seconds is not None and self.kind != "not finite"


def read_headers(paths: Iterable[str]) -> dict[str, Recording]:
    return _in_threads(read_header, paths)


def read_recordings(paths: Iterable[str], show_progress: bool = True) -> dict[str, Recording]:
    """Reads each file to its end, in blocks; the progress bar shows on terminals only."""
    return _in_threads(read_recording, paths, show_progress)


def read_header(path: str) -> Recording:
    return _opened(path, lambda file: Recording(file.frames / file.samplerate))


def read_recording(path: str) -> Recording:
    return _opened(path, _read_samples)


def _in_threads(
    read: Callable[[str], Recording], paths: Iterable[str], show_progress: bool = False
) -> dict[str, Recording]:
    paths = list(dict.fromkeys(paths))
    shares = [paths[start : start + _SHARE] for start in range(0, len(paths), _SHARE)]
    found: dict[str, Recording] = {}
    with (
        ThreadPoolExecutor(_READERS) as readers,
        tqdm(desc="Recordings", total=len(paths), disable=None if show_progress else True) as progress,
    ):
        for share, recordings in zip(shares, readers.map(lambda share: [*map(read, share)], shares), strict=True):
            found.update(zip(share, recordings, strict=True))
            progress.update(len(share))
    return found


def _opened(path: str, read: Callable[[soundfile.SoundFile], Recording]) -> Recording:
    """What `read` makes of an open file that has samples."""
    try:
        if not Path(path).is_file():
            return Recording(None, "missing")
        with soundfile.SoundFile(path) as file:
            if file.frames <= 0:
                return Recording(None, "empty")
            if fault := rate_fault(file.samplerate):
                return Recording(None, "unreadable", fault)
            if file.frames * file.channels > MOST_SAMPLES:
                return Recording(None, "unreadable", f"its header says {file.frames:,} times {file.channels} samples")
            if not file.seekable():  # GSM 6.10, which transformers' reader refuses
                return Recording(None, "unreadable", f"samples of the kind {file.subtype} cannot be read")
            return read(file)
    # TypeError: of `.raw` files, which have no header; ValueError: of a name that no file can have
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", None) or str(error)  # the path is told beside it
        return Recording(None, "unreadable", reason)


def _read_samples(file: soundfile.SoundFile) -> Recording:
    content = hashlib.sha256(f"{file.samplerate} {file.channels} ".encode())
    n, is_finite, is_silent = 0, True, True
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):  # `blocks` hides that a file is short
            content.update(block)
            n += len(block)
            is_finite &= bool((np.abs(block) <= LOUDEST).all())  # false of NaN
            is_silent &= not block.any()
    except soundfile.LibsndfileError:
        return Recording(None, "truncated", f"not all of its {file.frames:,} samples can be decoded")
    seconds = n / file.samplerate or None
    if not is_finite:
        return Recording(seconds, "not finite", digest=content.hexdigest())
    if n < file.frames:
        return Recording(seconds, "truncated", f"{n:,} of {file.frames:,} samples")
    cut = _CUT_SHORT.search(file.extra_info)  # here `frames` are those that are there
    if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        return Recording(seconds, "truncated", f"{int(cut[2]):,} of {int(cut[1]):,} bytes of samples")
    return Recording(seconds, "silent" if is_silent else None, digest=content.hexdigest())
