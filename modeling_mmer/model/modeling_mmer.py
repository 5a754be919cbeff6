"""MMER: one transformer over whatever modalities an utterance has (Chochlakis et al., Eq. 1–7).

`MMERModel` is the frozen encoders, the embedding of their states and the shared transformer.
`MMERForEmotionRecognition` adds the task heads and, for training, the masked autoencoder and the contrastive head.
Where the parts live: `encoders` (raw inputs → states), `embedding` (states → tokens, and back), `passes` and
`transformer` (tokens → z), `losses`, `checkpoints`.

Shapes: B examples, L+1 encoder states, T_a frames, T_t text tokens, D encoder width, N_m tokens of modality m after
projection (N_a = ceil(T_a / k), N_t = T_t), S positions of a sequence CLS | audio | SEP | text, d shared width.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from .backbone import MMERBackbone
from .configuration_mmer import MMERConfig
from .embedding import ModalityEmbedder, ModalityTokens, StateDecoder, embed_states
from .heads import TaskHeads, supervised
from .losses import contrastive_loss, draw_mask, gatherer, reconstruction_errors, total_loss
from .modeling_base import MMERPreTrainedModel
from .outputs import MMERModelOutput, MMEROutput, name_predictions, void_rows
from .passes import COMBINATIONS, MODALITIES, Contextual, Pass, assemble, fullest, run_alone, shown_of, split_sequence
from .pipeline_mmer import MMERPipeline  # noqa: F401 — an import is what makes save_pretrained copy the file
from .transformer import SharedTransformer, only


class MMERModel(MMERBackbone):
    """Frozen encoders, their embedding, and the shared transformer over what each row has."""

    _parts_above = ("heads.", "decoders.", "contrastive_head.")

    def __init__(self, config: MMERConfig):
        super().__init__(config)
        self.embedders = nn.ModuleDict(
            {
                modality: ModalityEmbedder(
                    *self.states_shape(modality),
                    hidden_size=config.hidden_size,
                    stride=config.audio_stride if modality == "audio" else 1,
                    standardize=config.state_normalization == "standardize",
                )
                for modality in MODALITIES
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.sep_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.transformer = SharedTransformer(config)
        self.post_init()
        self.freeze_encoders()

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        input_values_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_hidden_states: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        judge: Callable[[dict[str, ModalityTokens]], MMEROutput] | None = None,
        **kwargs,
    ) -> MMERModelOutput | MMEROutput:
        """One pass over what each row has. Inputs as in [`MMERModel.embed`].

        Args:
            judge: of a model that builds on this one, what it makes of the tokens in place of the one pass. It runs in
                here, where this module's own weights are at hand even if they are offloaded otherwise.
            output_hidden_states, output_attentions: give the shared transformer's; default: the config's. Numbers of
                hidden states, negative ones from the end, give these alone, and None in place of the others.
        """
        tokens = self.embed(
            input_features=input_features,
            input_features_mask=input_features_mask,
            input_values=input_values,
            input_values_mask=input_values_mask,
            input_ids=input_ids,
            attention_mask=attention_mask,
            audio_hidden_states=audio_hidden_states,
            audio_mask=audio_mask,
            text_hidden_states=text_hidden_states,
            text_mask=text_mask,
        )
        return self.show_all(tokens, **kwargs) if judge is None else judge(tokens)

    def show_all(
        self,
        tokens: dict[str, ModalityTokens],
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> MMERModelOutput:
        """The one pass over all that each row has, with what is recorded of it."""
        sequence, mask = assemble(self.clean_pass(tokens, MODALITIES), *self.special_tokens)
        record = {name: [] for name in self.recorded(output_hidden_states, output_attentions)}
        z = self.transformer(sequence, mask, record=record, **kwargs)
        if "hidden_states" in record and not isinstance(output_hidden_states, (bool, type(None))):
            record["hidden_states"] = only(record["hidden_states"], output_hidden_states)
        recorded = {name: tuple(values) for name, values in record.items()}
        return MMERModelOutput(last_hidden_state=z, sequence_mask=mask.long(), **recorded)

    def recorded(
        self, output_hidden_states: bool | int | list[int] | None = None, output_attentions: bool | None = None, **_
    ) -> list[str]:
        """Which of `hidden_states` and `attentions` are asked for, in a call or else by the config."""
        asked = {"hidden_states": output_hidden_states, "attentions": output_attentions}
        by_config = {name: getattr(self.config, f"output_{name}") for name in asked}
        return [name for name, value in asked.items() if (by_config[name] if value is None else value)]

    # ── raw inputs → states → tokens ────────────────────────────────────────────────────────────────────────────────

    def embed(self, **inputs: torch.Tensor | None) -> dict[str, ModalityTokens]:
        """Tokens of each modality that the batch has (Eq. 1, 2).

        Args:
            input_features (B, mels, frames), input_features_mask (B, frames): for Whisper-shaped encoders; or
            input_values (B, samples), input_values_mask (B, samples): for raw-waveform ones.
            input_ids, attention_mask (B, T_t).
            audio_hidden_states (B, L+1, T_a, D_a), audio_mask (B, T_a) and text_hidden_states (B, L+1, T_t, D_t),
            text_mask (B, T_t): encoder states in place of raw inputs.
            A row without a modality has an all-zero mask there; a missing mask means that everything is real.

        Raises:
            ValueError: an example has neither modality, or raw inputs meet a model without encoders.
        """
        return embed_states(self.embedders, self.read(**inputs), self.training)

    @property
    def special_tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cls_token, self.sep_token

    # ── tokens → passes → z ─────────────────────────────────────────────────────────────────────────────────────────

    def clean_pass(self, tokens: dict[str, ModalityTokens], modalities: tuple[str, ...], whole: bool = False) -> Pass:
        """The pass that shows `modalities`, everything else hidden; `whole` drops rows that lack any of them."""
        shown = shown_of(tokens, modalities, whole)
        return Pass({m: t.hidden + t.type_embedding for m, t in tokens.items()}, shown)

    def masked_pass(self, tokens: dict[str, ModalityTokens]) -> tuple[Pass, dict[str, torch.Tensor]]:
        """The pass of the autoencoder, over all that each row has, and which tokens (B, N_m) MASK replaces.

        MASK takes the place of h before v^m is added: a masked token still shows its modality.
        """
        masked = {m: draw_mask(t.mask, self.config.mask_ratio, fixed=not self.training) for m, t in tokens.items()}
        with_mask = {
            m: replace(t, hidden=torch.where(masked[m].unsqueeze(-1), self.mask_token, t.hidden))
            for m, t in tokens.items()
        }
        return self.clean_pass(with_mask, MODALITIES), masked

    def contextualize(self, passes: dict[str, Pass], one_call: bool | None = None) -> dict[str, Contextual]:
        """Run passes through the shared transformer, in one padded call or in one call each, with equal results.

        One call keeps a GPU busy; on a CPU leaving out what a pass hides is faster (`benchmarks/train_step.py`).
        """
        some = next(iter(passes.values())).embeddings
        if one_call is None:
            one_call = next(iter(some.values())).device.type != "cpu"
        if not one_call:
            return {name: run_alone(p, *self.special_tokens, self.transformer) for name, p in passes.items()}
        sequences, masks = zip(*(assemble(p, *self.special_tokens) for p in passes.values()), strict=True)
        contextual = self.transformer(torch.cat(sequences), torch.cat(masks)).chunk(len(passes))
        return {name: split_sequence(z, of_pass) for (name, of_pass), z in zip(passes.items(), contextual, strict=True)}


class MMERForEmotionRecognition(MMERPreTrainedModel):
    """MMER with its task heads, and with the parts that only training needs: MAE decoders (Eq. 4) and g (Eq. 6)."""

    def __init__(self, config: MMERConfig):
        super().__init__(config)
        self.model = MMERModel(config)
        self.heads = TaskHeads(config)
        self._untrained: set[str] = set()  # the parts that `freeze_untrained` froze
        original = config.mae_target == "original"
        self.decoders = nn.ModuleDict(
            {
                modality: StateDecoder(
                    config.hidden_size,
                    encoder.hidden_size if original else config.hidden_size,
                    config.audio_stride if original and modality == "audio" else 1,
                    config.mae_upsampling,
                )
                for modality, encoder in (("audio", config.audio_config), ("text", config.text_config))
            }
        )
        self.contrastive_head = (
            nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), nn.ReLU())
            if config.contrastive_projection
            else nn.Identity()
        )
        self.post_init()
        self.model.freeze_encoders()

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of the terms of Eq. 7."""
        return {"supervised": 1.0, "mae": self.config.lambda_mae, "contrastive": self.config.lambda_contrastive}

    def freeze_untrained(self):
        """Stop the gradient of the parts whose term has λ = 0: they are not trained, and not counted as trained. Once λ
        is raised they are trained again."""
        parts = {
            "mae": [("mask_token", self.model.mask_token), ("decoders", self.decoders)],
            "contrastive": [("contrastive_head", self.contrastive_head)],
        }
        for term, of_term in parts.items():
            wanted = self.loss_weights[term] > 0
            for name, part in of_term:
                if part is not None and (not wanted or name in self._untrained):  # not what others have frozen
                    part.requires_grad_(wanted)
                    (self._untrained.discard if wanted else self._untrained.add)(name)

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        input_values_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_hidden_states: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        labels: dict[str, torch.Tensor] | torch.Tensor | None = None,
        return_combinations: bool = False,
        smoothing: float = 0.0,
        **kwargs,
    ) -> MMEROutput:
        """Recognise emotion from what each row has. Inputs as in [`MMERModel.embed`].

        Args:
            labels: `emotion`, `sentiment` (B,) long, −100 = not labelled; `valence`, `arousal`, `dominance` (B,) on the
                corpus's scale, NaN = not labelled; or a tensor, of the emotions alone. With them the loss is computed,
                over every combination a row has.
            return_combinations: also without labels, judge every combination each row has instead of the fullest alone.
            smoothing: of the cross-entropies of emotion and sentiment.
            output_hidden_states, output_attentions: give those of the pass over all that each row has; it is a pass of
                its own where every combination is judged.
        """
        inputs = {
            "input_features": input_features,
            "input_features_mask": input_features_mask,
            "input_values": input_values,
            "input_values_mask": input_values_mask,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "audio_hidden_states": audio_hidden_states,
            "audio_mask": audio_mask,
            "text_hidden_states": text_hidden_states,
            "text_mask": text_mask,
        }
        if labels is None and not return_combinations:
            return self._infer(inputs, **kwargs)
        judge = partial(self._judge_combinations, labels=labels, smoothing=smoothing, **kwargs)
        return self.model(**inputs, judge=judge, return_dict=True)

    def _infer(self, inputs, **kwargs) -> MMEROutput:
        outputs = self.model(**inputs, **kwargs, return_dict=True)
        predictions = self.heads(outputs.last_hidden_state[:, 0])
        return MMEROutput(
            **name_predictions(predictions),
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _judge_combinations(self, tokens, labels, smoothing, **kwargs) -> MMEROutput:
        passes = {name: self.model.clean_pass(tokens, m, whole=True) for name, m in COMBINATIONS.items()}
        with_mae = labels is not None and self._wants("decoders", self.config.lambda_mae)
        with_contrast = labels is not None and self._wants("contrastive_head", self.config.lambda_contrastive)
        if with_mae:
            passes["masked"], masked = self.model.masked_pass(tokens)
        contextual = self.model.contextualize(passes)
        present = {name: passes[name].rows for name in COMBINATIONS}
        predictions = {name: self.heads(contextual[name].cls) for name in COMBINATIONS}
        embeds = {}
        if with_contrast or (not self.training and self.contrastive_head is not None):
            embeds = {m: self.pool(contextual[m], tokens, m) for m in MODALITIES}

        losses = None
        if labels is not None:
            losses = supervised(self, predictions, labels, present, smoothing)
            if with_mae:
                losses["mae"] = self._mae(contextual["masked"], tokens, masked)
            if with_contrast:
                losses["contrastive"] = self._contrastive(embeds, present["audio_text"])
        combinations = {name: void_rows(predictions[name], ~present[name]) for name in COMBINATIONS}
        shown = self.model.show_all(tokens, **kwargs) if self.model.recorded(**kwargs) else MMERModelOutput()
        return MMEROutput(
            loss=None if losses is None else total_loss(losses, self.loss_weights),
            losses=losses,
            **name_predictions(fullest(predictions, present)),
            **{f"{m}_embeds": z.masked_fill(~present[m][:, None], torch.nan) for m, z in embeds.items()},
            combinations=combinations,
            last_hidden_state=shown.last_hidden_state,
            hidden_states=shown.hidden_states,
            attentions=shown.attentions,
        )

    def pool(self, contextual: Contextual, tokens: dict[str, ModalityTokens], modality: str) -> torch.Tensor:
        """z^m = g(mean_j z_j^m) over the modality's real tokens, not CLS, not SEP: (B, d)."""
        if modality not in contextual.tokens:
            return self.contrastive_head(contextual.cls)
        mask = tokens[modality].mask.unsqueeze(-1)
        mean = (contextual.tokens[modality] * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self.contrastive_head(mean)

    # ── the terms of Eq. 7, over the global batch ───────────────────────────────────────────────────────────────────

    def _mae(self, contextual: Contextual, tokens, masked) -> torch.Tensor:
        """Eq. 5: the errors of both modalities added, averaged over the N examples of the batch."""
        gather = gatherer(self.training)
        total = contextual.cls.sum(-1).float() * 0.0  # (B,)
        for modality, z in contextual.tokens.items():
            of_modality, where = tokens[modality], masked[modality]
            if self.config.mae_target == "original":
                target, counted = of_modality.states, of_modality.states_mask
                if self.config.mae_detach_target:
                    target = target.detach()
                if self.config.mae_loss_on == "masked":
                    stride = self.model.embedders[modality].stride
                    counted = counted & where.repeat_interleave(stride, dim=1)[:, : counted.shape[1]]
            else:
                target, counted = of_modality.hidden, of_modality.mask
                if self.config.mae_loss_on == "masked":
                    counted = where
            reconstructed = self.decoders[modality](z, of_modality.mask, length=target.shape[1])
            total = total + reconstruction_errors(reconstructed, target, counted)
        return gather(total).mean()

    def _contrastive(self, embeds, paired) -> torch.Tensor:
        gather = gatherer(self.training)
        return contrastive_loss(
            gather(embeds["audio"]), gather(embeds["text"]), gather(paired), self.config.contrastive_form
        )

    def _wants(self, part: str, weight: float) -> bool:
        """Whether a term is to be computed; its λ may ask for a part that the checkpoint left out."""
        if weight > 0 and getattr(self, part) is None and self.training:
            name = {"decoders": "lambda_mae", "contrastive_head": "lambda_contrastive"}[part]
            raise ValueError(
                f"This checkpoint was saved without its {part}, so {name}={weight} cannot be trained: set {name}=0, or "
                "start from a whole checkpoint."
            )
        return weight > 0 and getattr(self, part) is not None


MMERModel.register_for_auto_class("AutoModel")
MMERForEmotionRecognition.register_for_auto_class("AutoModelForAudioClassification")

__all__ = ["MMERModel", "MMERForEmotionRecognition", "MMERModelOutput", "MMEROutput", "MMERPreTrainedModel"]
