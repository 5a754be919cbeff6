"""Inputs of the pipeline → windows of samples, each with its text.

An [`InputReader`] has no model, so that it can be sent to a worker process.
"""

import functools
import math
import multiprocessing
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, IterableDataset
from transformers.utils import logging

from .processing_mmer import states_of_vectors
from .timed_text import SEGMENT_FORM, Segment, read_segments, text_within
from .waveforms import is_list, is_list_of_recordings, is_missing, is_number, plain, with_span
from .windows import Window, cut_windows, in_blocks, long_file, read_channels, stream_file

logger = logging.get_logger(__name__)

DEFAULT_CHUNK_SECONDS = 30.0  # for encoders without a maximum length
# Of an input; any further modality has a key of its name.
KEYS = ("audio", "text", "sampling_rate", "start", "end", "channel")
TEXT_FORMS = f'a string, a list of {SEGMENT_FORM} or, with channels="split", a list with one of these per channel'


# ── which inputs there are ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class NumberedInput:
    """An input and its number, which error messages refer to.

    is_row: of a data set, which may have further columns.
    """

    number: int
    sample: Any
    is_row: bool = False


class NumberedRows(Dataset):
    """The rows of a data set as numbered inputs."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self) -> Iterator[NumberedInput]:
        return (NumberedInput(number, self.rows[number], True) for number in range(len(self.rows)))


def number_inputs(inputs, num_workers: int):
    """Number the inputs: one input, a list, a data set or a generator.

    Raises:
        ValueError: the inputs cannot be sent to a worker process, but `num_workers` requires it.
    """
    if isinstance(inputs, (list, tuple)):
        return [NumberedInput(number, sample) for number, sample in enumerate(inputs)]
    of_library = hasattr(inputs, "column_names") and not isinstance(inputs, dict)  # `datasets`, which is not imported
    are_rows = isinstance(inputs, Dataset) or of_library
    if are_rows:
        if hasattr(inputs, "__len__") and not isinstance(inputs, IterableDataset):
            return NumberedRows(inputs)
    elif not isinstance(inputs, types.GeneratorType):
        return NumberedInput(0, inputs)
    if num_workers > 0 and multiprocessing.get_context().get_start_method() != "fork":
        raise ValueError(
            f"num_workers={num_workers} starts a process, but a {type(inputs).__name__} cannot be sent to it: give a "
            "list or a data set with a length, or leave out num_workers."
        )
    return (NumberedInput(number, sample, are_rows) for number, sample in enumerate(inputs))


def separate_inputs(audio=None, text=None, sampling_rate: int | None = None):
    """`pipe(audio=…, text=…)` → one input, or a list of inputs where a list of recordings or of texts is given.

    A list that [`MMERProcessor`] accepts as one recording, such as a list of numbers, is one recording. A list of
    segments is one text. With one recording, a list of texts has one text per channel.

    Raises:
        ValueError: the lists differ in length, or only one of the two is a list.
    """
    if not is_list_of_recordings(audio) and not (audio is None and _is_list_of_texts(text)):
        return _as_input(audio, text, sampling_rate)
    lists = {name: value for name, value in (("audio", audio), ("text", text)) if value is not None}
    sizes = {name: len(value) if isinstance(value, (list, tuple)) else "one" for name, value in lists.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"audio has {sizes['audio']} entries and text has {sizes['text']}: give one of each per input, None if it "
            "is missing."
        )
    rows = zip(*lists.values(), strict=True)
    return [_as_input(**dict(zip(lists, row, strict=True)), sampling_rate=sampling_rate) for row in rows]


def _as_input(audio=None, text=None, sampling_rate=None) -> dict[str, Any]:
    return {"audio": audio, "text": text} | ({} if sampling_rate is None else {"sampling_rate": sampling_rate})


def _is_list_of_texts(text) -> bool:
    """Whether this is a list of texts. A list of segments is one text."""
    return isinstance(text, (list, tuple)) and not (len(text) > 0 and isinstance(text[0], dict))


# ── input → windows ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class InputReader:
    """Cuts inputs, read by the `processor`, into windows of at most `longest` samples (None: no maximum).

    others: further modalities, whose vectors (T, D) belong to the whole input.
    """

    processor: Any
    longest: int | None
    others: tuple[str, ...] = ()

    @property
    def chunk_seconds(self) -> float:
        """The length of a window in seconds, where no other is asked for."""
        return self._chunk_and_stride(None, 0.0)[0] / self.processor.feature_extractor.sampling_rate

    def read(
        self, numbered: NumberedInput, chunk_length_s=None, stride_length_s=0.0, channels="mix"
    ) -> Iterator[dict[str, Any]]:
        """One input → its windows, each a dict.

        Raises:
            ValueError: the input cannot be read, or an argument is invalid. The message has the number of the input.
        """
        number, sample = numbered.number, numbered.sample
        try:
            audio, text, rate, others = self._read_input(sample, numbered.is_row)
            warn = functools.partial(_warn, number, sample)
            chunk, stride = self._chunk_and_stride(chunk_length_s, stride_length_s)
            split = channels == "split" and audio is not None
            audio, channel = self._one_channel(audio, rate, None if split else sample.get("channel"))
            speakers = self._speakers(audio, text, rate) if split else [(audio, text, channel)]
            items = (
                {
                    **{"audio": window and window.samples, **others, "speaker": speaker},
                    **self._place(window, text, is_last, warn),
                }
                for speaker, (recording, spoken, channel) in enumerate(speakers)
                for text in [read_segments(spoken) if is_list(spoken) else spoken]
                for window, is_last in _mark_last(self._windows(recording, rate, channel, chunk, stride, warn))
            )
            for item, is_last in _mark_last(items):
                yield {**item, "split": split, "is_last": is_last}
        except ValueError as error:
            raise ValueError(f"Input {number}{_file_name(sample)}: {error}") from error

    def _read_input(self, sample, is_row: bool) -> tuple[Any, str | list | None, int | None, dict[str, Any]]:
        known = {*KEYS, *self.others}
        if isinstance(sample, dict) and not is_row and (unknown := [key for key in sample if key not in known]):
            raise ValueError(
                f'it has {", ".join(map(repr, unknown))}, which no input has: give a dict with "audio", "text" or '
                'both, and beside them "sampling_rate", "start", "end" and "channel" where they are needed.'
            )
        if not isinstance(sample, dict) or not {"audio", "text", *self.others} & sample.keys():
            raise ValueError('give a dict with "audio", "text" or both.')
        audio, text = sample.get("audio"), sample.get("text")
        if is_list_of_recordings(audio):
            raise ValueError("audio is a list of recordings; give a list of inputs with one recording each.")
        audio = plain(with_span(audio, sample.get("start"), sample.get("end")))
        if isinstance(text, str) or is_missing(text):
            text = text if isinstance(text, str) and text.strip() else None
        elif not is_list(text):
            raise ValueError(f"text cannot be a {type(text).__name__}; give {TEXT_FORMS}.")
        others = {name: states_of_vectors(sample.get(name), name) for name in self.others}
        if audio is None and not text and all(vectors is None for vectors in others.values()):
            raise ValueError(f"it has neither {' nor '.join(['audio', 'text', *others])}; give at least one.")
        return audio, text or None, sample.get("sampling_rate"), others

    def _one_channel(self, audio, rate: int | None, channel: int | None) -> tuple[Any, int | None]:
        """(recording, channel number) for hearing one channel. The number is None if the recording is one channel."""
        if audio is None or is_missing(channel):
            return audio, None
        found = read_channels(audio, rate, fewest=1)
        if not (is_number(channel) and channel in range(len(found))):
            raise ValueError(f"there is no channel {channel}: the recording has {len(found)}, counted from 0.")
        chosen = found[int(channel)]
        return (audio, chosen) if isinstance(chosen, int) else (chosen, None)

    def _speakers(self, audio, text, rate) -> list[tuple[Any, Any, int | None]]:
        """(recording, text, channel number) of each speaker. The number is None if the recording is one channel."""
        found = read_channels(audio, rate)
        texts = text if text is not None else [None] * len(found)
        one_each = is_list(texts) and not any(isinstance(t, dict) for t in texts)
        if not one_each or len(texts) != len(found):
            raise ValueError(f'channels="split" needs a list of {len(found)} texts, one per channel, or no text.')
        texts = [None if is_missing(spoken) else spoken for spoken in texts]
        return [
            (audio, spoken, channel) if isinstance(channel, int) else (channel, spoken, None)
            for channel, spoken in zip(found, texts, strict=True)
        ]

    def _windows(self, audio, rate, channel, chunk: int, stride: int, warn) -> Iterator[Window | None]:
        """The windows of a recording, or None for an input without one."""
        if audio is None:
            return iter([None])
        own_rate = self.processor.feature_extractor.sampling_rate
        if channel is not None or long_file(audio, chunk / own_rate):
            return self._checked(cut_windows(stream_file(audio, own_rate, channel, warn), chunk, stride))
        return cut_windows(in_blocks(self.processor.read_audio(audio, rate, warn), chunk), chunk, stride)

    def _checked(self, windows: Iterator[Window]) -> Iterator[Window]:
        """The windows of a stream, with the checks that the processor makes on whole recordings."""
        rate = self.processor.feature_extractor.sampling_rate
        for window in windows:
            try:
                self.processor.read_audio(window.samples, warn=lambda message: None)  # the whole stream warns
            except ValueError as error:
                raise ValueError(f"from {window.start / rate:g} s to {window.stop / rate:g} s, {error}") from error
            yield window

    def _place(self, window: Window | None, text: str | list[Segment] | None, is_last: bool, warn) -> dict[str, Any]:
        """The span of a window in seconds, and its text: the whole text, or the segments in the span.

        `timed` is False if the text is that of the whole recording.
        """
        rate = self.processor.feature_extractor.sampling_rate
        start, stop = (0.0, 0.0) if window is None else (window.start / rate, window.stop / rate)
        timed = not isinstance(text, str)
        if timed and text is not None:
            text = text_within(text, start, stop, is_last)
        if self.processor.count_cut_texts([text]):
            limit = self.processor.tokenizer.model_max_length
            warn(f"a text was cut to {limit} tokens; with timestamps, each window of the audio gets its own part")
        return {"text": text or None, "timed": timed, "start": start, "stop": stop}

    def _chunk_and_stride(self, chunk_length_s: float | None, stride_length_s: float) -> tuple[int, int]:
        """Window length and stride in samples.

        Raises:
            ValueError: the window is longer than that of the encoder, or not longer than both strides.
        """
        rate, longest = self.processor.feature_extractor.sampling_rate, self.longest
        for name, seconds in (("chunk_length_s", chunk_length_s), ("stride_length_s", stride_length_s)):
            if seconds is not None and not (is_number(seconds) and math.isfinite(seconds)):
                raise ValueError(f"{name} must be a number of seconds, not {seconds!r}.")
        chunk = longest or round(DEFAULT_CHUNK_SECONDS * rate)
        if chunk_length_s is not None:
            chunk = round(chunk_length_s * rate)
        if longest is not None and chunk > longest:
            raise ValueError(
                f"chunk_length_s is {chunk_length_s}, but the audio encoder takes at most {longest / rate:g} s."
            )
        stride = round(stride_length_s * rate)
        if chunk < 1 or stride < 0 or 2 * stride >= chunk:
            raise ValueError(
                f"chunk_length_s ({chunk / rate:g}) must be greater than 0 and than twice stride_length_s "
                f"({stride_length_s:g}), which must not be negative."
            )
        return chunk, stride


def _file_name(sample) -> str:
    audio = sample.get("audio") if isinstance(sample, dict) else None
    audio = audio.get("path") if isinstance(audio, dict) else audio
    return f" ({audio})" if isinstance(audio, (str, os.PathLike)) and len(str(audio)) < 300 else ""


def _mark_last(items: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Each item, and whether it is the last."""
    previous = next(items)
    for item in items:
        yield previous, False
        previous = item
    yield previous, True


def _warn(number: int, sample, message: str) -> None:
    logger.warning(f"Input {number}{_file_name(sample)}: {message}.")
