"""The pipeline `multimodal-emotion-recognition`: raw audio, text or both → emotion, sentiment and dimensions.

Recordings longer than the window of the encoder are scored in windows (`windows.py`). Their probabilities and
dimensions are averaged, weighted by the seconds that each window covers.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import BatchFeature
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineChunkIterator, PipelineIterator, PipelinePackIterator
from transformers.utils import logging

from .outputs import PREDICTION_FIELDS
from .pipeline_inputs import InputReader, number_inputs, separate_inputs
from .processing_mmer import stack_states

logger = logging.get_logger(__name__)

CHANNELS = ("mix", "split")


class MMERPipeline(ChunkPipeline):
    """Pipeline for emotion recognition from audio, text or both.

    ```python
    pipe = pipeline("multimodal-emotion-recognition", model=name, trust_remote_code=True)
    pipe({"audio": "call.wav", "text": "I want my money back."})
    ```

    Takes one input, a list, a generator or a `datasets.Dataset`, and returns one output per input. An input is a dict
    with `audio`, `text` or both; None means missing.

    - `audio` may have any form that [`MMERProcessor`] accepts. The dict may also have the `sampling_rate` of an array,
      `start` and `end` to select a span, in seconds, and a `channel`, counted from 0, to hear that one alone.
    - `text` is a string, or a list of `{"text", "timestamp": (start, end)}` in seconds, as speech recognition returns
      it. With `channels="split"` it is a list with one text per channel.
    - A further modality of the model has its vectors (T, D), which belong to the whole input.

    It has the arguments of all pipelines (`batch_size`, `device`, `dtype`, `num_workers`), and those of a call. All of
    them can be given when it is made, or in a call.
    """

    _load_processor = True
    _load_tokenizer = _load_feature_extractor = _load_image_processor = False

    def __call__(
        self,
        inputs: Any = None,
        *,
        audio: Any = None,
        text: Any = None,
        sampling_rate: int | None = None,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call as `pipe(inputs)`, or as `pipe(audio=…, text=…)` with one recording and text or with lists of them.

        Args:
            inputs: one input or several, as described above.
            audio: recordings, instead of `inputs`.
            text: texts, instead of `inputs`.
            sampling_rate: of arrays in `audio`.
            num_workers: processes that read ahead.

        Keyword Args:
            top_k (int): number of labels in `scores`, the likeliest first; all by default.
            return_timestamps (bool): whether to also return `chunks`, the results over time.
            chunk_length_s (float): length of a window in seconds. The default and maximum is the window of the audio
                encoder.
            stride_length_s (float): overlap of a window with its neighbours on each side, in seconds.
            channels (str): `mix` averages the channels; `split` scores each channel on its own, as one speaker.

        Returns:
            For each input `{"emotion": {"label", "score", "scores"}, "sentiment": {…}, "valence", "arousal",
            "dominance", "modalities"}`. `scores` maps labels to probabilities, dimensions are on the scale of
            `config.label_scale`, and `modalities` are those that the input has. With `return_timestamps=True` also
            `chunks`, a list of such dicts with `timestamp: (start, end)`, without gaps; it is empty without audio. Text
            with timestamps is assigned to its chunks. What has no timestamps belongs to the whole input, and chunks are
            scored without it. With `channels="split"` the output is `{"channels": [one such dict per channel]}`.

        Raises:
            ValueError: an input has neither modality or cannot be read, or an argument is invalid.
        """
        alone = {"audio": audio, "text": text, "sampling_rate": sampling_rate}
        if inputs is None:
            inputs = separate_inputs(**alone)
        elif any(value is not None for value in alone.values()):
            raise ValueError("Give `audio` and `text` either in the inputs or as arguments, not both.")
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        workers = (self._num_workers if num_workers is None else num_workers) or 0
        return super().__call__(number_inputs(inputs, workers), num_workers=workers, **kwargs)

    def embed(self, inputs, **kwargs):
        """Utterance embeddings, as compared in Eq. 6: for each input a dict with `audio` and `text`, each (d,),
        float32, for the modalities that it has. The embedding of a long recording is the mean over its windows.

        Raises:
            ValueError: the checkpoint was exported without g.
        """
        self._require_contrastive_head()
        return self(inputs, as_embeddings=True, **kwargs)

    def retrieve(self, query: dict, candidates: Sequence, top_k: int | None = None, **kwargs) -> list[dict]:
        """Rank texts for a recording, or recordings for a text, by the dot product that Eq. 6 trains.

        Args:
            query: `{"audio": …}` or `{"text": …}`.
            candidates: inputs of the other modality, as such or as dicts like `query`, which say the modality where
                there are several.
            top_k: number of candidates to return; all by default.

        Returns:
            `{"index", "score"}` of the candidates, the best first.

        Raises:
            ValueError: the checkpoint was exported without g; or the query has both modalities, or none.
        """
        modalities = self.model.config.modalities
        given = [modality for modality in modalities if query.get(modality) is not None]
        if isinstance(candidates, (str, bytes, dict)):
            raise ValueError("candidates must be a list of texts or recordings.")
        if len(given) != 1:
            raise ValueError("A query must have either audio, to rank texts, or text, to rank recordings.")
        others = [modality for modality in modalities if modality != given[0]]
        named = [m for m in others if any(isinstance(candidate, dict) and m in candidate for candidate in candidates)]
        other = (named or others)[0]
        wrapped = [c if isinstance(c, dict) and other in c else {other: c} for c in candidates]
        if not wrapped:
            return []
        query_embedding, *embeddings = self.embed([query, *wrapped], **kwargs)
        scores = np.stack([embedding[other] for embedding in embeddings]) @ query_embedding[given[0]]
        ranking = np.argsort(-scores, kind="stable")[:top_k]
        return [{"index": int(index), "score": float(scores[index])} for index in ranking]

    def save_pretrained(self, save_directory, **kwargs):
        """Save model, processor and code in a folder for `pipeline(model=folder, trust_remote_code=True)`."""
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
        if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
            raise ValueError(f"top_k must be a whole number of at least 1, not {top_k}.")
        if channels is not None and channels not in CHANNELS:
            raise ValueError(f'channels must be "mix" or "split", not {channels!r}.')
        preprocess = {"chunk_length_s": chunk_length_s, "stride_length_s": stride_length_s, "channels": channels}
        forward = {"return_combinations": return_timestamps or as_embeddings}
        postprocess = {"top_k": top_k, "return_timestamps": return_timestamps, "as_embeddings": as_embeddings}
        return tuple(
            {name: value for name, value in given.items() if value is not None}
            for given in (preprocess, forward, postprocess)
        )

    def _require_contrastive_head(self):
        if self.model.contrastive_head is None:
            raise ValueError(
                "This checkpoint was exported without its contrastive head (g), so its embeddings cannot be compared: "
                "use a complete checkpoint."
            )
        if self.model.config.lambda_contrastive == 0:
            logger.warning_once("This model was trained without the contrastive term: its embeddings are not aligned.")

    # ── input → windows ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def preprocess(self):
        """Cuts an input into windows. It is sent to worker processes without the model."""
        return self.input_reader().read

    def input_reader(self) -> InputReader:
        """What reads inputs for this model, without the model."""
        others = tuple(m for m in self.model.config.modalities if m not in ("audio", "text"))
        return InputReader(self.processor, self._encoder_window(), others)

    def _encoder_window(self) -> int | None:
        """Maximum number of samples of the audio encoder; None if there is no maximum."""
        samples = getattr(self.feature_extractor, "n_samples", None)
        positions = getattr(self.model.config.audio_config, "max_source_positions", None)
        if samples is None or positions is None:
            return samples
        return min(samples, 2 * positions * self.feature_extractor.hop_length)

    def get_iterator(
        self, inputs, num_workers: int, batch_size: int, preprocess_params, forward_params, postprocess_params
    ):
        """As in [`ChunkPipeline`], but what is sent to a worker process can be pickled."""
        if num_workers > 0:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer's threads do not survive a fork
        windows = DataLoader(
            PipelineChunkIterator(inputs, self.preprocess, preprocess_params),
            num_workers=min(num_workers, 1),  # several workers would each read all inputs
            batch_size=batch_size,
            collate_fn=_only_one if batch_size == 1 else _in_lists,
        )
        predictions = PipelinePackIterator(windows, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(predictions, self.postprocess, postprocess_params)

    # ── windows → predictions ───────────────────────────────────────────────────────────────────────────────────────

    def _forward(self, batch, return_combinations=False, return_z=False):
        """Windows (one, or a batch with a list per value) → predictions (B, …). `return_combinations` adds those of
        every combination and the embeddings, and `return_z` adds z at CLS (B, d) as `z`."""
        alone = not isinstance(batch["audio"], list)
        listed = {name: [value] if alone else value for name, value in batch.items()}
        # Not by calling the processor: warnings about sound and cut texts were given when the input was read.
        inputs = self.processor.encode_audio(listed["audio"], warn=lambda message: None)
        inputs |= self.processor.encode_text(listed["text"])
        has = {f"has_{m}": [value is not None for value in listed[m]] for m in self.model.config.modalities}
        for modality in self.model.config.modalities:
            if modality not in ("audio", "text") and any(has[f"has_{modality}"]):
                inputs |= stack_states(listed[modality], modality)
        asked = {"return_combinations": return_combinations}
        asked |= {"output_hidden_states": [-1]} if return_z else {}
        outputs = self.model(**BatchFeature(inputs).to(self.device), **asked)
        fields = {task.name: PREDICTION_FIELDS.get(task.name, task.name) for task in self.model.config.tasks}
        predictions = self._probabilities({task: outputs[field] for task, field in fields.items()})
        if return_z:
            predictions["z"] = outputs.last_hidden_state[:, 0].float()
        if return_combinations:
            for combination, of_tasks in outputs.combinations.items():
                values = self._probabilities(of_tasks)
                predictions |= {f"{combination}_{task}": of_task for task, of_task in values.items()}
            embeds = (f"{modality}_embeds" for modality in self.model.config.modalities)
            predictions |= {name: outputs[name].float() for name in embeds if outputs.get(name) is not None}
        kept = {name: listed[name] for name in ("timed", "start", "stop", "speaker", "split", "is_last")}
        kept |= has
        return predictions | ({name: values[0] for name, values in kept.items()} if alone else kept)

    def _probabilities(self, predictions: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits (B, K) of class tasks as probabilities, dimensions (B,) unchanged, in float32."""
        values = {task: predictions[task.name].float() for task in self.model.config.tasks}
        return {task.name: of_task.softmax(-1) if task.is_class else of_task for task, of_task in values.items()}

    # ── predictions → output ────────────────────────────────────────────────────────────────────────────────────────

    def postprocess(self, windows, top_k=None, return_timestamps=False, as_embeddings=False):
        """The windows of one input (batches of size 1) → its output."""
        by_speaker = defaultdict(list)
        for window in windows:
            by_speaker[window["speaker"]].append(window)
        if as_embeddings:
            outputs = [self._embeddings(speaker) for speaker in by_speaker.values()]
        else:
            outputs = [self._merge(speaker, top_k, return_timestamps) for speaker in by_speaker.values()]
        return {"channels": outputs} if windows[0]["split"] else outputs[0]

    def _merge(self, windows: list[dict], top_k: int | None, return_timestamps: bool) -> dict[str, Any]:
        seconds = np.array([window["stop"] - window["start"] for window in windows])
        weights = seconds / seconds.sum() if seconds.sum() > 0 else np.ones(1)  # text only: one window of length 0
        tasks = [task.name for task in self.model.config.tasks]
        mean = {t: np.tensordot(weights, np.stack([w[t][0].numpy() for w in windows]), axes=1) for t in tasks}
        modalities = [m for m in self.model.config.modalities if any(window[f"has_{m}"] for window in windows)]
        output = self._describe(mean, modalities, top_k)
        if return_timestamps:
            output["chunks"] = [self._chunk(window, top_k) for window in windows if window["has_audio"]]
        return output

    def _chunk(self, window: dict, top_k: int | None) -> dict[str, Any]:
        """The result of one window, by its audio and, if it has timestamps, its text."""
        timed = [m for m in self.model.config.modalities if m == "audio" or m == "text" and window["timed"]]
        modalities = [modality for modality in timed if window[f"has_{modality}"]]
        prefix = "_".join(modalities)
        values = {task.name: window[f"{prefix}_{task.name}"][0].numpy() for task in self.model.config.tasks}
        described = self._describe(values, modalities, top_k)
        return {"timestamp": (window["start"], window["stop"]), **described}

    def _describe(self, values: dict[str, np.ndarray], modalities: list[str], top_k: int | None) -> dict[str, Any]:
        output: dict[str, Any] = {}
        for task in self.model.config.tasks:
            of_task = values[task.name]
            if not task.is_class:
                output[task.name] = float(np.clip(of_task, *task.scale))  # it may be slightly off the scale
                continue
            ranking = np.argsort(-of_task, kind="stable")
            scores = {task.classes[k]: float(of_task[k]) for k in ranking[:top_k]}
            best = ranking[0]
            output[task.name] = {"label": task.classes[best], "score": float(of_task[best]), "scores": scores}
        return output | {"modalities": modalities}

    def _embeddings(self, windows: list[dict]) -> dict[str, np.ndarray]:
        """modality → the mean embedding (d,) of the windows that have it."""
        embeddings = {}
        for modality in self.model.config.modalities:
            having = [window for window in windows if window[f"has_{modality}"]]
            if having:
                seconds = np.array([window["stop"] - window["start"] for window in having]) if len(having) > 1 else None
                embedded = np.stack([window[f"{modality}_embeds"][0].numpy() for window in having])
                embeddings[modality] = np.average(embedded, axis=0, weights=seconds).astype(np.float32)
        return embeddings


def _only_one(windows: list[dict]) -> dict[str, Any]:
    return windows[0]


def _in_lists(windows: list[dict]) -> dict[str, list]:
    return {name: [window[name] for window in windows] for name in windows[0]}


__all__ = ["MMERPipeline"]
