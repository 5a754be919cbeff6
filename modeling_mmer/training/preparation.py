"""Preparation of a run: the processor, transcripts, cached encoder states, the config fields that depend on the corpus,
and the trainer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoTokenizer, PreTrainedModel, TrainerCallback, TrainingArguments

from ..corpora import Corpus
from ..corpora.sharing import note_shared
from ..features.cache import FeatureCache
from ..features.extraction import extract
from ..features.transcription import transcribe
from ..model.configuration_mmer import MMERConfig
from ..model.encoders import TextStates, text_positions
from ..model.hub_names import loading_explained
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from ..model.tasks import CLASS_TASKS
from .arguments import CorpusArguments, RunArguments
from .batching import repeated, with_lengths
from .collator import MMERCollator
from .preemption import CheckpointOnTermination
from .resuming import EarlyStopping
from .trainer import MMERTrainer


def build_trainer(
    model: PreTrainedModel,
    run: RunArguments,
    splits: Mapping[str, Dataset],
    processor: MMERProcessor,
    features: FeatureCache | None,
    callbacks: Sequence[TrainerCallback] = (),
    trainer_class: type[MMERTrainer] = MMERTrainer,
    **options: Any,
) -> MMERTrainer:
    """A trainer that trains on the split `train` and selects on `validation`; `options` are the Trainer's own."""
    config = model.config
    callbacks = [CheckpointOnTermination(), *callbacks]
    if run.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(run.early_stopping_patience))
    return trainer_class(
        model,
        run,
        train_dataset=with_lengths(repeated(splits["train"], run.repeat_corpora), config.audio_stride, processor),
        eval_dataset=splits["validation"],
        data_collator=MMERCollator(processor, config.tasks, features, config.modalities),
        callbacks=callbacks,
        **options,
    )


def fill_text(arguments: CorpusArguments, corpus: Corpus, run: TrainingArguments) -> Corpus:
    """Transcribe the corpus if `--transcribe` is set, and add caveats about what its splits share."""
    model, which = arguments.transcribe, arguments.transcribe_rows
    if model is not None:
        how = {"batch_size": run.per_device_eval_batch_size, "show_progress": not run.disable_tqdm}
        corpus = transcribe(corpus, model, which or "missing", **how)
    elif which is not None:
        raise ValueError("--transcribe_rows needs a speech recogniser: name one with --transcribe.")
    return note_shared(corpus)


def fill_features(
    arguments: CorpusArguments,
    model: MMERForEmotionRecognition,
    processor: MMERProcessor,
    corpus: Corpus,
    run: TrainingArguments,
) -> tuple[FeatureCache | None, Corpus]:
    """Fill the cache with the encoder states of the corpus. Returns the cache and the corpus with located rows; without
    `--feature_cache`, None and the unchanged corpus."""
    if arguments.feature_cache is None:
        return None, corpus
    features = FeatureCache(arguments.feature_cache, model.base_model, processor, arguments.cache_dtype)
    located = {split: features.locate(rows, processor) for split, rows in corpus.splits.items()}
    how = {"num_workers": run.dataloader_num_workers, "show_progress": not run.disable_tqdm}
    extract(features, model, processor, located.values(), run.per_device_eval_batch_size, **how)
    return features, replace(corpus, splits=located)


def corpus_overrides(corpus: Corpus, chosen: dict[str, Any], class_weights: str) -> dict[str, Any]:
    """The config fields that depend on the corpus: its scale and, if "balanced", the class weights."""
    train, balanced = corpus.splits["train"], class_weights == "balanced"
    weights = {t: balanced_weights(train[t], chosen[f"{t}_labels"]) if balanced else None for t in CLASS_TASKS}
    return {"label_scale": list(corpus.label_scale)} | {f"{t}_class_weights": weights[t] for t in CLASS_TASKS}


def balanced_weights(labels: list[str | None], classes: list[str]) -> list[float]:
    """Class weights n / (K · n_c), which give all classes the same total weight; 0 for classes without rows."""
    counts = Counter(label for label in labels if label in set(classes))
    total = sum(counts.values())
    return [total / (len(classes) * counts[c]) if counts[c] else 0.0 for c in classes]


def new_processor(config: MMERConfig) -> MMERProcessor:
    """A processor from the feature extractor and tokenizer of the encoders, at the same commits. Texts are cut at the
    number of positions of the text encoder.

    Raises:
        OSError: an encoder has no feature extractor or tokenizer.
    """
    name, commit = config.text_encoder_name_or_path, config.text_encoder_revision
    with loading_explained(name, commit):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit)
        if tokenizer.get_vocab().keys() <= set(tokenizer.all_special_tokens):  # what transformers creates without files
            raise OSError("it has no vocabulary for its tokenizer")
    with torch.device("meta"):  # only to count the positions; no weights are allocated
        positions = text_positions(TextStates.build(config.text_config))
    tokenizer.model_max_length = min(
        tokenizer.model_max_length, positions or config.text_config.max_position_embeddings
    )
    name, commit = config.audio_encoder_name_or_path, config.audio_encoder_revision
    with loading_explained(name, commit):
        feature_extractor = AutoFeatureExtractor.from_pretrained(name, revision=commit)
    return MMERProcessor(feature_extractor, tokenizer)
