"""Configuration of MMER: every choice of the paper as a field whose default is the paper's value.

The encoders are described by `audio_config` and `text_config`. Their weights are either fetched by name
(`*_encoder_name_or_path` set: a light checkpoint of a few MB) or lie in the checkpoint itself (both names `None`: a
self-contained one). A name on the hub goes with the commit that was loaded, `*_encoder_revision`, and is loaded from
there again.
"""

import copyreg
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_rope_utils import RopeParameters

from .hub_names import commit_of, hub_options
from .tasks import DIMENSIONS, Task

if TYPE_CHECKING:
    # Never run, but read by transformers. It keeps a folder's code by the folder's name and a digest of a file with all
    # that it imports, and a config's class for ever loads the model's class that it was first loaded with. So the
    # digest must cover the model's code: two folders of one name and of two versions then load side by side.
    from .modeling_mmer import MMERModel  # noqa: F401

LABEL_FIELDS = ("emotion_labels", "id2label", "label2id", "num_labels")  # the ways of giving the emotions
MODALITIES = ("audio", "text")


def combinations(modalities: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every combination of modalities by its name, such as `audio_text`; the fullest last."""
    modalities = tuple(modalities)
    sizes = range(1, len(modalities) + 1)
    return {"_".join(chosen): chosen for size in sizes for chosen in itertools.combinations(modalities, size)}


COMBINATIONS = combinations(MODALITIES)


@strict
class MMERConfig(PreTrainedConfig):
    """Configuration of [`MMERModel`] and [`MMERForEmotionRecognition`].

    `id2label`, `label2id` and `num_labels` are those of the emotions, as in other classifiers. They always follow
    `emotion_labels`, and the emotions may be given as `id2label` or `label2id` instead.

    Raises:
        StrictDataclassError: a field has the wrong type, or two fields contradict each other (the message says which).
        ValueError: the emotions are given in two ways that differ.
    """

    model_type = "mmer"
    keys_to_ignore_at_inference = ["last_hidden_state", "hidden_states", "attentions"]
    sub_configs_defaults = {
        "audio_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="roberta"),
    }

    # Where remote code finds the classes: every checkpoint carries all entries, whichever class was saved.
    auto_map: dict[str, str] = field(
        default_factory=lambda: {
            "AutoConfig": "configuration_mmer.MMERConfig",
            "AutoModel": "modeling_mmer.MMERModel",
            "AutoModelForAudioClassification": "modeling_mmer.MMERForEmotionRecognition",
            "AutoModelForSequenceClassification": "modeling_mmer.MMERForEmotionRecognition",
        }
    )

    custom_pipelines: dict[str, dict] = field(
        default_factory=lambda: {
            "multimodal-emotion-recognition": {
                "impl": "pipeline_mmer.MMERPipeline",
                "pt": ["AutoModelForAudioClassification"],
                "type": "multimodal",
            }
        }
    )

    # In the order of the shared sequence (Eq. 3). Of a modality m, `m_config` and the other fields that start with its
    # name say the rest; a further one needs `m_config` with `num_hidden_layers` and `hidden_size`, and comes as states.
    modalities: list[str] | tuple[str, ...] = MODALITIES

    # Encoders (frozen)
    audio_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    audio_encoder_name_or_path: str | None = None  # None: the weights are in this checkpoint
    text_encoder_name_or_path: str | None = None
    audio_encoder_revision: str | None = None  # the commit on the hub that was loaded; None: the name is a folder's
    text_encoder_revision: str | None = None
    audio_context: Literal["full", "trimmed"] = "full"  # Whisper: its 30 s window, or the clip's own frames only
    audio_layers: list[int] | tuple[int, ...] | None = None  # which of the L+1 states are mixed; None: all (the paper)
    text_layers: list[int] | tuple[int, ...] | None = None
    state_normalization: Literal["none", "standardize"] = "none"  # "standardize" is our extension (see targets)
    audio_stride: int = 4  # k of Eq. 2

    # Shared transformer
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 512
    dropout: float | int = 0.5
    position_type: Literal["rope", "sinusoidal", "none"] = "rope"
    rope_parameters: RopeParameters | dict | None = None
    max_position_embeddings: int = 2048
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    # Tasks
    readout: Literal["cls", "mean", "attention"] = "cls"  # z at CLS; beside it, pooled tokens of each modality (ours)
    emotion_labels: list[str] | tuple[str, ...] = ("neutral", "happiness", "sadness", "anger")
    sentiment_labels: list[str] | tuple[str, ...] = ("negative", "neutral", "positive")
    dimensions: list[str] | tuple[str, ...] = DIMENSIONS
    label_scale: list[float | int] | tuple[float | int, ...] = (1, 7)  # lowest and highest value of a dimension
    emotion_class_weights: list[float | int] | None = None  # of the cross-entropies, in the labels' order
    sentiment_class_weights: list[float | int] | None = None
    soft_labels: bool = False  # train on the distribution of the votes for emotions, where rows have votes (ours)
    lambda_supervised: float | int = 1  # 0: train on the other two terms alone, without labels (ours)

    # Masked autoencoder (Eq. 4, 5)
    mae_target: Literal["original", "projected"] = "original"  # encoder embeddings H, or the projected h
    mae_target_norm: Literal["none", "frame"] = "none"  # "frame", each of H to mean 0 and deviation 1, is ours
    mae_upsampling: Literal["transposed", "linear"] = "transposed"  # of audio tokens to frames, by the decoder (Eq. 4)
    mae_loss_on: Literal["all", "masked"] = "all"
    mae_detach_target: bool = True  # of "original"; "projected" is never detached, or its collapse would not show
    mask_ratio: float | int = 0.5
    lambda_mae: float | int = 10

    # Contrastive learning (Eq. 6)
    contrastive_form: Literal["softmax", "ratio", "cosine"] = "softmax"  # "cosine", with a temperature, is ours
    contrastive_projection: bool = True  # g
    lambda_contrastive: float | int = 1

    def __post_init__(self, **kwargs):
        for name in ("modalities", "sentiment_labels", "dimensions", "label_scale"):
            setattr(self, name, list(getattr(self, name)))  # JSON knows no tuples
        given = {"id2label": self.id2label, "label2id": self.label2id, "num_labels": kwargs.pop("num_labels", None)}
        if self.emotion_labels is not type(self).emotion_labels:
            given["emotion_labels"] = self.emotion_labels
        self._set_emotions(agreed_labels(given, type(self).emotion_labels))
        super().__post_init__(**kwargs)

    def __setattr__(self, name, value):
        if name in LABEL_FIELDS and self.__dict__.get("_post_init_done"):
            self._set_emotions(agreed_labels({name: value}, self.emotion_labels))
        else:
            super().__setattr__(name, value)

    def _set_emotions(self, labels: list[str]):
        super().__setattr__("emotion_labels", labels)
        super().__setattr__("id2label", dict(enumerate(labels)))
        super().__setattr__("label2id", {label: index for index, label in enumerate(labels)})

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As `PreTrainedConfig.from_dict`; emotions among `kwargs` replace the stored ones, whichever way they are
        given, and the weights of the stored classes go with these."""
        asked = {name: kwargs.pop(name) for name in LABEL_FIELDS if kwargs.get(name) is not None}
        if asked:
            stored = list(config_dict.get("emotion_labels", cls.emotion_labels))
            kwargs["emotion_labels"] = agreed_labels(asked, stored)
            if kwargs["emotion_labels"] != stored:
                kwargs.setdefault("emotion_class_weights", None)
        return super().from_dict(config_dict, **kwargs)

    @classmethod
    def from_audio_text_pretrained(cls, audio: str, text: str, **options):
        """The config of a new model over two pretrained encoders, each a hub name or a folder.

        `options` are fields of the config, and `from_pretrained`'s options of where to look (`cache_dir`, `token`,
        `local_files_only`, `force_download`). An `audio_encoder_revision` or `text_encoder_revision` may be a branch, a
        tag or a commit; the config holds the commit.

        Raises:
            OSError: there is no such encoder.
        """
        hub = hub_options(options)
        fields = {name: value for name, value in options.items() if name not in hub}
        for modality, encoder in (("audio", audio), ("text", text)):
            commit = commit_of(encoder, fields.get(f"{modality}_encoder_revision"), **hub)
            fields[f"{modality}_config"] = AutoConfig.from_pretrained(encoder, revision=commit, **hub)
            fields[f"{modality}_encoder_name_or_path"] = encoder
            fields[f"{modality}_encoder_revision"] = commit
        return cls(**fields)

    @property
    def tasks(self) -> list[Task]:
        """What the heads predict: emotion, sentiment and the dimensions."""
        classes = [
            Task("emotion", tuple(self.emotion_labels), None, self.emotion_class_weights, self.soft_labels),
            Task("sentiment", tuple(self.sentiment_labels), class_weights=self.sentiment_class_weights),
        ]
        return classes + [Task(name, scale=tuple(self.label_scale)) for name in self.dimensions]

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks whose heads are trained: all, or none without the supervised term."""
        return self.tasks if self.lambda_supervised > 0 else []

    @property
    def combinations(self) -> dict[str, tuple[str, ...]]:
        """Every combination of the modalities by its name; the fullest last."""
        return combinations(self.modalities)

    def encoder_config(self, modality: str) -> PreTrainedConfig:
        return getattr(self, f"{modality}_config")

    def encoder_name(self, modality: str) -> str | None:
        """Where a modality's encoder is fetched from; None: it is in the checkpoint, or states come with the batch."""
        return getattr(self, f"{modality}_encoder_name_or_path", None)

    def encoder_revision(self, modality: str) -> str | None:
        """The commit of the encoder's hub name that was loaded; None of a folder, or before it is loaded."""
        return getattr(self, f"{modality}_encoder_revision", None)

    def layers(self, modality: str) -> list[int] | None:
        """Which of the L+1 states of a modality are mixed; None: all."""
        layers = getattr(self, f"{modality}_layers", None)
        return None if layers is None else list(layers)

    def states_shape(self, modality: str) -> tuple[int, int]:
        """L+1 and D of the states that are mixed of a modality."""
        encoder, layers = self.encoder_config(modality), self.layers(modality)
        return encoder.num_hidden_layers + 1 if layers is None else len(layers), encoder.hidden_size

    def stride(self, modality: str) -> int:
        """Frames of a modality that are one token: k of Eq. 2."""
        return getattr(self, f"{modality}_stride", 1)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def validate_transformer(self):
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of 2 × num_attention_heads "
                f"({self.num_attention_heads}): RoPE rotates pairs of each head's dimensions."
            )
        for name in ("num_hidden_layers", "num_attention_heads", "intermediate_size", "audio_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def validate_tasks(self):
        for name in ("emotion_labels", "sentiment_labels"):
            labels = getattr(self, name)
            if len(labels) < 2 or len(set(labels)) != len(labels):
                raise ValueError(f"{name} must name at least two different classes, not {labels}.")
        if unknown := set(self.dimensions) - set(DIMENSIONS):
            raise ValueError(f"dimensions must be among {', '.join(DIMENSIONS)}; got {', '.join(sorted(unknown))}.")
        if len(self.label_scale) != 2 or self.label_scale[0] >= self.label_scale[1]:
            raise ValueError(f"label_scale must be [lowest, highest], not {self.label_scale}.")
        for task in ("emotion", "sentiment"):
            weights, labels = getattr(self, f"{task}_class_weights"), getattr(self, f"{task}_labels")
            if weights is not None and len(weights) != len(labels):
                raise ValueError(f"{task}_class_weights has {len(weights)} values for the {len(labels)} {task}_labels.")

    def validate_objective(self):
        for name in ("dropout", "mask_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}.")
        weights = {name: getattr(self, name) for name in ("lambda_supervised", "lambda_mae", "lambda_contrastive")}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name} must not be negative, but is {weight}.")
        if not any(weights.values()):
            raise ValueError(f"{', '.join(weights)} are all 0: there is no term to train.")
        if self.contrastive_form == "ratio" and not self.contrastive_projection:
            raise ValueError(
                "contrastive_form='ratio' needs contrastive_projection=True: without g's ReLU a dot product can be "
                "negative, and the ratio of Eq. 6 has no logarithm."
            )

    def validate_encoders(self):
        if lacking := [f"{m}_config" for m in self.modalities if getattr(self, f"{m}_config", None) is None]:
            raise ValueError(
                f"Each of the modalities {', '.join(self.modalities)} needs a config: {', '.join(lacking)}."
            )
        for modality in self.modalities:
            if (layers := self.layers(modality)) is None:
                continue
            known = range(self.encoder_config(modality).num_hidden_layers + 1)
            if not layers or sorted(set(layers)) != layers or not set(layers) <= set(known):
                raise ValueError(
                    f"{modality}_layers must be states of the encoder in ascending order, each once, from 0 (the "
                    f"embedding output) to {known[-1]} (the last layer), not {layers}."
                )
        if (self.audio_encoder_name_or_path is None) != (self.text_encoder_name_or_path is None):
            raise ValueError(
                "Name both encoders (a light checkpoint) or neither (a self-contained one): "
                f"audio_encoder_name_or_path={self.audio_encoder_name_or_path!r}, "
                f"text_encoder_name_or_path={self.text_encoder_name_or_path!r}."
            )
        for modality in ("audio", "text"):
            revision = getattr(self, f"{modality}_encoder_revision")
            if revision is not None and getattr(self, f"{modality}_encoder_name_or_path") is None:
                raise ValueError(
                    f"{modality}_encoder_revision={revision!r} goes with the name of an encoder on the hub, and a "
                    "self-contained model has its encoders within it: leave it out."
                )


