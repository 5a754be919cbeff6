"""Configuration of MMER: every choice of the paper as a field whose default is the paper's value.

The encoders are described by `audio_config` and `text_config`. Their weights are either fetched by name
(`*_encoder_name_or_path` set: a light checkpoint of a few MB) or lie in the checkpoint itself (both names `None`: a
self-contained one). A name on the hub goes with the commit that was loaded, `*_encoder_revision`, and is loaded from
there again.
"""

import copyreg
import itertools
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_rope_utils import RopeParameters

from .hub_names import commit_of, hub_options
from .tasks import CLASS_TASKS, DIMENSIONS, Task

if TYPE_CHECKING:
    # Never run, but read by transformers. It keeps a folder's code by the folder's name and a digest of a file with all
    # that it imports, and a config's class for ever loads the model's class that it was first loaded with. So the
    # digest must cover the model's code: two folders of one name and of two versions then load side by side.
    from .modeling_mmer import MMERModel  # noqa: F401

LABEL_FIELDS = ("emotion_labels", "id2label", "label2id", "num_labels")  # the ways of giving the emotions
MODALITIES = ("audio", "text")


def combine(modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Every combination of modalities by its name, such as `audio_text`; the fullest last."""
    sizes = range(1, len(modalities) + 1)
    return {"_".join(chosen): chosen for size in sizes for chosen in itertools.combinations(modalities, size)}


COMBINATIONS = combine(MODALITIES)  # the paper's


@strict
class MMERConfig(PreTrainedConfig):
    """Configuration of [`MMERModel`] and [`MMERForEmotionRecognition`].

    `id2label`, `label2id` and `num_labels` are those of the emotions, as in other classifiers. They always follow
    `emotion_labels`, and the emotions may be given as `id2label` or `label2id` instead.

    Args:
        modalities: Modalities, in the order of the shared sequence (Eq. 3). For a modality m, the fields that start
            with its name say the rest. A further one needs `m_config` with `num_hidden_layers` and `hidden_size`, and
            comes as states or, in a column of its name, as vectors.
        audio_config: Config of the audio encoder.
        text_config: Config of the text encoder.
        audio_encoder_name_or_path: Hub name or folder of the audio encoder; None if its weights are in the checkpoint.
        text_encoder_name_or_path: Hub name or folder of the text encoder; None if its weights are in the checkpoint.
        audio_encoder_revision: Branch, tag or commit of the audio encoder on the hub; the latest commit by default.
        text_encoder_revision: Branch, tag or commit of the text encoder on the hub; the latest commit by default.
        audio_context: Input of Whisper encoders: full pads each clip to 30 s; trimmed encodes only its own frames.
        audio_layers: Hidden states of the audio encoder to mix, from 0 (embedding output) to L; all by default.
        text_layers: Hidden states of the text encoder to mix; all by default.
        state_normalization: standardize: standardise encoder states by training-split statistics (not in the paper).
        audio_stride: Number of audio encoder frames per token (k in Eq. 2).
        hidden_size: Width of the shared transformer.
        num_hidden_layers: Number of layers of the shared transformer.
        num_attention_heads: Number of attention heads per layer.
        intermediate_size: Width of the feed-forward layers.
        dropout: Dropout of the shared transformer and the heads.
        position_type: Position encoding.
        rope_parameters: Parameters of RoPE, as in other transformers.
        max_position_embeddings: Maximum sequence length, in tokens.
        layer_norm_eps: Epsilon of the layer norms.
        initializer_range: Standard deviation of the weight initialisation.
        readout: Input of the task heads: z at CLS, alone (cls) or with pooled tokens of each modality.
        emotion_labels: Emotion classes; other emotions count as unlabelled.
        sentiment_labels: Sentiment classes.
        dimensions: Dimensions to predict by regression.
        label_scale: Lowest and highest value of the dimensions.
        emotion_class_weights: Weights of the emotions in the cross-entropy.
        sentiment_class_weights: Weights of the sentiments in the cross-entropy.
        soft_labels: Train on the distribution of raters' votes where rows have them (an extension).
        lambda_supervised: Weight of the supervised loss; 0 trains on the other two without labels, for --model later.
        mae_target: Target of the masked autoencoder: the encoder states, or their projection (Table 2).
        mae_target_norm: Normalise each frame or token of the target to mean 0 and deviation 1 (frame; an extension).
        mae_upsampling: Upsampling from audio tokens to frames (Eq. 4).
        mae_loss_on: Tokens that count in the loss of the masked autoencoder.
        mae_detach_target: Stop the gradient at the target of the masked autoencoder, unless it is projected.
        mask_ratio: Fraction of the tokens of a modality that are masked.
        lambda_mae: Weight of the masked autoencoder loss; 0 disables it.
        contrastive_form: Form of the contrastive loss (Eq. 6); cosine, with a learned temperature, is an extension.
        contrastive_projection: Apply the projection g before the contrastive loss.
        lambda_contrastive: Weight of the contrastive loss; 0 disables it.

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

    modalities: list[str] | tuple[str, ...] = MODALITIES

    audio_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    audio_encoder_name_or_path: str | None = None
    text_encoder_name_or_path: str | None = None
    audio_encoder_revision: str | None = None
    text_encoder_revision: str | None = None
    audio_context: Literal["full", "trimmed"] = "full"
    audio_layers: list[int] | tuple[int, ...] | None = None
    text_layers: list[int] | tuple[int, ...] | None = None
    state_normalization: Literal["none", "standardize"] = "none"
    audio_stride: int = 4

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

    readout: Literal["cls", "mean", "attention"] = "cls"
    emotion_labels: list[str] | tuple[str, ...] = ("neutral", "happiness", "sadness", "anger")
    sentiment_labels: list[str] | tuple[str, ...] = ("negative", "neutral", "positive")
    dimensions: list[str] | tuple[str, ...] = DIMENSIONS
    label_scale: list[float | int] | tuple[float | int, ...] = (1, 7)
    emotion_class_weights: list[float | int] | None = None
    sentiment_class_weights: list[float | int] | None = None
    soft_labels: bool = False
    lambda_supervised: float | int = 1

    mae_target: Literal["original", "projected"] = "original"
    mae_target_norm: Literal["none", "frame"] = "none"
    mae_upsampling: Literal["transposed", "linear"] = "transposed"
    mae_loss_on: Literal["all", "masked"] = "all"
    mae_detach_target: bool = True
    mask_ratio: float | int = 0.5
    lambda_mae: float | int = 10

    contrastive_form: Literal["softmax", "ratio", "cosine"] = "softmax"
    contrastive_projection: bool = True
    lambda_contrastive: float | int = 1

    def __post_init__(self, **kwargs):
        given = {"id2label": self.id2label, "label2id": self.label2id, "num_labels": kwargs.pop("num_labels", None)}
        if self.emotion_labels is not type(self).emotion_labels:
            given["emotion_labels"] = self.emotion_labels
        for name in ("modalities", "dimensions", "label_scale", *(f"{task}_labels" for task in CLASS_TASKS)):
            setattr(self, name, list(getattr(self, name)))  # JSON knows no tuples
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
        weights = {name: getattr(self, f"{name}_class_weights") for name in CLASS_TASKS}
        classes = [
            Task(
                name,
                tuple(getattr(self, f"{name}_labels")),
                class_weights=weights[name] and tuple(weights[name]),
                soft_labels=self.soft_labels and name == "emotion",
            )
            for name in CLASS_TASKS
        ]
        return classes + [Task(name, scale=tuple(self.label_scale)) for name in self.dimensions]

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks whose heads are trained: all, or none without the supervised term."""
        return self.tasks if self.lambda_supervised > 0 else []

    @property
    def combinations(self) -> dict[str, tuple[str, ...]]:
        """Every combination of the modalities by its name; the fullest last."""
        return combine(self.modalities)

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
        for task in CLASS_TASKS:
            weights, labels = getattr(self, f"{task}_class_weights"), getattr(self, f"{task}_labels")
            if len(labels) < 2 or len(set(labels)) != len(labels):
                raise ValueError(f"{task}_labels must name at least two different classes, not {labels}.")
            if weights is not None and len(weights) != len(labels):
                raise ValueError(f"{task}_class_weights has {len(weights)} values for the {len(labels)} {task}_labels.")
        if unknown := set(self.dimensions) - set(DIMENSIONS):
            raise ValueError(f"dimensions must be among {', '.join(DIMENSIONS)}; got {', '.join(sorted(unknown))}.")
        if len(self.label_scale) != 2 or self.label_scale[0] >= self.label_scale[1]:
            raise ValueError(f"label_scale must be [lowest, highest], not {self.label_scale}.")

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
