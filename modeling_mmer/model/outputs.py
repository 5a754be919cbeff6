"""What the models return, and how predictions get their names there.

Shapes: B examples, S positions of a sequence CLS | audio | SEP | text, d shared width, K classes.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

PREDICTION_FIELDS = {"emotion": "logits", "sentiment": "sentiment_logits"}  # of other tasks, their own names


@dataclass
class MMERModelOutput(ModelOutput):
    """Output of [`MMERModel`].

    Args:
        last_hidden_state: (B, S, d), z over CLS | audio | SEP | text; a span that no row of the batch has is left out.
        sequence_mask: (B, S), 1 at the positions that are real.
        hidden_states: L+1 tensors (B, S, d), with `output_hidden_states=True`.
        attentions: per layer (B, heads, S, S), with `output_attentions=True` and eager attention.
    """

    last_hidden_state: torch.FloatTensor | None = None
    sequence_mask: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class MMEROutput(ModelOutput):
    """Output of [`MMERForEmotionRecognition`]. Predictions are those of the fullest combination each row has.

    Args:
        loss: Eq. 7, with labels.
        losses: named terms `supervised`, `mae`, `contrastive` (those with λ > 0), and each task's part of the first.
        logits: (B, emotions).
        sentiment_logits: (B, sentiments).
        valence: (B,), on the corpus's scale, `config.label_scale`.
        arousal: (B,), likewise.
        dominance: (B,), likewise.
        audio_embeds: (B, d), after g, from the unimodal pass; NaN where the row lacks the modality.
        text_embeds: (B, d), likewise.
        combinations: `audio`, `text`, `audio_text` → task → predictions, NaN where the row lacks a modality of it.
        last_hidden_state: as in [`MMERModelOutput`], of the pass over all that each row has. Where every combination
            is evaluated, it is there if `output_hidden_states` or `output_attentions` asks.
        hidden_states: likewise.
        attentions: likewise.
    """

    loss: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    logits: torch.FloatTensor | None = None
    sentiment_logits: torch.FloatTensor | None = None
    valence: torch.FloatTensor | None = None
    arousal: torch.FloatTensor | None = None
    dominance: torch.FloatTensor | None = None
    audio_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    combinations: dict[str, dict[str, torch.FloatTensor]] | None = None
    last_hidden_state: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None

    @classmethod
    def of_combinations(
        cls,
        predictions: dict[str, dict[str, torch.Tensor]],
        present: dict[str, torch.Tensor],
        embeds: dict[str, torch.Tensor] | None = None,
        **fields,
    ):
        """The output with predictions by combination and task, for the rows (B,) that have each: `present`."""
        embeds = {m: z.masked_fill(~present[m][:, None], torch.nan) for m, z in (embeds or {}).items()}
        combinations = {name: void_rows(of_tasks, ~present[name]) for name, of_tasks in predictions.items()}
        return cls.of(fullest(predictions, present), embeds, combinations=combinations, **fields)

    @classmethod
    def of(cls, predictions: dict[str, torch.Tensor], embeds: dict[str, torch.Tensor] | None = None, **fields):
        """The output with predictions by task and embeddings by modality; those without a field follow the others."""
        fields |= {PREDICTION_FIELDS.get(task, task): values for task, values in predictions.items()}
        fields |= {f"{modality}_embeds": values for modality, values in (embeds or {}).items()}
        known = {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
        output = cls(**known)
        for name, value in fields.items():
            if name not in known:
                output[name] = value
        return output


def void_rows(predictions: dict[str, torch.Tensor], void: torch.Tensor) -> dict[str, torch.Tensor]:
    """Predictions with NaN in the rows that a combination does not have: what was not measured is no figure."""
    return {
        task: values.detach().masked_fill(void.view((-1,) + (1,) * (values.dim() - 1)), torch.nan)
        for task, values in predictions.items()
    }


def fullest(predictions: dict[str, dict[str, torch.Tensor]], present: dict[str, torch.Tensor]):
    """Each row's predictions from the fullest combination it has; combinations come with the fullest last."""
    chosen = {}
    for combination, of_tasks in predictions.items():
        for task, values in of_tasks.items():
            rows = present[combination].view((-1,) + (1,) * (values.dim() - 1))
            chosen[task] = torch.where(rows, values, chosen.get(task, values))
    return chosen
