"""Rows → windows of samples, each with its text, read by threads ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from ..model.pipeline_inputs import InputReader, NumberedInput
from ..model.waveforms import is_missing

INPUT = ("audio", "text", "start", "end", "sampling_rate", "channel")  # of a row: what is judged
AT_ONCE = 4  # windows of a recording that a thread reads ahead; the rest of a long recording is read when it is needed
ROWS_AHEAD = 16

Given, Made = TypeVar("Given"), TypeVar("Made")
Row = dict[str, Any]
Window = dict[str, Any]


@dataclass
class Reading:
    """A row on its way to its result.

    given: the row.
    others: the modalities of the model besides audio and text.
    windows: the windows that are not read yet.
    pending: the number of windows that wait for the model.
    answered: the windows with their predictions.
    spans: (start, stop, whether there is speech) of each window with audio, in seconds from the start of the row.
    error: what is wrong with the row; empty if nothing is.
    """

    given: Row
    others: tuple[str, ...] = ()
    windows: Iterator[Window] = field(default_factory=lambda: iter(()))
    pending: int = 0
    answered: list[Window] = field(default_factory=list)
    spans: list[tuple[float, float, bool]] = field(default_factory=list)
    error: str = ""
    is_read: bool = False

    @property
    def is_done(self) -> bool:
        return self.is_read and not self.pending

    def fail(self, error: Exception) -> None:
        """Give up: the row has an error, and nothing of it is judged."""
        self.error, self.is_read = reason(error), True
        self.windows, self.answered = iter(()), []

    def next_windows(self) -> Iterator[Window]:
        """The windows that are to be judged. An error ends them and is noted."""
        try:
            for window in self.windows:
                if self.error:  # an earlier window failed in the model
                    return
                if window["audio"] is not None:
                    self.spans.append((window["start"], window["stop"], window["speech"]))
                    if not window["speech"]:
                        window["audio"] = None
                if any(window[modality] is not None for modality in ("audio", "text", *self.others)):
                    yield window
        except Exception as error:  # decoders raise many kinds
            self.fail(error)
        self.is_read = True


class RowReader:
    """Reads rows as windows.

    Args:
        reader: of the pipeline.
        seconds: length of a window; default and maximum: that of the audio encoder.
        has_speech: whether samples (n,) at a rate have speech; None: it is not examined.
    """

    def __init__(
        self, reader: InputReader, seconds: float | None, has_speech: Callable[[np.ndarray, int], bool] | None
    ):
        self.reader, self.seconds, self.has_speech = reader, seconds, has_speech
        self.rate = reader.processor.feature_extractor.sampling_rate

    def begin(self, numbered: tuple[int, Row]) -> Reading:
        """Read the first windows of a row. What is wrong with the row is noted in it, and never raised."""
        number, row = numbered
        if fault := row.get("fault"):
            return Reading(row, error=fault, is_read=True)
        reading = Reading(row, self.reader.others)
        try:
            windows = self._windows(number, row)
            reading.windows = chain(list(islice(windows, AT_ONCE)), windows)
        except Exception as error:  # decoders raise many kinds
            reading.fail(error)
        return reading

    def _windows(self, number: int, row: Row) -> Iterator[Window]:
        for window in windows_of(self.reader, number, row, self.seconds):
            examined = window["audio"] is not None and self.has_speech is not None
            yield {**window, "speech": self.has_speech(window["audio"], self.rate) if examined else True}


def windows_of(reader: InputReader, number: int, row: Row, seconds: float | None) -> Iterator[Window]:
    """The windows of a row, of this length.

    Raises:
        ValueError: the row cannot be read; the message has its number.
    """
    sample = {name: row.get(name) for name in (*INPUT, *reader.others)}
    if isinstance(sample["text"], np.ndarray):  # segments, as they come out of Arrow and pandas
        sample["text"] = sample["text"].tolist()
    sample = {name: None if is_missing(value) else value for name, value in sample.items()}
    return reader.read(NumberedInput(number, sample, is_row=True), chunk_length_s=seconds)


def read_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Given], Made], items: Iterable[Given], ahead: int = ROWS_AHEAD
) -> Iterator[Made]:
    """`map(function, items)`, computed by threads at most `ahead` items before they are needed."""
    items, waiting = iter(items), deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def reason(error: BaseException) -> str:
    """What is wrong, as one line: the pipeline's message without the number of the input."""
    if isinstance(error, ValueError) and isinstance(error.__cause__, ValueError):
        error = error.__cause__
    message = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError | ImportError) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
