"""Recordings without text → their transcript, with the times of its words where a recording is cut into windows."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from ..features.transcription import WINDOW, load_recogniser, recognise
from ..model.hub_names import commit_of
from ..model.pipeline_inputs import InputReader
from ..model.waveforms import is_missing
from .reading import Row, read_ahead, reason, windows_of

PIECE = 300.0  # seconds that are in memory at once
SEARCH, QUIET = (
    10.0,
    0.1,
)  # seconds: at the end of what a recogniser hears, so much is searched for a pause of this length


@dataclass
class Heard:
    """A row, and the pieces of its recording if it is to be transcribed: (samples, where they begin, from where on
    words count), in samples."""

    row: Row
    pieces: Iterator[tuple[np.ndarray, int, int]] | None = None
    is_short: bool = False


class Transcriber:
    """Fills in the text of rows that have a recording alone.

    Args:
        model: an `automatic-speech-recognition` checkpoint, a hub name or a folder.
        reader: of the pipeline.
        seconds: recordings up to this length are judged as a whole, so that their words need no times.
        batch_size: the number of recordings that are transcribed at once.
        has_speech: whether samples (n,) at a rate have speech; recognisers put words into silence. None: not examined.

    Raises:
        OSError, ValueError: there is no such model, or it is not a speech recogniser.
    """

    def __init__(
        self,
        model: str,
        device: torch.device,
        reader: InputReader,
        seconds: float,
        batch_size: int,
        has_speech: Callable[[np.ndarray, int], bool] | None,
    ):
        self.recogniser = load_recogniser(model, commit_of(model), device)
        self.rate = self.recogniser.feature_extractor.sampling_rate
        if self.rate != reader.processor.feature_extractor.sampling_rate:
            raise ValueError(f"{model} takes {self.rate} Hz and the model to be used with it another rate.")
        self.reader = InputReader(reader.processor, None)
        self.seconds, self.batch_size, self.has_speech = seconds, batch_size, has_speech

    def fill(self, rows: Iterable[Row], pool: ThreadPoolExecutor) -> Iterator[Row]:
        """Rows in order, with `text` and `text_source`: `asr` if the text was heard. What cannot be read stays as it
        is. A row at which the recogniser fails has a `fault`."""
        heard = read_ahead(pool, self._hear, rows)
        while group := list(islice(heard, self.batch_size)):
            short = [one for one in group if one.is_short]
            texts = dict(zip(map(id, short), self._short_texts(short), strict=True))
            for one in group:
                if one.pieces is None:
                    yield {"text_source": None if is_missing(one.row.get("text")) else "reference", **one.row}
                else:
                    yield one.row | (texts[id(one)] if one.is_short else self._timed(one))

    def _hear(self, row: Row) -> Heard:
        has_text = isinstance(text := row.get("text"), str) and text.strip() or isinstance(text, list | np.ndarray)
        if has_text or is_missing(row.get("audio")):
            return Heard(row)
        try:
            pieces = self._pieces(row)
            first = next(pieces)
            second = list(islice(pieces, 1))
        except Exception:  # judging the row will say why
            return Heard(row)
        is_short = not second and len(first[0]) <= self.seconds * self.rate
        return Heard(row, chain([first], second, pieces), is_short)

    def _pieces(self, row: Row) -> Iterator[tuple[np.ndarray, int, int]]:
        for window in windows_of(self.reader, 0, {**row, "text": None}, PIECE):
            stop = round(window["stop"] * self.rate)
            yield window["audio"], max(0, stop - len(window["audio"])), round(window["start"] * self.rate)

    def _has_speech(self, samples: np.ndarray) -> bool:
        return self.has_speech is None or self.has_speech(samples, self.rate)

    def _short_texts(self, heard: list[Heard]) -> list[Row]:
        """The text of recordings of one piece; in one batch unless that fails."""
        waveforms = [next(one.pieces)[0] for one in heard]
        spoken = [i for i, samples in enumerate(waveforms) if self._has_speech(samples)]
        filled = [_as_text(None)] * len(heard)
        try:
            texts = recognise(self.recogniser, [waveforms[i] for i in spoken])
        except Exception as error:  # for example out of memory
            if len(heard) > 1:
                return [text for i, one in enumerate(heard) for text in self._again(one, waveforms[i])]
            return [{"fault": f"it cannot be transcribed: {reason(error)}"}]
        for i, text in zip(spoken, texts, strict=True):
            filled[i] = _as_text(text)
        return filled

    def _again(self, one: Heard, samples: np.ndarray) -> list[Row]:
        return self._short_texts([Heard(one.row, iter([(samples, 0, 0)]), True)])

    def _timed(self, one: Heard) -> Row:
        """The words of a recording of any length, with their times."""
        words: list[dict[str, Any]] = []
        try:
            for samples, begin, counts in one.pieces:
                words += self._words(samples, begin, counts)
        except Exception as error:  # for example out of memory
            return {"fault": f"it cannot be transcribed: {reason(error)}"}
        return _as_text(words)

    def _words(self, samples: np.ndarray, begin: int, counts: int) -> Iterator[dict[str, Any]]:
        """The words of a piece that begins at `begin`, from `counts` on; segments if the recogniser times no words."""
        recogniser, options = self.recogniser, {"return_timestamps": "word", "batch_size": self.batch_size}
        if recogniser.type == "seq2seq_whisper":
            options["generate_kwargs"] = {"do_sample": False}
            if getattr(recogniser.model.generation_config, "alignment_heads", None) is None:
                options["return_timestamps"] = True
        spans = [span for span in quiet_parts(samples, self.rate) if self._has_speech(samples[slice(*span)])]
        outputs = recogniser([samples[slice(*span)] for span in spans], **options)
        for (first, _), output in zip(spans, outputs, strict=True):
            offset = (begin + first) / self.rate
            for word in output["chunks"]:
                start, end = (None if time is None else offset + time for time in word["timestamp"])
                if word["text"].strip() and (start is None or start >= counts / self.rate or begin == counts):
                    yield {"text": word["text"].strip(), "timestamp": (start, end)}


def quiet_parts(samples: np.ndarray, rate: int) -> Iterator[tuple[int, int]]:
    """Parts (start, stop) of a recording (N,) that a recogniser hears at once, each cut off where it is quietest.

    Overlapping windows, whose words are joined, took longer and had more errors (20.3 against 17.9 % of the words of
    ten sentences of `spoken`), and Whisper's own way through long audio needs much memory.
    """
    start, size = 0, round(QUIET * rate)
    while len(samples) - start > WINDOW * rate:
        last = start + WINDOW * rate
        first = last - round(SEARCH * rate) // size * size
        stop = first + size * int(np.square(samples[first:last]).reshape(-1, size).sum(axis=1).argmin()) + size // 2
        yield start, stop
        start = stop
    yield start, len(samples)


def _as_text(text: str | list | None) -> Row:
    return {"text": text or None, "text_source": "asr" if text else None}
