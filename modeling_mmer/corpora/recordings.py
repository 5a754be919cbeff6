"""Recordings on disk: what a file's header says, and what reading it shows.

Both answer with a `Recording`, whatever the file is: a fault has a name, and keeps no other file from being read. A
file of many spans is opened and read once. Reading costs little beside training, whose every epoch does it too: a core
decodes a thousand (Opus) to ten thousand times (WAV) faster than recordings last, so that 100,000 utterances take
minutes.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
from datasets import Dataset
from tqdm.auto import tqdm

from ..model.levels import Levels
from ..model.waveforms import TOLERANCE, rate_fault, span_samples

# 18 hours at 16 kHz: a reader makes room for what the header says, and a damaged one says anything.
MOST_SAMPLES = 2**30
# What names of recordings end in, in any case.
AUDIO_SUFFIXES = tuple(".wav .flac .mp3 .ogg .opus .oga .m4a .aac .aif .aiff .au .w64 .rf64 .caf".split())

_READERS = 16  # threads: soundfile and hashlib let others run while they work, and headers wait for the disk
_SHARE = 64  # files that a thread takes at once
_BLOCK = 2**16  # samples read at once
_CUT_SHORT = re.compile(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", re.MULTILINE)  # libsndfile on WAV and AIFF
_UNKNOWN_SIZE = 0x7FFF0000  # bytes: a size from here on is what a program writes that does not know it yet


class Clip(NamedTuple):
    """The span of a recording from `start` to `end`, in seconds; None is its beginning, or its end."""

    path: str
    start: float | None = None
    end: float | None = None

    @property
    def span(self) -> str:
        """`12.5-14`; empty for a whole recording. What a key or an id tells spans of one recording apart by."""
        return "" if self[1:] == (None, None) else f"{seconds_text(self.start or 0)}-{seconds_text(self.end)}"


Source = str | Clip  # the path of a whole recording, or a span of one


def as_clip(source: Source) -> Clip:
    return Clip(source) if isinstance(source, str) else source


def as_input(source: Source) -> str | dict[str, Any]:
    """As the processor takes it."""
    return source if isinstance(source, str) else source._asdict()


def sources_of(rows: Dataset | pd.DataFrame) -> list[Source | None]:
    """What each row is heard from; None without audio. A table without the columns `start` and `end` has whole
    recordings alone."""
    names = rows.column_names if isinstance(rows, Dataset) else rows.columns
    columns = (_or_none(rows[name][:]) if name in names else [None] * len(rows) for name in ("audio", "start", "end"))
    return [
        path if path is None or (start is None and end is None) else Clip(path, start, end)
        for path, start, end in zip(*columns, strict=True)
    ]


def seconds_text(seconds: float | None) -> str:
    """Seconds to the microsecond, without trailing zeros; nothing for None."""
    return "" if seconds is None else f"{seconds:.6f}".rstrip("0").rstrip(".")


def _or_none(values: Sequence) -> list:
    values = pd.Series(values, dtype=object)
    return values.where(values.notna(), None).tolist()


@dataclass(frozen=True)
class Recording:
    """What is known of a clip.

    Args:
        seconds: that it lasts, by its samples if they were read, otherwise by its header; None if it cannot be decoded.
        kind: of fault; None if there is none. missing, unreadable, empty; span (one that is not in its recording);
            and, of a clip that was read, truncated (fewer samples than its header declares, or than are estimated of an
            MP3 that declares none), not finite (NaN, infinity, or numbers too large for any sound), silent (all zero),
            too loud (far above full scale), cancelled (channels that are each other's inverse).
        detail: of the fault, where there is more to say.
        digest: SHA-256 of its rate, channels and samples; None if they were not read, or not all of them.
    """

    seconds: float | None
    kind: str | None = None
    detail: str = ""
    digest: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a model can hear it. One that is truncated, silent, too loud or cancelled it can, as it is."""
        return self.seconds is not None and self.kind != "not finite"


def read_headers(paths: Iterable[str]) -> dict[str, Recording]:
    return _in_threads(read_header, {path: [path] for path in paths})


def read_recordings(sources: Iterable[Source], show_progress: bool = True) -> dict[Source, Recording]:
    """Reads each file once, as far as its spans go, in blocks; the progress bar shows on terminals only."""
    by_path: dict[str, list[Source]] = {}
    for source in dict.fromkeys(sources):
        by_path.setdefault(as_clip(source).path, []).append(source)
    return _in_threads(read_spans, by_path, show_progress)


def read_header(path: str, sources: Sequence[Source]) -> list[Recording]:
    return _opened(path, lambda file: [Recording(file.frames / file.samplerate)] * len(sources), len(sources))


def read_spans(path: str, sources: Sequence[Source]) -> list[Recording]:
    return _opened(path, lambda file: _read_samples(file, [as_clip(source) for source in sources]), len(sources))


def _in_threads(
    read: Callable[[str, Sequence[Source]], list[Recording]],
    by_path: Mapping[str, Sequence[Source]],
    show_progress: bool = False,
) -> dict[Source, Recording]:
    files = list(by_path.items())
    shares = [files[start : start + _SHARE] for start in range(0, len(files), _SHARE)]
    found: dict[Source, Recording] = {}
    with (
        ThreadPoolExecutor(_READERS) as readers,
        tqdm(desc="Recordings", total=len(files), disable=None if show_progress else True) as progress,
    ):
        answers = readers.map(lambda share: [read(*file) for file in share], shares)
        for share, recordings in zip(shares, answers, strict=True):
            for (_, sources), of_sources in zip(share, recordings, strict=True):
                found.update(zip(sources, of_sources, strict=True))
            progress.update(len(share))
    return found


def _opened(path: str, read: Callable[[soundfile.SoundFile], list[Recording]], n: int) -> list[Recording]:
    """What `read` makes of the n spans of an open file that has samples."""
    try:
        if not Path(path).is_file():
            return [Recording(None, "missing")] * n
        with soundfile.SoundFile(path) as file:
            fault = _fault_of_header(file)
            return read(file) if fault is None else [fault] * n
    # TypeError: of `.raw` files, which have no header; ValueError: of a name that no file can have
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", None) or str(error)  # the path is told beside it
        return [Recording(None, "unreadable", reason)] * n


def _fault_of_header(file: soundfile.SoundFile) -> Recording | None:
    if file.frames <= 0:
        return Recording(None, "empty")
    if fault := rate_fault(file.samplerate):
        return Recording(None, "unreadable", fault)
    if file.frames * file.channels > MOST_SAMPLES:
        return Recording(None, "unreadable", f"its header says {file.frames:,} times {file.channels} samples")
    return None


def span_fault(clip: Clip, seconds: float) -> str | None:
    """What is wrong with a span of a recording that lasts so long; one may end a little after it."""
    start, end = clip.start or 0, clip.end
    if (start < seconds or start == 0) and (end is None or end <= seconds + TOLERANCE):
        return None
    said = f"{seconds_text(start)} s to {'its end' if end is None else f'{seconds_text(end)} s'} of {seconds:.2f} s"
    latest = start if end is None else end
    return f"{said}; are these milliseconds?" if latest >= 100 and latest / 1000 <= seconds + TOLERANCE else said


class _Heard:
    """What is gathered of one clip while its file is read."""

    def __init__(self, clip: Clip, file: soundfile.SoundFile):
        self.clip = clip
        self.first, self.last = span_samples(clip.start, clip.end, file.samplerate)
        self.content = hashlib.sha256(f"{file.samplerate} {file.channels} ".encode())
        self.n, self.levels = 0, Levels()

    def take(self, block: np.ndarray, place: int) -> None:
        """What belongs to the clip of a block (n, channels) whose first sample is at `place` in the file."""
        part = block[max(0, self.first - place) : None if self.last is None else max(0, self.last - place)]
        if len(part):
            self.content.update(np.ascontiguousarray(part))
            self.n += len(part)
            self.levels.take(part.T)

    def recording(self, rate: int) -> Recording:
        """Of a clip all of whose samples were there."""
        seconds, digest = self.n / rate or None, self.content.hexdigest()
        if not self.levels.is_finite:
            return Recording(seconds, "not finite", digest=digest)
        if self.levels.peak == 0:
            return Recording(seconds, "silent", digest=digest)
        if self.levels.is_too_loud:
            return Recording(seconds, "too loud", f"its samples reach {self.levels.peak:.4g}", digest)
        return Recording(seconds, "cancelled" if self.levels.is_cancelled else None, digest=digest)


def _read_samples(file: soundfile.SoundFile, clips: list[Clip]) -> list[Recording]:
    heard = [_Heard(clip, file) for clip in clips]
    waiting = sorted(heard, key=lambda one: one.first)
    place, decodes = 0, True
    if file.seekable() and waiting[0].first and waiting[0].first < file.frames:
        place = file.seek(waiting[0].first)
    until = None if any(one.last is None for one in heard) else max(one.last for one in heard)
    active: list[_Heard] = []
    try:
        # `blocks` hides that a file is short, and does not read GSM 6.10
        while (until is None or place < until) and len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            while waiting and waiting[0].first < place + len(block):
                active.append(waiting.pop(0))
            for one in active:
                one.take(block, place)
            place += len(block)
            active = [one for one in active if one.last is None or one.last > place]
    except soundfile.LibsndfileError:
        decodes = False
    return [_answer(one, file, place, decodes) for one in heard]


def _answer(one: _Heard, file: soundfile.SoundFile, place: int, decodes: bool) -> Recording:
    """What is known of a clip of a file that was read up to `place`, there being no more to read or, unless it
    `decodes`, nothing that can be."""
    if not one.clip.span:
        return _answer_whole(one, file, decodes)
    is_cut = one.last is None or one.last > place
    if is_cut and not decodes:
        return Recording(None, "truncated", f"not all of its {file.frames:,} samples can be decoded")
    if fault := span_fault(one.clip, (place if is_cut else file.frames) / file.samplerate):
        return Recording(None, "span", fault)
    return one.recording(file.samplerate) if one.n else Recording(None, "empty", f"{one.clip.span} s")


def _answer_whole(one: _Heard, file: soundfile.SoundFile, decodes: bool) -> Recording:
    if not decodes:
        return Recording(None, "truncated", f"not all of its {file.frames:,} samples can be decoded")
    if one.levels.is_finite:
        seconds = one.n / file.samplerate or None
        if one.n < file.frames:
            return Recording(seconds, "truncated", f"{one.n:,} of {file.frames:,} samples")
        cut = _CUT_SHORT.search(file.extra_info)  # here `frames` are those that are there
        if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
            return Recording(seconds, "truncated", f"{int(cut[2]):,} of {int(cut[1]):,} bytes of samples")
    return one.recording(file.samplerate)
