"""MMER: one transformer over the modalities that an utterance has (Chochlakis et al., Eq. 1–7).

A batch goes through `encoders` (inputs → states), `embedding` (states → tokens), `transformer` (passes of tokens → z),
`heads` (z → predictions), `autoencoder` (MASK, and z → reconstructed states), `distributed` (rows of all processes) and
`losses`. `MMERModel` has what leads to z and MASK, `MMERForEmotionRecognition` the whole.

Shapes: B examples, L+1 encoder states, T_a frames, T_t text tokens, D encoder width, N_m tokens of modality m after
projection (N_a = ceil(T_a / k), N_t = T_t), S positions of a sequence CLS | audio | SEP | text, d shared width.
"""

from functools import partial
from typing import TypedDict, Unpack

import torch
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from .autoencoder import StateDecoders, TokenMasking
from .configuration_mmer import MMERConfig
from .distributed import global_batch
from .embedding import ModalityEmbedders, ModalityTokens
from .heads import ContrastiveHead, Readout, TaskHead, TaskHeads
from .losses import contrastive_loss, read_labels, supervised_loss, total_loss
from .modeling_base import MMERBackbone, MMERPreTrainedModel
from .outputs import MMERModelOutput, MMEROutput
from .pipeline_mmer import MMERPipeline  # noqa: F401 — an import is what makes save_pretrained copy the file
from .state_heads import StateHeads
from .transformer import PassOutput, SharedTransformer, only, show


class MMERInputs(TypedDict, total=False):
    """What a forward takes, from the processor or from a cache of encoder states.

    A row without a modality has an all-zero mask there. A missing mask means that every position is real. An
    `attention_mask` without text is that of the audio, as the stock feature extractors call it.

    Attributes:
        input_features: (B, mels, frames), of Whisper-shaped audio encoders.
        input_features_mask: (B, frames).
        input_values: (B, samples), of raw-waveform audio encoders.
        input_values_mask: (B, samples).
        input_ids: (B, T_t), text.
        attention_mask: (B, T_t).
        audio_hidden_states: (B, L+1, T_a, D_a), encoder states instead of raw audio.
        audio_mask: (B, T_a).
        text_hidden_states: (B, L+1, T_t, D_t), encoder states instead of text.
        text_mask: (B, T_t).
    """

    input_features: torch.Tensor
    input_features_mask: torch.Tensor
    input_values: torch.Tensor
    input_values_mask: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    audio_hidden_states: torch.Tensor
    audio_mask: torch.Tensor
    text_hidden_states: torch.Tensor
    text_mask: torch.Tensor


class MMERModel(MMERBackbone):
    """Frozen encoders, their embedding, and the shared transformer over what each row has."""

    _parts_above = ("readout.", "heads.", "state_heads.", "decoders.", "contrastive_head.")

    def __init__(self, config: MMERConfig):
        super().__init__(config)
        self.embedders = ModalityEmbedders.for_modalities(config, config.modalities)
        self.transformer = SharedTransformer(config)
        self.masking = TokenMasking(config)
        self.post_init()

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **inputs: Unpack[MMERInputs],
    ) -> MMERModelOutput:
        """One pass over what each row has.

        Args:
            input_features: as in [`MMERInputs`], which has the other inputs.
            output_hidden_states: give the shared transformer's; default: the config's. Numbers of hidden states,
                negative ones from the end, give these alone, and None in place of the others.
            output_attentions: give the shared transformer's; default: the config's.
        """
        tokens = self.embed(input_features=input_features, **inputs)
        return self.run_one_pass(tokens, output_hidden_states, output_attentions)[1]

    def run_one_pass(
        self,
        tokens: dict[str, ModalityTokens],
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
    ) -> tuple[PassOutput, MMERModelOutput]:
        """The pass over all that each row has, and what the model returns of it."""
        record = {name: [] for name in self.recorded(output_hidden_states, output_attentions)}
        of_pass = show(tokens, self.config.modalities)
        output = self.transformer({"all": of_pass}, one_call=True, record=record)["all"]
        if "hidden_states" in record and not isinstance(output_hidden_states, (bool, type(None))):
            record["hidden_states"] = only(record["hidden_states"], output_hidden_states)
        recorded = {name: tuple(values) for name, values in record.items()}
        sequence, mask = output.sequence, output.mask.long()
        return output, MMERModelOutput(last_hidden_state=sequence, sequence_mask=mask, **recorded)

    def recorded(self, output_hidden_states=None, output_attentions=None) -> list[str]:
        """Which of `hidden_states` and `attentions` are asked for, in a call or else by the config."""
        asked = {"hidden_states": output_hidden_states, "attentions": output_attentions}
        by_config = {name: getattr(self.config, f"output_{name}") for name in asked}
        return [name for name, value in asked.items() if (by_config[name] if value is None else value)]

    def embed(self, **inputs: Unpack[MMERInputs]) -> dict[str, ModalityTokens]:
        """Tokens of each modality that the batch has (Eq. 1, 2).

        Raises:
            ValueError: an example has no modality, or raw inputs meet a model without encoders.
        """
        return self.embedders(self.encoders.pending(inputs))


