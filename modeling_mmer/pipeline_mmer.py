"""Raw audio, text or both → emotion, sentiment and dimensions: the pipeline `multimodal-emotion-recognition`.

Recordings beyond the encoder's window are judged window by window (`windows.py`), and come back as a whole: the
probabilities and dimensions of the windows are averaged, each weighing the seconds that it answers for.

This file travels with checkpoints: it imports only torch, transformers and numpy, and no model class.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .windows import Window, cut_windows, in_blocks, long_file, read_channels, stream_file

logger = logging.get_logger(__name__)

DEFAULT_CHUNK_SECONDS = 30.0  # of encoders without a window of their own
CHANNELS = ("mix", "split")
TEXT_FORMS = (
    'a string, a list of {"text", "timestamp": (start, end)} or, with channels="split", a list with one of these per '
    "channel"
)
CLASS_FIELDS = {"emotion": "logits", "sentiment": "sentiment_logits"}


class MMERPipeline(ChunkPipeline):
    """Emotion of utterances given as audio, text or both.

    ```python
    pipe = pipeline("multimodal-emotion-recognition", model=name, trust_remote_code=True)
    pipe({"audio": "call.wav", "text": "I want my money back."})
    ```

    Takes one input, a list, a generator or a `datasets.Dataset`. An input is a dict with `audio` (any form that
    [`MMERProcessor`] takes; bare arrays may say their `sampling_rate` beside it), `text`, or both; None is missing.
    Text is a string, or, with places in time, a list of `{"text", "timestamp": (start, end)}` in seconds, as speech
    recognition gives it. Beside the arguments of every pipeline (`batch_size`, `device`, `dtype`, `num_workers`):

    Args:
        top_k: how many labels `scores` holds, the likeliest first; all by default.
        return_timestamps: also give `chunks`, the judgements over time.
        chunk_length_s: seconds of a window; by default, and at most, the window of the audio encoder.
        stride_length_s: seconds by which a window reaches beyond the span that it answers for, on each side.
        channels: `mix` averages the channels; `split` judges each alone, one speaker a channel.

    Returns:
        For each input `{"emotion": {"label", "score", "scores"}, "sentiment": {…}, "valence", "arousal", "dominance",
        "modalities"}`: scores are label → probability, dimensions are on the scale of `config.label_scale`, and
        modalities are those that were there. With `return_timestamps=True` also `chunks`, a list of the same with
        `timestamp: (start, end)`, without gaps, and empty where there is no audio. A chunk's text is what its
        timestamps place there; text without them belongs to the whole, and the chunks are then judged by audio alone.
        With `channels="split"` `{"channels": [one such dict per channel]}`; text is then a list with one per channel.

    Raises:
        ValueError: an input has neither modality or cannot be read, or an argument makes no sense.
    """

    _load_processor = True
    _load_tokenizer = _load_feature_extractor = _load_image_processor = False

    def __call__(self, inputs=None, *, audio=None, text=None, **kwargs):
        """`pipe(inputs)`, or for a single one `pipe(audio=…, text=…)`."""
        if inputs is None:
            inputs = {"audio": audio, "text": text}
        elif audio is not None or text is not None:
            raise ValueError("Give `audio` and `text` inside the input, or alone: not both.")
        if hasattr(inputs, "column_names"):  # a datasets.Dataset
            inputs = (row for row in inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        self._inputs_seen = 0
        return super().__call__(inputs, **kwargs)

    def embed(self, inputs, **kwargs):
        """Utterance embeddings, as Eq. 6 compares them: for each input a dict with `audio` and `text`, each (d,),
        float32, without what is missing. Recordings of several windows get the mean of theirs.

        Raises:
            ValueError: the checkpoint was exported without g.
        """
        self._require_contrastive_head()
        return self(inputs, as_embeddings=True, **kwargs)

    def retrieve(self, query: dict, candidates: Sequence, top_k: int | None = None, **kwargs) -> list[dict]:
        """Rank texts for an audio, or audios for a text, by the dot product that Eq. 6 trains.

        Args:
            query: `{"audio": …}` or `{"text": …}`.
            candidates: of the other modality, bare or in such dicts.
            top_k: how many to give; all by default.

        Returns:
            `{"index", "score"}` of candidates, the likeliest first.

        Raises:
            ValueError: the checkpoint was exported without g; or the query has both modalities, or none.
        """
        given = [modality for modality in ("audio", "text") if query.get(modality) is not None]
        if len(given) != 1:
            raise ValueError("A query has either audio, to rank texts, or text, to rank audios.")
        other = {"audio": "text", "text": "audio"}[given[0]]
        wrapped = [c if isinstance(c, dict) and other in c else {other: c} for c in candidates]
        if not wrapped:
            return []
        query_embedding, *embeddings = self.embed([query, *wrapped], **kwargs)
        scores = np.stack([embedding[other] for embedding in embeddings]) @ query_embedding[given[0]]
        ranking = np.argsort(-scores, kind="stable")[:top_k]
        return [{"index": int(index), "score": float(scores[index])} for index in ranking]

    def save_pretrained(self, save_directory, **kwargs):
        """Write model, processor and code: a folder that `pipeline(model=folder, trust_remote_code=True)` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    # ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _sanitize_parameters(
        self,
        top_k=None,
        return_timestamps=None,
        chunk_length_s=None,
        stride_length_s=None,
        channels=None,
        as_embeddings=None,
    ):
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}.")
        if channels is not None and channels not in CHANNELS:
            raise ValueError(f'channels must be "mix" or "split", not {channels!r}.')
        preprocess = {"chunk_length_s": chunk_length_s, "stride_length_s": stride_length_s, "channels": channels}
        forward = {"return_combinations": return_timestamps or as_embeddings}
        postprocess = {"top_k": top_k, "return_timestamps": return_timestamps, "as_embeddings": as_embeddings}
        return tuple(
            {name: value for name, value in given.items() if value is not None}
            for given in (preprocess, forward, postprocess)
        )

    def _chunk_and_stride(self, chunk_length_s: float | None, stride_length_s: float) -> tuple[int, int]:
        """In samples.

        Raises:
            ValueError: the window is longer than the encoder's, or the strides leave nothing of it.
        """
        rate = self.feature_extractor.sampling_rate
        longest = self._encoder_window()
        chunk = longest or round(DEFAULT_CHUNK_SECONDS * rate)
        if chunk_length_s is not None:
            chunk = round(chunk_length_s * rate)
        if longest is not None and chunk > longest:
            raise ValueError(f"chunk_length_s is {chunk_length_s}, and the audio encoder takes {longest / rate:g} s.")
        stride = round(stride_length_s * rate)
        if chunk < 1 or stride < 0 or 2 * stride >= chunk:
            raise ValueError(
                f"chunk_length_s ({chunk / rate:g}) must be above 0, and twice stride_length_s ({stride_length_s:g}) "
                "below it."
            )
        return chunk, stride

    def _encoder_window(self) -> int | None:
        """Samples that the audio encoder takes at once; None if it takes any number."""
        samples = getattr(self.feature_extractor, "n_samples", None)
        positions = getattr(self.model.config.audio_config, "max_source_positions", None)
        if samples is None or positions is None:
            return samples
        return min(samples, 2 * positions * self.feature_extractor.hop_length)

    def _require_contrastive_head(self):
        if self.model.contrastive_head is None:
            raise ValueError(
                "This checkpoint was exported without its contrastive head (g), so its embeddings cannot be compared: "
                "use a whole checkpoint."
            )
        if self.model.config.lambda_contrastive == 0:
            logger.warning_once("This model was trained without the contrastive term: its embeddings are not aligned.")

    # ── input → windows ─────────────────────────────────────────────────────────────────────────────────────────────

    def preprocess(self, sample, chunk_length_s=None, stride_length_s=0.0, channels="mix"):
        """One input → its windows, each a dict; they are padded to a batch in `_forward`."""
        number, self._inputs_seen = getattr(self, "_inputs_seen", 0), getattr(self, "_inputs_seen", 0) + 1
        try:
            audio, text, rate = self._read_input(sample)
            chunk, stride = self._chunk_and_stride(chunk_length_s, stride_length_s)
            split = channels == "split" and audio is not None
            speakers = self._speakers(audio, text, rate) if split else [(audio, text, None)]
            items = (
                {"audio": window and window.samples, **self._place(window, of_speaker), "speaker": speaker}
                for speaker, (recording, of_speaker, channel) in enumerate(speakers)
                for window in self._windows(recording, rate, channel, chunk, stride)
            )
            previous = next(items)
            for item in items:
                yield {**previous, "split": split, "is_last": False}
                previous = item
            yield {**previous, "split": split, "is_last": True}
        except ValueError as error:
            raise ValueError(f"Input {number}{_file_name(sample)}: {error}") from error

    def _read_input(self, sample) -> tuple[Any, str | list | None, int | None]:
        if not isinstance(sample, dict) or not {"audio", "text"} & sample.keys():
            raise ValueError('give a dict with "audio", "text" or both.')
        audio, text = sample.get("audio"), sample.get("text")
        if isinstance(text, str):
            text = text if text.strip() else None
        elif text is not None and not isinstance(text, list):
            raise ValueError(f"text cannot be a {type(text).__name__}; give {TEXT_FORMS}.")
        if audio is None and not text:
            raise ValueError("it has neither audio nor text; give at least one.")
        return audio, text or None, sample.get("sampling_rate")

    def _speakers(self, audio, text, rate) -> list[tuple[Any, Any, int | None]]:
        """(recording, text, number of its channel in a file) of each speaker."""
        found = read_channels(audio, rate)
        texts = text if text is not None else [None] * len(found)
        one_each = isinstance(texts, list) and not any(isinstance(t, dict) for t in texts)
        if not one_each or len(texts) != len(found):
            raise ValueError(f'channels="split" needs a list of {len(found)} texts, one for each channel, or none.')
        return [
            (audio, of_speaker, channel) if isinstance(channel, int) else (channel, of_speaker, None)
            for channel, of_speaker in zip(found, texts, strict=True)
        ]

    def _windows(self, audio, rate, channel, chunk: int, stride: int) -> Iterator[Window | None]:
        """The windows of a recording, or None for an input without one."""
        if audio is None:
            return iter([None])
        own_rate = self.feature_extractor.sampling_rate
        if channel is not None or long_file(audio, chunk / own_rate):
            blocks = stream_file(audio, own_rate, channel)
        else:
            blocks = in_blocks(self.processor.read_audio(audio, rate), chunk)
        return cut_windows(blocks, chunk, stride)

    def _place(self, window: Window | None, text) -> dict[str, Any]:
        """The span of a window in seconds, and its text: the whole, or the segments that reach into the span.

        `timed` says whether the text belongs there, or is that of the whole recording.
        """
        rate = self.feature_extractor.sampling_rate
        start, stop = (0.0, 0.0) if window is None else (window.start / rate, window.stop / rate)
        timed = not isinstance(text, str)
        if timed and text is not None:
            if not all(isinstance(segment, dict) and {"text", "timestamp"} <= segment.keys() for segment in text):
                raise ValueError(f"text is a list of something else; give {TEXT_FORMS}.")
            text = " ".join(s["text"].strip() for s in text if window is None or _overlaps(s["timestamp"], start, stop))
        if text and len(text) > self.tokenizer.model_max_length:
            self._warn_of_long_text(text)
        return {"text": text or None, "timed": timed, "start": start, "stop": stop}

    def _warn_of_long_text(self, text: str):
        tokens = len(self.tokenizer(text, verbose=False)["input_ids"])
        if tokens > self.tokenizer.model_max_length:
            logger.warning(
                f"A text of {tokens} tokens was cut to {self.tokenizer.model_max_length}. With timestamps, each window "
                "of the audio gets its own part of it."
            )

    # ── windows → predictions ───────────────────────────────────────────────────────────────────────────────────────

    def _forward(self, batch, return_combinations=False):
        """Windows, one or a list of each value → `of_whole` and, of audio alone, `of_audio` predictions and embeddings,
        (B, …) on the CPU."""
        alone = not isinstance(batch["audio"], list)
        listed = {name: [value] if alone else value for name, value in batch.items()}
        inputs = self.processor(audio=listed["audio"], text=listed["text"]).to(self.device)
        outputs = self.model(**inputs, return_combinations=return_combinations)
        predictions = self._probabilities({f: outputs.get(f) for f in (*CLASS_FIELDS.values(), *self._dimensions())})
        if return_combinations:
            of_audio = outputs.combinations["audio"]
            of_audio = {CLASS_FIELDS.get(task, task): values for task, values in of_audio.items()}
            predictions |= {f"audio_{name}": p for name, p in self._probabilities(of_audio).items()}
            for name in ("audio_embeds", "text_embeds"):
                if outputs.get(name) is not None:
                    predictions[name] = outputs[name].float()
        has = {f"has_{m}": [value is not None for value in listed[m]] for m in ("audio", "text")}
        kept = {name: listed[name] for name in ("timed", "start", "stop", "speaker", "split", "is_last")}
        kept |= has
        return predictions | ({name: values[0] for name, values in kept.items()} if alone else kept)

    def _dimensions(self) -> list[str]:
        return self.model.config.dimensions

    def _probabilities(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`emotion` and `sentiment` (B, K) as probabilities, dimensions (B,) as they are, in float32."""
        predictions = {task: outputs[field].float().softmax(-1) for task, field in CLASS_FIELDS.items()}
        return predictions | {dimension: outputs[dimension].float() for dimension in self._dimensions()}

    # ── predictions → output ────────────────────────────────────────────────────────────────────────────────────────

    def postprocess(self, windows, top_k=None, return_timestamps=False, as_embeddings=False):
        """The windows of one input, batches of one each → its output."""
        by_speaker = defaultdict(list)
        for window in windows:
            by_speaker[window["speaker"]].append(window)
        if as_embeddings:
            outputs = [self._embeddings(of_speaker) for of_speaker in by_speaker.values()]
        else:
            outputs = [self._judgement(of_speaker, top_k, return_timestamps) for of_speaker in by_speaker.values()]
        return {"channels": outputs} if windows[0]["split"] else outputs[0]

    def _judgement(self, windows: list[dict], top_k: int | None, return_timestamps: bool) -> dict[str, Any]:
        seconds = np.array([window["stop"] - window["start"] for window in windows])
        weights = seconds / seconds.sum() if seconds.sum() > 0 else np.ones(1)  # text alone is one window of no length
        tasks = (*CLASS_FIELDS, *self._dimensions())
        mean = {t: np.tensordot(weights, np.stack([w[t][0].numpy() for w in windows]), axes=1) for t in tasks}
        modalities = [m for m in ("audio", "text") if any(window[f"has_{m}"] for window in windows)]
        output = self._describe(mean, modalities, top_k)
        if return_timestamps:
            output["chunks"] = [self._chunk(window, top_k) for window in windows if window["has_audio"]]
        return output

    def _chunk(self, window: dict, top_k: int | None) -> dict[str, Any]:
        """One window's own judgement; by audio alone where nobody knows which part of the text is its."""
        with_text = window["has_text"] and window["timed"]
        prefix = "" if with_text or not window["has_text"] else "audio_"
        values = {task: window[prefix + task][0].numpy() for task in (*CLASS_FIELDS, *self._dimensions())}
        described = self._describe(values, ["audio", "text"] if with_text else ["audio"], top_k)
        return {"timestamp": (window["start"], window["stop"]), **described}

    def _describe(self, values: dict[str, np.ndarray], modalities: list[str], top_k: int | None) -> dict[str, Any]:
        output: dict[str, Any] = {}
        for task in CLASS_FIELDS:
            labels = getattr(self.model.config, f"{task}_labels")
            ranking = np.argsort(-values[task], kind="stable")
            scores = {labels[k]: float(values[task][k]) for k in ranking[:top_k]}
            output[task] = {"label": labels[ranking[0]], "score": float(values[task][ranking[0]]), "scores": scores}
        output |= {dimension: float(values[dimension]) for dimension in self._dimensions()}
        return output | {"modalities": modalities}

    def _embeddings(self, windows: list[dict]) -> dict[str, np.ndarray]:
        """modality → the mean embedding (d,) of the windows that have it."""
        embeddings = {}
        for modality in ("audio", "text"):
            having = [window for window in windows if window[f"has_{modality}"]]
            if having:
                seconds = np.array([window["stop"] - window["start"] for window in having]) if len(having) > 1 else None
                embedded = np.stack([window[f"{modality}_embeds"][0].numpy() for window in having])
                embeddings[modality] = np.average(embedded, axis=0, weights=seconds).astype(np.float32)
        return embeddings


def _file_name(sample) -> str:
    audio = sample.get("audio") if isinstance(sample, dict) else None
    audio = audio.get("path") if isinstance(audio, dict) else audio
    return f" ({audio})" if isinstance(audio, (str, os.PathLike)) and len(str(audio)) < 300 else ""


def _overlaps(timestamp: tuple[float, float | None], start: float, stop: float) -> bool:
    """Whether a segment reaches into a span; its end may be None, the end of the recording."""
    begin, end = timestamp
    return begin < stop and (end is None or end > start)


__all__ = ["MMERPipeline"]
