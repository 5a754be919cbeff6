"""What the rivals share: a config without remote code, and a forward pass that has MMER's inputs and outputs.

Shapes: B examples, K classes.
"""

from dataclasses import field
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from transformers.utils.generic import can_return_tuple

from ..model.backbone import MMERBackbone
from ..model.configuration_mmer import MMERConfig
from ..model.heads import supervised
from ..model.losses import total_loss
from ..model.outputs import MMEROutput, name_predictions, void_rows
from ..model.passes import COMBINATIONS, fullest

States = dict[str, tuple[torch.Tensor, torch.Tensor]]  # modality → states (B, L+1, T, D) and mask (B, T)
Predictions = dict[str, dict[str, torch.Tensor]]  # combination → task → logits (B, K) or values (B,)


@strict
class BaselineConfig(MMERConfig):
    """Configuration of a rival: encoders, sizes and tasks as of MMER, whose other two losses it does not have."""

    model_type = "mmer_baseline"
    _auto_class = None  # no code goes with the checkpoint

    auto_map: dict[str, str] = field(default_factory=dict)
    custom_pipelines: dict[str, dict] = field(default_factory=dict)
    lambda_mae: float | int = 0
    lambda_contrastive: float | int = 0
    combination: Literal["audio", "text", "audio_text"] = "audio_text"  # of `SeparateModel`


class Baseline(MMERBackbone):
    """A rival over the frozen encoders. One whose only term is the supervised one says in `judge` what it predicts of
    their states, and has the rest from here; another has a `forward` of its own."""

    config: BaselineConfig
    config_class = BaselineConfig

    def judge(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        """What is predicted of each combination in `present`, for all B rows; rows that lack it are void."""
        raise NotImplementedError

    def combinations(self) -> tuple[str, ...]:
        """The combinations that the model serves, the fullest last."""
        return tuple(COMBINATIONS)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of the terms in `losses`."""
        return {"supervised": 1.0}

    def freeze_untrained(self):
        """Every part of a rival is trained, unless it says otherwise."""

    def read(self, output_hidden_states=None, output_attentions=None, **inputs):
        """As of [`MMERBackbone`].

        Raises:
            ValueError: also, states or attentions are asked for.
        """
        if output_hidden_states or output_attentions:
            raise ValueError(
                f"A {type(self).__name__} has no one transformer whose states it could give: leave out "
                "output_hidden_states and output_attentions."
            )
        return super().read(**inputs)

    @can_return_tuple
    def forward(self, labels=None, return_combinations: bool = True, smoothing: float = 0.0, **inputs) -> MMEROutput:
        """Recognise emotion from what each row has. Inputs and labels as of [`MMERForEmotionRecognition`].

        Raises:
            ValueError: an example has neither modality, or none of the combinations that the model serves.
        """
        states = self.read(**inputs)
        present = self.rows_present(states)
        predictions = self.judge(states, present)
        losses = None
        if labels is not None:
            losses = supervised(self, predictions, labels, self.judged(present), smoothing)
        return self.output(predictions, present, losses)

    def judged(self, present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows of each combination that the supervised loss is taken over: all that have it."""
        return present

    def rows_present(self, states: States) -> dict[str, torch.Tensor]:
        """combination → (B,) bool, the rows that have all of its modalities."""
        has = {modality: mask.any(-1) for modality, (_, mask) in states.items()}
        nowhere = torch.zeros_like(next(iter(has.values())))
        present = {
            name: torch.stack([has.get(modality, nowhere) for modality in COMBINATIONS[name]]).all(0)
            for name in self.combinations()
        }
        if (unserved := ~torch.stack(list(present.values())).any(0)).any():
            raise ValueError(
                f"This {type(self).__name__} serves {' and '.join(present)} alone, which example "
                f"{unserved.nonzero().flatten().tolist()} of the batch does not have."
            )
        return present

    def output(
        self,
        predictions: Predictions,
        present: dict[str, torch.Tensor],
        losses: dict[str, torch.Tensor] | None,
    ) -> MMEROutput:
        return MMEROutput(
            loss=None if losses is None else total_loss(losses, self.loss_weights),
            losses=losses,
            **name_predictions(fullest(predictions, present)),
            combinations={name: void_rows(predictions[name], ~rows) for name, rows in present.items()},
        )
