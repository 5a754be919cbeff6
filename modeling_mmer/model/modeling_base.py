"""What every MMER model does alike: initialisation, loading and saving both forms of a checkpoint, and the backbone of
frozen encoders below it.

A light checkpoint names its encoders, which are fetched; a self-contained one holds their weights. Nothing is ever
filled in at random: a weight that is missing or unexpected is an error.
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .autoencoder import TokenMasking
from .configuration_mmer import MMERConfig
from .embedding import ModalityEmbedder, StateMixer
from .encoder_weights import loading_reports_off
from .encoders import FrozenEncoders
from .heads import INITIAL_LOGIT_SCALE, ContrastiveHead
from .hub_names import commit_of, hub_options
from .state_heads import StateHead, StateHeads
from .transformer import SharedTransformer

logger = logging.get_logger(__name__)


class MMERPreTrainedModel(PreTrainedModel):
    """Initialisation, and loading of both forms of a checkpoint: light (encoders by name) and self-contained."""

    config: MMERConfig
    config_class = MMERConfig
    base_model_prefix = "model"
    main_input_name = "input_features"
    input_modalities = ("audio", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: a Trainer divides it by its accumulation steps
    _no_split_modules = ["MMERLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    # Parts that only training needs: a checkpoint may leave out any of them, whole.
    _training_parts = ("decoders", "contrastive_head")
    # Parts of a whole checkpoint that a core leaves unread.
    _parts_above: tuple[str, ...] = ()

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the combinations that the model predicts from, the fullest last."""
        return tuple(self.config.combinations)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SharedTransformer):
            init.normal_(module.cls_token, std=self.config.initializer_range)
            init.normal_(module.sep_token, std=self.config.initializer_range)
        elif isinstance(module, ContrastiveHead) and module.logit_scale is not None:
            init.constant_(module.logit_scale, INITIAL_LOGIT_SCALE)
        elif isinstance(module, StateHead):
            init.zeros_(module.weight)
        elif isinstance(module, StateHeads):
            for task in module.tasks:
                init.constant_(module.balance(task), 0.5)
        elif isinstance(module, TokenMasking):
            init.normal_(module.mask_token, std=self.config.initializer_range)
        elif isinstance(module, StateMixer):
            init.zeros_(module.layer_logits)  # uniform layer weights
            if isinstance(module, ModalityEmbedder):
                init.normal_(module.type_embedding, std=self.config.initializer_range)
            if module.standardizer is not None:
                init.zeros_(module.standardizer.mean)
                init.ones_(module.standardizer.std)
                init.zeros_(module.standardizer.calibrated)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        output_loading_info=False,
        ignore_mismatched_sizes=False,
        with_encoders=True,
        **kwargs,
    ):
        """Load a checkpoint of either form. Encoders named by a light one are fetched and frozen, unless
        `with_encoders=False`: the model then takes encoder states.

        What says where to look (`cache_dir`, `token`, `local_files_only`, `force_download`) holds for the encoders'
        repositories too; `revision` and `subfolder` are of this checkpoint alone.

        Raises:
            OSError: there is no such checkpoint, or an encoder that it names cannot be had.
            ValueError: a weight is missing, unexpected or of another shape, or `emotion_labels` or `sentiment_labels`
                are not those that a head was trained for. Only parts that inference never runs may be left out;
                `ignore_mismatched_sizes=True` allows other shapes and labels: what they concern starts anew.
        """
        hub = hub_options(kwargs)
        where = {name: kwargs[name] for name in ("revision", "subfolder") if kwargs.get(name)} | hub
        if pretrained_model_name_or_path is not None and kwargs.get("config") is None:
            commit_of(str(pretrained_model_name_or_path), **where)
        with loading_reports_off():  # what they warn of is an error below
            model, info = super().from_pretrained(
                pretrained_model_name_or_path,
                *args,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # or loading ends before anything could be said
                **kwargs,
            )
        model._drop_absent_training_parts(info)
        if pretrained_model_name_or_path is not None:
            stored, _ = cls.config_class.get_config_dict(pretrained_model_name_or_path, **where)
            model._renew_relabelled_heads(stored, info)
        model._refuse_broken(pretrained_model_name_or_path, info, ignore_mismatched_sizes)
        if with_encoders and model.config.audio_encoder_name_or_path is not None:
            model.load_encoders(**hub)
        model.base_model.freeze_encoders()  # loading forgets requires_grad=False
        return (model, info) if output_loading_info else model

    def save_pretrained(self, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`; a sharded model is saved as what it is without FSDP, and one from a
        folder without code, such as the model of the package, with its code.

        FSDP 2 gives a module a class of its own, made of its wrapper and the module's class: what would be copied
        beside the weights, and named in the config, is torch's code and not ours.
        """
        for field in fields(type(self.config)):
            if field.name in ("auto_map", "custom_pipelines") and not getattr(self.config, field.name):
                setattr(self.config, field.name, field.default_factory())
        current_class = type(self)
        if current_class.__name__.startswith("FSDP"):
            self.__class__ = current_class.__mro__[2]
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            self.__class__ = current_class

    @classmethod
    def from_audio_text_pretrained(cls, audio: str, text: str, **options):
        """A new model over two pretrained encoders, each a hub name or a folder; `options` as of
        [`MMERConfig.from_audio_text_pretrained`]."""
        config = cls.config_class.from_audio_text_pretrained(audio, text, **options)
        return cls(config).load_encoders(**hub_options(options))

    def load_encoders(self, **hub: Any):
        """Fetch and freeze the encoders that the config names; they are not saved with this model's own weights.

        Each is loaded from the commit that the config holds or, if it holds none, from the newest, which it then holds.

        Args:
            hub: where to look: `cache_dir`, `token`, `local_files_only`, `force_download`.

        Raises:
            ValueError: the config names no encoders, for the model is a self-contained one.
            OSError: an encoder cannot be had; the message says what to do.
        """
        encoders = self.base_model.encoders
        named = {modality: name for modality in encoders if (name := self.config.encoder_name(modality)) is not None}
        if not named:
            raise ValueError(
                f"The config names no {' or '.join(encoders)} encoder to load: the model is self-contained."
            )
        options = dict(hub)
        if (attention := self.config._attn_implementation) != "sdpa":  # asked for; by default each takes its best
            options["attn_implementation"] = attention
        # What is offloaded is on no device of its own.
        device = next((p.device for p in self.parameters() if p.device.type != "meta"), torch.device("cpu"))
        for modality, name in named.items():
            commit = commit_of(name, self.config.encoder_revision(modality), **hub)
            dtype = encoders[modality].dtype or self.dtype
            encoders[modality].encoder = encoders[modality].fetch(name, commit, dtype=dtype, **options).to(device)
            encoders[modality].freeze()
            setattr(self.config, f"{modality}_encoder_revision", commit)
        self._leave_out_encoders()
        return self

    def cast_encoders(self, dtype: torch.dtype):
        """Let the frozen encoders run in `dtype`, also those that are loaded later. All else keeps its own."""
        for encoder in self.base_model.encoders.values():
            encoder.dtype = dtype
            if encoder.encoder is not None:
                encoder.encoder.to(dtype)
        return self

    def make_light(self, audio: str, text: str, **hub):
        """Let `save_pretrained` name the encoders, each a hub name or a folder, instead of writing them.

        Raises:
            ValueError: an encoder of that name does not have the weights of the one here.
            OSError: there is none of that name.
        """
        fields = {}
        for modality, name in (("audio", audio), ("text", text)):
            own, commit = self.base_model.encoders[modality], commit_of(name, **hub)
            weights = own.encoder.state_dict()
            named = own.fetch(name, commit, **hub).to(self.dtype).state_dict()
            if weights.keys() != named.keys() or any(not torch.equal(weights[k].cpu(), named[k]) for k in weights):
                raise ValueError(
                    f"The {modality} encoder of this model does not have the weights of {name}: it must be saved whole."
                )
            fields |= {f"{modality}_encoder_name_or_path": name, f"{modality}_encoder_revision": commit}
        for field, value in fields.items():
            setattr(self.config, field, value)
        self._leave_out_encoders()
        return self

    def make_self_contained(self):
        """Let `save_pretrained` write the encoders too: the checkpoint then needs no other repository."""
        for module in {self, self.base_model}:
            module._keys_to_ignore_on_save = set()
        for modality in ("audio", "text"):
            setattr(self.config, f"{modality}_encoder_name_or_path", None)
            setattr(self.config, f"{modality}_encoder_revision", None)
        return self

    def _leave_out_encoders(self):
        for module in {self, self.base_model}:
            module._keys_to_ignore_on_save = {
                name for name in module.state_dict() if name.startswith(("encoders.", "model.encoders."))
            }

    def _drop_absent_training_parts(self, info):
        for part in self._training_parts:
            module = getattr(self, part, None)
            names = {f"{part}.{name}" for name, _ in module.named_parameters()} if module is not None else set()
            if names and names <= set(info["missing_keys"]):
                setattr(self, part, None)
                info["missing_keys"] = type(info["missing_keys"])(set(info["missing_keys"]) - names)

    @torch.no_grad()
    def _renew_relabelled_heads(self, stored: dict, info):
        """Start the last layer of a head anew if its classes are not the stored ones, though they may be as many.

        Without `nn.init`, whose functions transformers replaces while a model is loaded, in this or another thread, by
        some that leave weights from a checkpoint as they are.
        """
        mismatched = {key[0] for key in info["mismatched_keys"]}
        heads = getattr(self, "heads", {})
        for task in self.config.tasks:
            if not task.is_class or task.name not in heads:
                continue
            field, head = f"{task.name}_labels", heads[task.name]
            if task.classes == tuple(stored.get(field, getattr(type(self.config), field))):
                continue
            layers = {f"heads.{task.name}.{len(head) - 1}": head[-1]}
            if (state_heads := getattr(self, "state_heads", None)) is not None:
                layers |= {f"state_heads.{m}.{task.name}": of_tasks[task.name] for m, of_tasks in state_heads.items()}
                state_heads.balance(task.name).fill_(0.5)
            for place, layer in layers.items():
                if f"{place}.weight" in mismatched:
                    continue
                std = 0.0 if isinstance(layer, StateHead) else self.config.initializer_range
                layer.weight.normal_(std=std)
                layer.bias.zero_()
                for name, parameter in layer.named_parameters():
                    info["mismatched_keys"].add((f"{place}.{name}", parameter.shape, parameter.shape))

    def _refuse_broken(self, source, info, ignore_mismatched_sizes):
        unexpected = {name for name in info["unexpected_keys"] if not name.startswith(self._parts_above)}
        misshapen = sorted(key[0] for key in info["mismatched_keys"])
        if misshapen and ignore_mismatched_sizes:
            logger.warning(f"Newly initialised, for other labels or shapes, and to be trained: {', '.join(misshapen)}.")
            misshapen = []
        if info["missing_keys"] or unexpected or misshapen:
            raise ValueError(
                f"{source} does not fit {type(self).__name__}: missing weights {sorted(info['missing_keys'])}, "
                f"unexpected weights {sorted(unexpected)}, weights of another shape or for other labels {misshapen}. "
                "Nothing is filled in at random: check that the folder is a whole checkpoint with the config.json it "
                "was saved with, or, to fine-tune to other labels, give ignore_mismatched_sizes=True."
            )


class MMERBackbone(MMERPreTrainedModel):
    """Frozen encoders and what mixes their states (Eq. 1), which the model that builds on it fills in `embedders`."""

    def __init__(self, config: MMERConfig, modalities: Iterable[str] | None = None):
        super().__init__(config)
        self.encoders = FrozenEncoders(config, config.modalities if modalities is None else modalities)

    def post_init(self):
        super().post_init()
        self.freeze_encoders()

    def freeze_encoders(self):
        for encoder in self.encoders.values():
            encoder.freeze()

    def get_input_embeddings(self) -> nn.Module | None:
        """The token embeddings of the text encoder; None where it is not loaded."""
        text = self.encoders["text"].encoder if "text" in self.encoders else None
        return None if text is None else text.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.encoders["text"].encoder.set_input_embeddings(value)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[dict[str, torch.Tensor]]):
        """Set the statistics of `state_normalization="standardize"` from the real frames of training batches.

        Under several processes each gives its own share of the batches, and all end up with the same statistics.
        """
        sums = {m: torch.zeros_like(e.standardizer.moments()) for m, e in self.embedders.items()}
        for batch in batches:
            for modality, (states, mask) in self.encoders(batch).items():
                if mask.any():
                    sums[modality] += self.embedders[modality].standardizer.moments(states.transpose(1, 2)[mask])
        for modality, embedder in self.embedders.items():
            embedder.standardizer.set_statistics(sums[modality])
