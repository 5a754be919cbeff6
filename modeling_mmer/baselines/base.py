"""What the rivals share: a config without remote code, and a forward pass that has MMER's inputs and outputs.

Shapes: B examples, K classes.
"""

from dataclasses import field
from functools import partial
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.utils.generic import can_return_tuple

from ..model.configuration_mmer import MMERConfig
from ..model.distributed import global_batch
from ..model.encoders import States
from ..model.heads import Readout, TaskHead, TaskHeads
from ..model.losses import read_labels, supervised_loss, total_loss
from ..model.modeling_base import MMERBackbone
from ..model.outputs import MMEROutput
from ..model.transformer import Pass, PassOutput, SharedTransformer

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
    """A rival over the frozen encoders. One whose only term is the supervised one has a `predict` of its own, and
    the rest from here; another has a `forward` of its own."""

    config: BaselineConfig
    config_class = BaselineConfig

    def predict(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        """Predictions from each combination in `present`, for all B rows; rows that lack it are void."""
        raise NotImplementedError

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of the terms in `losses`."""
        return {"supervised": self.config.lambda_supervised}

    def freeze_untrained(self):
        """Every part of a rival is trained, unless it says otherwise."""

    def encoder_states(self, inputs) -> States:
        """States (B, L+1, T, D) and mask (B, T) of each modality of a batch, as of [`FrozenEncoders`].

        Raises:
            ValueError: also, hidden states or attentions are asked for.
        """
        options = ("output_hidden_states", "output_attentions")
        if any(inputs.get(name) for name in options):
            raise ValueError(
                f"A {type(self).__name__} has no one transformer whose states it could give: leave out "
                "output_hidden_states and output_attentions."
            )
        return self.encoders({name: value for name, value in inputs.items() if name not in options})

    @can_return_tuple
    def forward(self, labels=None, return_combinations: bool = True, smoothing: float = 0.0, **inputs) -> MMEROutput:
        """Recognise emotion from what each row has. Inputs and labels as of [`MMERForEmotionRecognition`].

        Raises:
            ValueError: an example has neither modality, or none of the combinations that the model serves.
        """
        states = self.encoder_states(inputs)
        present = self.rows_present(states)
        predictions = self.predict(states, present)
        losses = None
        if labels is not None:
            losses = self.supervised(predictions, labels, self.trained_rows(present), smoothing)
        return self.output(predictions, present, losses)

    def supervised(self, predictions: Predictions, labels, present, smoothing: float) -> dict[str, torch.Tensor]:
        """The term `supervised`, and each task's part of it, over the global batch."""
        labels = read_labels(labels, self.config.tasks, rows=len(next(iter(present.values()))))
        batch = {"predictions": predictions, "labels": labels, "present": present}
        return supervised_loss(**global_batch(batch, self.training), tasks=self.config.tasks, smoothing=smoothing)

    def trained_rows(self, present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows of each combination that the supervised loss is taken over: all that have it."""
        return present

    def rows_present(self, states: States) -> dict[str, torch.Tensor]:
        """combination → (B,) bool, the rows that have all of its modalities."""
        has = {modality: mask.any(-1) for modality, (_, mask) in states.items()}
        nowhere = torch.zeros_like(next(iter(has.values())))
        present = {
            name: torch.stack([has.get(modality, nowhere) for modality in self.config.combinations[name]]).all(0)
            for name in self.served
        }
        if (unserved := ~torch.stack(list(present.values())).any(0)).any():
            raise ValueError(
                f"This {type(self).__name__} serves {' and '.join(present)} alone, which example "
                f"{unserved.nonzero().flatten().tolist()} of the batch does not have."
            )
        return present

    def output(
        self, predictions: Predictions, present: dict[str, torch.Tensor], losses: dict[str, torch.Tensor] | None
    ) -> MMEROutput:
        loss = None if losses is None else total_loss(losses, self.loss_weights)
        return MMEROutput.of_combinations(predictions, present, loss=loss, losses=losses)


class Branch(nn.Module):
    """A transformer of a rival's own and the tasks read from its z, as the config's `readout` says.

    Separate models, Cascade and Late fusion are made of these. Each has the size of MMER's shared transformer.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.transformer = SharedTransformer(config)
        self.readout = Readout(config)
        self.heads = TaskHeads(config, partial(TaskHead, inputs=self.readout.width))

    def forward(self, of_pass: Pass) -> PassOutput:
        return self.transformer({"all": of_pass}, one_call=False)["all"]

    def predict(self, output: PassOutput) -> dict[str, torch.Tensor]:
        return self.heads(self.readout(output))
