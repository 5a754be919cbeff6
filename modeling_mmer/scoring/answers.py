"""The predictions of a row's windows → its result, and the columns that results have."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from ..model.configuration_mmer import MMERConfig
from ..model.pipeline_mmer import MMERPipeline
from ..model.waveforms import is_list, is_missing, is_number
from .reading import Reading

Row = dict[str, Any]
NOT_FINITE = "the model's output is not finite: its dtype may be too narrow, try float32"


def with_windows(schema: pa.Schema) -> pa.Schema:
    """The columns of results that have results over time."""
    return schema.append(pa.field("windows", pa.list_(pa.struct(list(schema)))))


def result_schema(config: MMERConfig, embedding: bool = False, transcribed: bool = False) -> pa.Schema:
    """The columns of results and their types, as `datasets`, Spark and Parquet take them.

    id, audio, text, speaker: as given; audio is null unless it is a path or a URL.
    start, end: the given span, in seconds.
    speech: whether there is speech; null without audio.
    modalities: those that were judged.
    seconds: length of the audio.
    emotion, sentiment: the likeliest label; null without speech and text, and below the least confidence.
    emotion_score, emotion_<label>, sentiment_<label>: probabilities.
    valence, arousal, dominance: on the scale of the model.
    embedding: z at CLS, with `embedding=True`.
    error: what is wrong with the row; empty if nothing is.
    """
    number, string = pa.float64(), pa.string()
    columns = {"id": string, "audio": string, "start": number, "end": number, "speaker": string, "text": string}
    columns |= {"text_source": string} if transcribed else {}
    columns |= {"speech": pa.bool_(), "modalities": pa.list_(string), "seconds": number}
    for task in config.tasks:
        if not task.is_class:
            columns[task.name] = number
            continue
        columns[task.name] = string
        columns |= {f"{task.name}_score": number} if task.name == "emotion" else {}
        columns |= {f"{task.name}_{label}": number for label in task.classes}
    columns |= {"embedding": pa.list_(pa.float32())} if embedding else {}
    return pa.schema({**columns, "error": string})


class Answerer:
    """Makes results of rows whose windows are answered.

    Args:
        pipe: the pipeline of the model.
        columns: the names of the columns of a result.
        min_confidence: an emotion or sentiment whose probability is lower is left out.
        with_windows: whether a result has `windows`, a list of results over time.
    """

    def __init__(self, pipe: MMERPipeline, columns: list[str], min_confidence: float, with_windows: bool):
        self.pipe, self.columns = pipe, columns
        self.min_confidence, self.with_windows = min_confidence, with_windows

    def result(self, reading: Reading) -> Row:
        """The result of a row, with all columns."""
        given, spans = reading.given, reading.spans
        row = {**dict.fromkeys(self.columns), **described(given), "error": reading.error, "modalities": []}
        if not reading.error and spans:
            row |= {"speech": any(speech for *_, speech in spans), "seconds": spans[-1][1]}
        if reading.answered:
            fields = self._fields(self.pipe.postprocess(reading.answered))
            if all(math.isfinite(value) for value in fields.values() if isinstance(value, float)):
                row |= fields
            else:
                row["error"] = NOT_FINITE
        if reading.answered and "embedding" in row:
            row["embedding"] = mean_embedding(reading.answered)
        if self.with_windows:
            row["windows"] = [] if row["error"] else self._over_time(row, reading)
        return row

    def _fields(self, output: dict[str, Any]) -> Row:
        """The output of the pipeline for a row or a window → columns."""
        fields = {"modalities": output["modalities"]}
        for task in self.pipe.model.config.tasks:
            of_task = output[task.name]
            if not task.is_class:
                fields[task.name] = of_task
                continue
            fields[task.name] = of_task["label"] if of_task["score"] >= self.min_confidence else None
            fields |= {f"{task.name}_{label}": score for label, score in of_task["scores"].items()}
            fields[f"{task.name}_score"] = of_task["score"]
        return {name: value for name, value in fields.items() if name in self.columns}

    def _over_time(self, row: Row, reading: Reading) -> list[Row]:
        """A result for each window with audio. Text without timestamps belongs to the whole row, so that windows are
        then judged by audio only."""
        output = self.pipe.postprocess(reading.answered, return_timestamps=True) if reading.answered else {}
        heard = {chunk["timestamp"]: chunk for chunk in output.get("chunks", ())}
        windows = {(window["start"], window["stop"]): window for window in reading.answered}
        offset, results = given_time(reading.given, "start") or 0.0, []
        for start, stop, speech in reading.spans:
            window, chunk = windows.get((start, stop)), heard.get((start, stop))
            if window is not None and window["timed"] and not speech:  # judged by its text alone
                chunk = self.pipe.postprocess([window])
            of_window = {"start": offset + start, "end": offset + stop, "seconds": stop - start, "speech": speech}
            text = window["text"] if window is not None and window["timed"] else None
            empty = dict.fromkeys(self.columns) | {name: row[name] for name in ("id", "audio", "speaker")}
            empty |= {"text_source": row["text_source"]} if "text_source" in row and text else {}
            of_window |= {"text": text, "modalities": [], "error": ""} | ({} if chunk is None else self._fields(chunk))
            if window is not None and "embedding" in row:
                of_window["embedding"] = mean_embedding([window])
            results.append({**empty, **of_window})
        return results


def described(given: Row) -> Row:
    """What a result repeats of its row."""
    audio, text = given.get("audio"), given.get("text")
    audio = audio.get("path") if isinstance(audio, dict) else audio
    if is_list(text) or isinstance(text, np.ndarray):
        words = [segment.get("text") for segment in text if isinstance(segment, dict)]
        text = " ".join(word.strip() for word in words if isinstance(word, str) and word.strip())
    texts = {name: given.get(name) for name in ("id", "speaker", "text_source") if name in given}
    row = {name: None if is_missing(value) else str(value) for name, value in texts.items()}
    row["audio"] = str(audio) if is_path(audio) else None
    row["text"] = text if isinstance(text, str) and text else None
    return row | {name: given_time(given, name) for name in ("start", "end")}


def is_path(audio: Any) -> bool:
    """Whether this is a path or a URL, and not the recording itself, such as base64."""
    return (isinstance(audio, str) and len(audio) < 4096 and not audio.startswith("data:")) or hasattr(
        audio, "__fspath__"
    )


def given_time(given: Row, name: str) -> float | None:
    time = given.get(name)
    return float(time) if not is_missing(time) and is_number(time) and math.isfinite(time) else None


def mean_embedding(windows: list[dict[str, Any]]) -> list[float]:
    """The mean z of windows, weighted by the seconds that each covers."""
    seconds = np.array([window["stop"] - window["start"] for window in windows])
    vectors = np.stack([window["z"][0].numpy() for window in windows])
    return np.average(vectors, axis=0, weights=seconds if seconds.sum() > 0 else None).astype(np.float32).tolist()