class MMERForEmotionRecognition(MMERPreTrainedModel):
    """MMER with its task heads, and with the parts that only training needs: MAE decoders (Eq. 4) and g (Eq. 6)."""

    def __init__(self, config: MMERConfig):
        super().__init__(config)
        self.model = MMERModel(config)
        self.readout = Readout(config)
        self.heads = TaskHeads(config, partial(TaskHead, inputs=self.readout.width))
        self.state_heads = StateHeads(config) if config.state_heads else None
        self.decoders = StateDecoders(config)
        self.contrastive_head = ContrastiveHead(config)
        self._untrained: set[str] = set()  # the parts that `freeze_untrained` froze
        self.post_init()
        self.model.freeze_encoders()

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of the terms of Eq. 7."""
        config = self.config
        weights = {"supervised": config.lambda_supervised, "mae": config.lambda_mae}
        of_states = {"state_heads": config.lambda_supervised} if config.state_heads else {}
        return {**weights, "contrastive": config.lambda_contrastive, **of_states}

    def freeze_untrained(self):
        """Stop the gradient of the parts whose term has λ = 0: they are not trained, and not counted as trained. Once λ
        is raised they are trained again."""
        parts = {
            "supervised": ("readout", "heads", "state_heads"),
            "mae": ("decoders", "masking"),
            "contrastive": ("contrastive_head",),
        }
        for term, names in parts.items():
            wanted = self.loss_weights[term] > 0
            for name in names:
                part = self.model.masking if name == "masking" else getattr(self, name)
                if part is not None and (not wanted or name in self._untrained):  # not what others have frozen
                    part.requires_grad_(wanted)
                    (self._untrained.discard if wanted else self._untrained.add)(name)

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        labels: dict[str, torch.Tensor] | torch.Tensor | None = None,
        return_combinations: bool = False,
        smoothing: float = 0.0,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **inputs: Unpack[MMERInputs],
    ) -> MMEROutput:
        """Recognise emotion from what each row has.

        Args:
            input_features: as in [`MMERInputs`], which has the other inputs.
            labels: `emotion`, `sentiment` (B,) long, −100 = not labelled; `valence`, `arousal`, `dominance` (B,) on the
                corpus's scale, NaN = not labelled; `emotion_votes` (B, K), all zero = no votes, which the loss follows
                with `soft_labels`; or a tensor, of the emotions alone. With them the loss is computed, over every
                combination a row has.
            return_combinations: also without labels, predict from every combination that each row has, and not from the
                fullest alone.
            smoothing: of the cross-entropies of all class tasks.
            output_hidden_states: give those of the pass over all that each row has; it is a pass of its own where every
                combination is evaluated.
            output_attentions: give those of the same pass.
        """
        inputs = {"input_features": input_features, **inputs}
        options = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        if labels is None and not return_combinations:
            return self._predict_fullest(inputs, options)
        rows = next((len(value) for value in inputs.values() if value is not None), None)
        if labels is not None and rows is not None:  # first, while an accelerator has nothing to do that it waits for
            labels = read_labels(labels, self.config.tasks, rows)
        tokens = self.model.embed(**inputs)
        outputs = self._predict_combinations(tokens, labels, smoothing)
        if self.model.recorded(**options):
            for name, value in _recorded(self.model.run_one_pass(tokens, **options)[1]).items():
                outputs[name] = value
        return outputs

    def _predict_fullest(self, inputs, options) -> MMEROutput:
        tokens = self.model.embed(**inputs)
        output, outputs = self.model.run_one_pass(tokens, **options)
        predictions = self.heads(self.readout(output))
        if self.state_heads is not None:
            of_states = self.state_heads.logits(tokens, self.config.modalities)
            predictions = self.state_heads.join(predictions, of_states, self.state_heads.fullest(tokens))
        return MMEROutput.of(predictions, **_recorded(outputs))

    def _predict_combinations(self, tokens, labels, smoothing) -> MMEROutput:
        combinations, modalities = self.config.combinations, self.config.modalities
        passes = {name: show(tokens, shown, whole=True) for name, shown in combinations.items()}
        present = {name: of_pass.rows for name, of_pass in passes.items()}
        if self.training and self.config.lambda_supervised == 0:
            passes = {m: passes[m] for m in modalities}  # what the contrastive term compares: no prediction is trained
        with_mae = labels is not None and self._wants("decoders", self.config.lambda_mae)
        if with_mae:
            with_mask, masked = self.model.masking(tokens)
            passes["masked"] = show(with_mask, modalities)
        outputs = self.model.transformer(passes)

        predictions = {name: self.heads(self.readout(outputs[name])) for name in combinations if name in outputs}
        batch = {"predictions": predictions, "labels": labels, "present": present}
        if self.state_heads is not None:
            of_states = {name: self.state_heads.logits(tokens, combinations[name]) for name in predictions}
            batch["of_states"] = of_states
            numbers = {name: number for number, name in enumerate(combinations)}
            predictions = {n: self.state_heads.join(predictions[n], of_states[n], numbers[n]) for n in predictions}
        embeds = {}
        with_contrast = labels is not None and self._wants("contrastive_head", self.config.lambda_contrastive)
        if with_contrast or (not self.training and self.contrastive_head is not None):
            embeds = {m: self.contrastive_head(outputs[m], m, tokens.get(m)) for m in modalities}
        if labels is None:
            return MMEROutput.of_combinations(predictions, present, embeds)

        if with_mae:
            batch["errors"] = self.decoders(outputs["masked"], tokens, masked)
        if with_contrast:
            batch["embeds"] = embeds
        losses = self._losses(smoothing=smoothing, **global_batch(batch, self.training))
        loss = total_loss(losses, self.loss_weights)
        return MMEROutput.of_combinations(predictions, present, embeds, loss=loss, losses=losses)

    def _losses(
        self, predictions, labels, present, smoothing, of_states=None, errors=None, embeds=None
    ) -> dict[str, torch.Tensor]:
        """The terms of Eq. 7 of a global batch, and each task's part of the first.

        Eq. 6 is of audio and text; with more modalities, it is the mean over their pairs.
        """
        losses = {}
        if self.config.lambda_supervised > 0 or (errors is None and embeds is None):
            losses |= supervised_loss(predictions, labels, present, self.config.tasks, smoothing)
            if of_states is not None:
                tasks = [task for task in self.config.tasks if task.is_class]
                of_states = supervised_loss(of_states, labels, present, tasks, smoothing)
                losses["state_heads"] = of_states["supervised"]
        if errors is not None:
            losses["mae"] = errors.mean()
        if embeds is not None:
            pairs = [pair for pair in self.config.combinations.values() if len(pair) == 2]
            how = (self.config.contrastive_form, self.contrastive_head.scale)
            of_pairs = [contrastive_loss(embeds[a], embeds[b], present[f"{a}_{b}"], *how) for a, b in pairs]
            losses["contrastive"] = torch.stack(of_pairs).mean()
        return losses

    def _wants(self, part: str, weight: float) -> bool:
        """Whether a term is to be computed; its λ may ask for a part that the checkpoint left out."""
        if weight > 0 and getattr(self, part) is None and self.training:
            name = {"decoders": "lambda_mae", "contrastive_head": "lambda_contrastive"}[part]
            raise ValueError(
                f"This checkpoint was saved without its {part}, so {name}={weight} cannot be trained: set {name}=0, or "
                "start from a whole checkpoint."
            )
        return weight > 0 and getattr(self, part) is not None


def _recorded(outputs: MMERModelOutput) -> dict:
    return {name: outputs.get(name) for name in ("last_hidden_state", "hidden_states", "attentions")}


MMERModel.register_for_auto_class("AutoModel")
MMERForEmotionRecognition.register_for_auto_class("AutoModelForAudioClassification")

__all__ = ["MMERModel", "MMERForEmotionRecognition", "MMERModelOutput", "MMEROutput", "MMERPreTrainedModel"]