def agreed_labels(given: dict, current: Sequence[str]) -> list[str]:
    """The emotions in order, from any of `LABEL_FIELDS`; the `current` ones where none is given. With another number of
    them alone they have the names that transformers gives.

    Raises:
        ValueError: the names differ, are not numbered from 0, or are not as many as `num_labels`.
    """
    named = {}
    if given.get("emotion_labels") is not None:
        named["emotion_labels"] = list(given["emotion_labels"])
    if given.get("id2label") is not None:
        named["id2label"] = _in_order({int(index): label for index, label in given["id2label"].items()})
    if given.get("label2id") is not None:
        named["label2id"] = _in_order({int(index): label for label, index in given["label2id"].items()})
    labels = next(iter(named.values()), list(current))
    if any(others != labels for others in named.values()):
        said = "; ".join(f"{name}: {', '.join(map(str, names))}" for name, names in named.items())
        raise ValueError(f"The emotions are given in ways that differ ({said}): give one of {', '.join(named)}.")
    count = given.get("num_labels")
    if count in (None, len(labels)):
        return labels
    if named:
        raise ValueError(
            f"num_labels={count} contradicts the {len(labels)} emotions {', '.join(labels)}: leave it out."
        )
    return [f"LABEL_{index}" for index in range(count)]


def _in_order(labels: dict[int, str]) -> list[str]:
    if sorted(labels) != list(range(len(labels))):
        raise ValueError(f"id2label and label2id must number the emotions from 0 without a gap, not {sorted(labels)}.")
    return [labels[index] for index in range(len(labels))]


MMERConfig.register_for_auto_class()


def _pickle_by_message(error: Exception) -> tuple:
    return copyreg.__newobj__, (type(error), *error.args), error.__dict__


# The library's errors of a wrong config cannot be unpickled (`__init__` takes other arguments than `args` holds), and a
# pool whose worker raises one would wait for ever.
for _error in (StrictDataclassClassValidationError, StrictDataclassFieldValidationError):
    copyreg.pickle(_error, _pickle_by_message)

__all__ = ["MMERConfig"]
