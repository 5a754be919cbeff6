"""Collates rows of a corpus to a padded batch.

A row follows the schema of `corpora` (`utterance_id, audio, start, end, text, emotion, sentiment, valence, …`). None
means missing or not labelled. If a recording has `start` or `end`, in seconds, only that span is read. Raw audio and
text are preprocessed by the processor. Rows may have the states of the frozen encoders instead (`audio_hidden_states`,
`text_hidden_states`: L+1 states of T frames or tokens, width D). These are stacked, and the encoders are not run. A
further modality of the model has a column of vectors, T of width D.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..corpora.votes import vote_counts
from ..features.cache import STATES, FeatureCache
from ..model.configuration_mmer import MODALITIES
from ..model.processing_mmer import MMERProcessor, require_a_modality, stack_states, states_of_vectors
from ..model.tasks import NOT_LABELLED, Task
from ..model.waveforms import with_span

UTTERANCE_IDS = "utterance_ids"  # key of a batch, for messages; the trainer removes it, because models do not accept it

HOW_TO_GO_ON = (
    "Repair it, or leave out its row with --on_bad_rows skip, which reads all recordings again. Resume training with "
    "--resume_from_checkpoint true."
)


class UtteranceError(ValueError):
    """An utterance cannot be read. The message names it and says what to do."""

    def __init__(self, message: str):
        # torch passes on the error of a worker as the text of its traceback, which ends with the message.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


@dataclass
class MMERCollator:
    """Collates B rows for `MMERForEmotionRecognition`.

    Args:
        processor: preprocesses raw audio and text.
        tasks: of the model (`config.tasks`). A row whose label is not one of a task's classes is not labelled.
        features: a cache with the encoder states of all rows, to use instead of raw inputs.
        modalities: of the model (`config.modalities`).
    """

    processor: MMERProcessor
    tasks: Sequence[Task]
    features: FeatureCache | None = None
    modalities: Sequence[str] = MODALITIES

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate B rows.

        Returns:
            The processor's tensors, or `audio_hidden_states (B, L+1, T_a, D_a)` with `audio_mask (B, T_a)` and
            `text_hidden_states (B, L+1, T_t, D_t)` with `text_mask (B, T_t)` for rows with states; and `labels`:
            task → class indices (B,), int64, -100 = not labelled; or values (B,), float32, on the scale of the corpus,
            NaN = not labelled. If rows have a column `emotion_votes`, also this name → votes (B, K), float32, in the
            order of the classes, all zero = no votes.

        Raises:
            UtteranceError: a recording, text or cached state cannot be read.
            ValueError: only some rows have states, or the type of a label is wrong. The message names the utterance.
        """
        if self.features is not None:
            try:
                rows = [{**row, **self._cached(row)} for row in rows]
            except ValueError as error:
                raise UtteranceError(str(error)) from error
        try:
            inputs = self._encode(rows)
        except ValueError as error:
            # Not by class: a processor that is loaded as remote code has its own ExampleError class.
            index = getattr(error, "index", None)
            if index is None:
                raise
            raise UtteranceError(f"Utterance {_name(rows[index])}: {error} {HOW_TO_GO_ON}") from error
        labels = {task.name: _labels(rows, task) for task in self.tasks}
        for task in self.tasks:
            if task.is_class and any(task.votes in row for row in rows):
                labels[task.votes] = _votes(rows, task)
        return {**inputs, "labels": labels}

    def _cached(self, row: dict[str, Any]) -> dict[str, torch.Tensor | None]:
        return {f"{modality}_hidden_states": self.features.load(row, modality) for modality in STATES}

    def _encode(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        inputs = {}
        for modality in self.modalities:
            encode = getattr(self.processor, f"encode_{modality}", None)
            states = [row.get(f"{modality}_hidden_states") for row in rows]
            if encode is None and all(of_row is None for of_row in states):
                states = [states_of_vectors(row.get(modality), f"Utterance {_name(row)}: {modality}") for row in rows]
            if any(of_row is not None for of_row in states):
                _check_states(rows, states, modality)
                inputs.update(stack_states(states, modality))
            elif encode is not None:
                inputs.update(encode([_content(row, modality) for row in rows]))
        require_a_modality(len(rows), [value for key, value in inputs.items() if key.endswith("_mask")])
        return inputs


def with_ids(collator: Callable[[Sequence[dict[str, Any]]], dict[str, Any]], rows: Sequence[dict[str, Any]]):
    """The batch of any collator, with the `utterance_id` of each row, if rows have one."""
    return {**collator(rows), UTTERANCE_IDS: [row["utterance_id"] for row in rows if "utterance_id" in row]}


def _content(row: dict[str, Any], modality: str) -> Any:
    """The text or recording of a row; a recording with its span, if it has one."""
    content = row.get(modality)
    return with_span(content, row.get("start"), row.get("end")) if modality == "audio" else content


def _check_states(rows: Sequence[dict[str, Any]], states: list[Any], modality: str) -> None:
    """Require states (L+1, T, D) with equal L+1 and D, and no raw inputs in other rows."""
    expected = next(state for state in states if state is not None)
    for row, state in zip(rows, states, strict=True):
        if state is None:
            raw = row.get(modality)
            if raw is not None and not (isinstance(raw, str) and not raw.strip()):
                raise ValueError(
                    f"Utterance {_name(row)} has {modality} but no {modality}_hidden_states, which other rows have; "
                    "compute the states of all utterances, or of none."
                )
        elif state.ndim != 3 or (state.shape[0], state.shape[2]) != (expected.shape[0], expected.shape[2]):
            raise ValueError(
                f"Utterance {_name(row)} has {modality}_hidden_states of shape {tuple(state.shape)}, another row "
                f"{tuple(expected.shape)}; (L+1, T, D) must agree but for T. Compute all states with one encoder."
            )


def _labels(rows: Sequence[dict[str, Any]], task: Task) -> torch.Tensor:
    """The class index of each row's label (B,), -100 if it is None or not one of the classes; or the value, or NaN."""
    if not task.is_class:
        return torch.tensor([_number(row, task.name) for row in rows], dtype=torch.float32)
    indices = {name: index for index, name in enumerate(task.classes)}
    for row in rows:
        if not isinstance(label := row.get(task.name), str | None):
            raise ValueError(f"Utterance {_name(row)}: {task.name} is {label!r}; give the name of a class, or None.")
    return torch.tensor([indices.get(row.get(task.name), NOT_LABELLED) for row in rows])


def _votes(rows: Sequence[dict[str, Any]], task: Task) -> torch.Tensor:
    try:
        return torch.from_numpy(vote_counts([row.get(task.votes) for row in rows], task.classes)).float()
    except ValueError as error:
        raise ValueError(f"{task.votes} of one of {', '.join(map(_name, rows))}: {error}") from None


def _number(row: dict[str, Any], field: str) -> float:
    value = row.get(field)
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"Utterance {_name(row)}: {field} is {value!r}; give a number, or None.") from None


def _name(row: dict[str, Any]) -> str:
    return repr(row.get("utterance_id", "(without utterance_id)"))
