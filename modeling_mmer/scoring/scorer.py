"""Scorer: columns with recordings and texts → columns with emotions, and an error where a row cannot be judged."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..features.lengths import FRAMES_PER_SECOND, rough_length
from .answers import Answerer, Row, result_schema, with_windows
from .batches import LEAST_PADDING, PADDING, batches_of_like_length
from .models import CHECKPOINT, load_pipeline, model_commit, model_name
from .reading import Reading, RowReader, Window, read_ahead
from .speech import DETECTORS, has_speech
from .transcripts import Transcriber

BATCHES_AT_ONCE = 8  # windows of so many batches are sorted by length
MOST_SECONDS = 1200.0  # of audio that waits for the model
MOST_WORKERS = 8
OFF = "off"


class Scorer:
    """Judges rows of columns. It builds itself from a name and options, and pickles as these.

    ```python
    scorer = Scorer("runs/demo")
    scorer({"audio": ["call.wav", None], "text": [None, "I am so glad."]})["emotion"]
    ```

    A row that cannot be judged has an `error`, and nothing is raised. Rows may come in any order and have any length:
    windows of like length are batched, and files are read by threads ahead of the model.

    Args:
        model: a folder or a hub name; by default the model that comes with the package.
        revision: branch, tag or commit of a hub name.
        speech: what detects speech, `energy` or `silero`; `off`: all audio is taken for speech. Without speech a row is
            judged by its text alone, and without text not at all.
        transcribe: a speech recogniser, a folder or a hub name, that gives recordings without text their text.
        windows: seconds; if given, results also have `windows`, a list of results over time, one for each window of
            this length. Recordings are then cut into these, and otherwise into windows of the audio encoder's length,
            for which 0 stands.
        embedding: whether results have an `embedding` (d,): z at CLS.
        min_confidence: an emotion or sentiment whose probability is lower is left out; its probabilities remain.
        batch_size: the most windows that are judged at once.
        dtype: of the encoders, `float32`, `bfloat16` or `float16`, all else in float32; `auto`: bfloat16 where the
            device has it in hardware, otherwise float32; `checkpoint`: the whole model in that of its weights.
        device: as of a pipeline; by default an accelerator if there is one.
        num_workers: threads that read and decode; by default as many as there are cores, at most 8.

    Raises:
        OSError: the model does not exist, or cannot be loaded.
        ValueError: it is not an MMER model, or an option is invalid.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        revision: str | None = None,
        speech: str = "energy",
        transcribe: str | None = None,
        windows: float | None = None,
        embedding: bool = False,
        min_confidence: float = 0.0,
        batch_size: int = 8,
        dtype: str = CHECKPOINT,
        device: str | int | None = None,
        num_workers: int | None = None,
    ):
        self.model = model
        self.options = {
            **{"revision": revision, "speech": speech, "transcribe": transcribe, "windows": windows},
            **{"embedding": embedding, "min_confidence": min_confidence, "batch_size": batch_size},
            **{"dtype": dtype, "device": device, "num_workers": num_workers},
        }
        check_options(speech, windows, min_confidence, batch_size, num_workers)
        name = model_name(model)
        self.pipe = load_pipeline(name, model_commit(name, revision), dtype, device)
        self.config = self.pipe.model.config
        of_rows = result_schema(self.config, embedding, transcribe is not None)
        self.schema: pa.Schema = of_rows if windows is None else with_windows(of_rows)
        self.batch_size = batch_size
        self.num_workers = num_workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self._forward = partial(self.pipe.forward, return_combinations=windows is not None, return_z=embedding)
        reader, hears = self.pipe.input_reader(), None if speech == OFF else partial(has_speech, detector=speech)
        self._reader = RowReader(reader, windows or None, hears)
        self._transcriber = None
        if transcribe is not None:
            seconds = windows or reader.chunk_seconds
            self._transcriber = Transcriber(transcribe, self.pipe.device, reader, seconds, batch_size, hears)
        self._answerer = Answerer(self.pipe, of_rows.names, min_confidence, windows is not None)
        self._padding = LEAST_PADDING.get(self.pipe.device.type, PADDING)

    def __reduce__(self):
        return _build, (type(self), self.model, self.options)

    def __call__(self, columns: Mapping[str, Iterable[Any]]) -> dict[str, list]:
        """Judge N rows.

        Args:
            columns: `audio` (anything that [`MMERProcessor`] takes as a recording), `text` (a string, or segments with
                timestamps), or both, None where missing; optionally `id`, `start` and `end` (seconds), `channel` (from
                0), `speaker` and `sampling_rate`. Other columns are ignored.

        Returns:
            The columns of `schema`, N values each: those of [`result_schema`], and `windows` if asked for.

        Raises:
            ValueError: the columns differ in length.
        """
        lists = {name: list(columns[name]) for name in columns}
        sizes = {name: len(values) for name, values in lists.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"The columns differ in length: {', '.join(f'{n} has {k}' for n, k in sizes.items())}.")
        rows = (dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True))
        results = list(self.stream(rows))
        return {name: [result[name] for result in results] for name in self.schema.names}

    def stream(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
        """Judge rows one after the other: the result of each, in order. Memory does not grow with their number.

        Files are read while the model runs. A row's result comes once those before it are there.
        """
        waiting: deque[Reading] = deque()
        bucket: list[tuple[Reading, Window]] = []
        with ThreadPoolExecutor(self.num_workers, "mmer-read") as pool:
            rows = rows if self._transcriber is None else self._transcriber.fill(rows, pool)
            for reading in read_ahead(pool, self._reader.begin, enumerate(rows)):
                waiting.append(reading)
                for window in reading.next_windows():
                    reading.pending += 1
                    bucket.append((reading, window))
                    if self._is_full(bucket):
                        self._judge(bucket)
                        bucket = []
                while waiting and waiting[0].is_done:
                    yield self._answerer.result(waiting.popleft())
            self._judge(bucket)
            yield from map(self._answerer.result, waiting)

    def _is_full(self, bucket: list[tuple[Reading, Window]]) -> bool:
        seconds = sum(window["stop"] - window["start"] for _, window in bucket)
        return len(bucket) >= BATCHES_AT_ONCE * self.batch_size or seconds >= MOST_SECONDS

    def _judge(self, bucket: list[tuple[Reading, Window]]) -> None:
        """Run the model on windows in batches of like length, and hand its predictions to their rows, in order."""
        sizes = [self._size(window) for _, window in bucket]
        answers: dict[int, Window] = {}
        for batch in batches_of_like_length(sizes, self.batch_size, self._padding):
            answers |= self._forward_batch(bucket, batch)
        for i, (reading, _) in enumerate(bucket):
            reading.pending -= 1
            if i in answers and not reading.error:
                reading.answered.append(answers[i])

    def _size(self, window: Window) -> tuple[int, int]:
        """Frames that the audio encoder runs on, and tokens."""
        frames = tokens = 0
        if window["audio"] is not None:
            seconds = len(window["audio"]) / self._reader.rate
            if self.config.audio_context == "full" and self.pipe.processor.reads_spectrograms:
                seconds = self.pipe.processor.window_seconds  # to which the encoder pads all
            frames = max(1, round(seconds * FRAMES_PER_SECOND))
        if window["text"] is not None:
            tokens = rough_length("text", window["text"])
        return frames, tokens

    def _forward_batch(self, bucket: list[tuple[Reading, Window]], batch: list[int]) -> dict[int, Window]:
        """The answered windows of a batch. If it fails, its windows are tried one by one, and rows whose own window
        fails have an error."""
        windows = [bucket[i][1] for i in batch]
        try:
            answers = self._forward({name: [window[name] for window in windows] for name in windows[0]})
        except Exception as error:  # for example out of memory
            if len(batch) > 1:
                return {i: answer for one in batch for i, answer in self._forward_batch(bucket, [one]).items()}
            bucket[batch[0]][0].fail(error)
            return {}
        return {i: _answered(bucket[i][1], answers, k) for k, i in enumerate(batch)}


def _answered(window: Window, answers: Mapping[str, Any], place: int) -> Window:
    """A window without its samples, with its predictions: those at one place of a batch."""
    own = {n: v[place : place + 1] if isinstance(v, torch.Tensor) else v[place] for n, v in answers.items()}
    return {name: value for name, value in window.items() if name != "audio"} | own


def check_options(speech, windows, min_confidence, batch_size, num_workers) -> None:
    """Raise a ValueError for an option that no model could follow."""
    if speech not in (*DETECTORS, OFF):
        raise ValueError(f"speech must be {', '.join(DETECTORS)} or {OFF}, not {speech!r}.")
    if windows is not None and not (isinstance(windows, int | float) and 0 <= windows < np.inf):
        raise ValueError(f"windows must be a number of seconds, not {windows!r}.")
    if not (isinstance(min_confidence, int | float) and 0 <= min_confidence <= 1):
        raise ValueError(f"min_confidence must be a probability from 0 to 1, not {min_confidence!r}.")
    if not (isinstance(batch_size, int) and batch_size >= 1):
        raise ValueError(f"batch_size must be a whole number of at least 1, not {batch_size!r}.")
    if num_workers is not None and not (isinstance(num_workers, int) and num_workers >= 1):
        raise ValueError(f"num_workers must be a whole number of at least 1, not {num_workers!r}.")


def _build(scorer_class: type[Scorer], model: str | None, options: dict[str, Any]) -> Scorer:
    return scorer_class(model, **options)
