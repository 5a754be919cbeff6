"""Late fusion: an audio and a text model, trained first and then frozen, and a classifier on their concatenated CLS.

From one modality its predictions are those of that modality's separate model.
"""

import copy
from functools import partial

import torch
from torch import nn

from ..model.embedding import ModalityEmbedders
from ..model.encoders import States
from ..model.heads import TaskHead, TaskHeads
from ..model.tasks import CLASS_TASKS
from ..model.transformer import show
from .base import Baseline, BaselineConfig, Branch, Predictions
from .separate import SeparateModel

# In which two trained models may differ: what only their training reads, and which modality they are for.
_OF_TRAINING = (
    *("combination", "dropout", "initializer_range", *(f"{task}_class_weights" for task in CLASS_TASKS)),
    *("mae_target", "mae_target_norm", "mae_upsampling", "mae_loss_on", "mae_detach_target", "mask_ratio"),
    *("soft_labels", "lambda_supervised", "lambda_mae"),
    *("contrastive_form", "contrastive_projection", "lambda_contrastive"),
    *("_name_or_path", "dtype", "architectures", "transformers_version", "use_cache"),
)


class LateFusion(Baseline):
    """Two frozen unimodal models and the classifier that is trained on what they know."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.embedders = ModalityEmbedders.for_modalities(config, config.modalities)
        self.branches = nn.ModuleDict({modality: Branch(config) for modality in config.modalities})
        width = sum(branch.readout.width for branch in self.branches.values())
        self.heads = TaskHeads(config, partial(TaskHead, inputs=width))
        self.post_init()

    @classmethod
    def from_unimodal(cls, audio: SeparateModel, text: SeparateModel) -> "LateFusion":
        """A new classifier on two trained models.

        Raises:
            ValueError: a model is not one for its modality alone, or the two have other tasks, encoders or shapes.
        """
        for modality, model in (("audio", audio), ("text", text)):
            if model.config.combination != modality:
                raise ValueError(f"Late fusion needs a model for {modality}, not for {model.config.combination}.")
        of_audio, of_text = audio.config.to_dict(), text.config.to_dict()
        for name in sorted({*of_audio, *of_text} - set(_OF_TRAINING)):
            if (first := of_audio.get(name)) != (second := of_text.get(name)):
                raise ValueError(
                    f"Late fusion needs two models of the same {name}, not of {first} and {second}: train both with "
                    "the same encoders and options."
                )
        config = copy.deepcopy(audio.config)
        config.combination = "audio_text"
        fusion = cls(config)
        for modality, model in (("audio", audio), ("text", text)):
            fusion.encoders[modality] = model.encoders[modality]
            fusion.embedders[modality].load_state_dict(model.embedders[modality].state_dict())
            fusion.branches[modality].load_state_dict(model.branches[modality].state_dict())
        if fusion.config.audio_encoder_name_or_path is not None:
            fusion._leave_out_encoders()
        fusion.freeze_untrained()
        return fusion

    def freeze_untrained(self):
        self.embedders.requires_grad_(False)
        self.branches.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self.branches.eval()
        return self

    def predict(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        with torch.no_grad():
            tokens = self.embedders(states)
            outputs = {m: branch(show(tokens, (m,), whole=True)) for m, branch in self.branches.items()}
            read = {m: branch.readout(outputs[m]) for m, branch in self.branches.items()}
            predictions = {m: branch.heads(read[m]) for m, branch in self.branches.items()}
        return predictions | {"audio_text": self.heads(torch.cat(list(read.values()), dim=-1))}

    def trained_rows(self, present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The unimodal parts are frozen: only the combination is trained."""
        return {name: rows if name == "audio_text" else torch.zeros_like(rows) for name, rows in present.items()}
