"""What all runs of a grid share: the corpus and the states of the frozen encoders, loaded once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..corpora import Corpus, number_of_folds
from ..corpora.digests import content_digests
from ..corpora.requirements import require_trainable
from ..features.cache import STATES, FeatureCache
from ..model.configuration_mmer import COMBINATIONS, MODALITIES, MMERConfig
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from ..training.arguments import CorpusArguments, RunArguments
from ..training.checking import load_checked
from ..training.preparation import corpus_overrides, fill_features, fill_text, new_processor
from ..training.settings import identity


@dataclass(frozen=True)
class Material:
    """The corpus with its encoder states, and the options of all runs.

    Args:
        arguments: options of the corpus.
        encoders: names of the audio and the text encoder.
        options: fields of the model's config.
        run: training options.
        folder: output folder of the runs.
        preset: that the options started from.
    """

    arguments: CorpusArguments
    encoders: tuple[str, str]
    options: Mapping[str, Any]
    run: RunArguments
    folder: Path
    preset: str

    __hash__ = object.__hash__  # by identity, as the caches below require

    def folds(self) -> list[int | None]:
        """The folds of a corpus with cross-validation; [None] for other corpora."""
        folds = number_of_folds(self.arguments.corpus, self.arguments.speaker_folds)
        if folds is None:
            return [None]
        return list(range(1, folds + 1)) if self.arguments.fold in (None, "all") else [int(self.arguments.fold)]

    @cache  # noqa: B019 (there is one instance per process)
    def corpus(self, fold: int | None) -> Corpus:
        """Load the corpus. Raises a ValueError if it has faults or lacks a train, validation or test split."""
        arguments = replace(self.arguments, fold=None if fold is None else str(fold))
        labels = self.options["emotion_labels"]
        require = partial(require_trainable, emotion_labels=labels)
        corpus = load_checked(arguments, labels, self.folder, require=require)
        if "test" not in corpus.splits:
            raise ValueError(f"{corpus.name} has no test split, which the tables need.")
        corpus = fill_text(arguments, corpus, self.run)
        print(corpus.name, *corpus.caveats, *corpus.notices, sep="\n  ")
        return corpus

    @cache  # noqa: B019
    def content(self, fold: int | None) -> dict[str, str]:
        return content_digests(self.corpus(fold))

    @cached_property
    def identities(self) -> dict[str, str]:
        """Content identifiers of the two encoders."""
        return {
            f"{modality}_encoder": identity(encoder, self.options[f"{modality}_encoder_revision"])
            for modality, encoder in zip(MODALITIES, self.encoders, strict=True)
        }

    def fields(self, fold: int | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The config fields of a run."""
        fields = {**self.options, **overrides}
        return fields | corpus_overrides(self.corpus(fold), fields, self.run.class_weights)

    @cache  # noqa: B019
    def with_states(self, fold: int | None, audio_context: str) -> tuple[FeatureCache, MMERProcessor, Corpus]:
        """The cache, the processor, and the corpus with located rows, after encoding what the cache lacks."""
        fields = self.fields(fold, {"audio_context": audio_context})
        config = MMERConfig.from_audio_text_pretrained(*self.encoders, **fields)
        processor = new_processor(config)
        model = MMERForEmotionRecognition(config)
        features, corpus = fill_features(self.arguments, model, processor, self.corpus(fold), self.run)
        return features, processor, corpus


def rows_with(rows: Dataset, combination: str) -> Dataset:
    """The rows that have all modalities of a combination, without their other modalities."""
    needed = COMBINATIONS[combination]
    names = [rows[STATES[modality]] for modality in needed]
    rows = rows.select([i for i, row in enumerate(zip(*names, strict=True)) if None not in row])
    columns = [column for m in MODALITIES if m not in needed for column in (m, STATES[m])]
    for column in [*columns, *([] if "audio" in needed else ["duration"])]:
        feature = rows.features[column]
        rows = rows.remove_columns(column).add_column(column, [None] * len(rows), feature=feature)
    return rows
