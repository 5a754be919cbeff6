"""`mmer train`: a corpus and two frozen encoders → a checkpoint that loads, `results.json` and a report."""

from collections import Counter
from pathlib import Path

from datasets import Dataset
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    EarlyStoppingCallback,
    PreTrainedConfig,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from ..collator import MMERCollator
from ..corpora import Corpus
from ..features import FeatureCache
from ..files import write_json
from ..modeling_mmer import MMERForEmotionRecognition
from ..processing_mmer import MMERProcessor
from ..report import write_report
from ..trainer import MMERTrainer
from .allocator import keep_freed_memory
from .arguments import (
    CorpusArguments,
    EncoderArguments,
    ModelArguments,
    RunArguments,
    bad_input_ends,
    load,
    parse,
)
from .judging import fill_features, judge_split, results_of, show

PROG = "mmer train"


def main(argv: list[str]) -> None:
    corpus_arguments, encoders, model_arguments, run = parse(
        (CorpusArguments, EncoderArguments, ModelArguments, RunArguments), argv, PROG
    )
    keep_freed_memory()
    set_seed(run.seed)
    with bad_input_ends(PROG):
        corpus = load(corpus_arguments, model_arguments.emotion_labels)
        require_splits(corpus)
        checkpoint = resumed_checkpoint(run)
        model = build_model(encoders, model_arguments, corpus, run.class_weights)
        processor = build_processor(encoders, model.config.text_config)
        features = fill_features(corpus_arguments.feature_cache, model, processor, corpus.splits.values(), run)
        trainer = build_trainer(model, processor, features, corpus, run)
    introduce(trainer, corpus)
    trainer.train(resume_from_checkpoint=checkpoint)
    finish(trainer, corpus)


def require_splits(corpus: Corpus) -> None:
    """Raise a ValueError unless there is a split to train on and one to select on."""
    if missing := [split for split in ("train", "validation") if split not in corpus.splits]:
        raise ValueError(
            f"{corpus.name} has no {' and no '.join(missing)} split (it has {', '.join(corpus.splits)}): give its rows "
            "a column `split` with train, validation and test."
        )


def build_processor(encoders: EncoderArguments, text_config: PreTrainedConfig) -> MMERProcessor:
    """The encoders' own feature extractor and tokenizer; texts are cut to what the text encoder has positions for."""
    tokenizer = AutoTokenizer.from_pretrained(encoders.text_encoder)
    positions = text_config.max_position_embeddings - 2  # RoBERTa-shaped encoders keep two for padding
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return MMERProcessor(AutoFeatureExtractor.from_pretrained(encoders.audio_encoder), tokenizer)


def build_model(
    encoders: EncoderArguments, chosen: ModelArguments, corpus: Corpus, class_weights: str
) -> MMERForEmotionRecognition:
    overrides = vars(chosen) | {"label_scale": list(corpus.label_scale)}
    if class_weights == "balanced":
        train = corpus.splits["train"]
        for task, labels in (("emotion", chosen.emotion_labels), ("sentiment", chosen.sentiment_labels)):
            overrides[f"{task}_class_weights"] = balanced_weights(train[task], labels)
    model = MMERForEmotionRecognition.from_audio_text_pretrained(
        encoders.audio_encoder, encoders.text_encoder, **overrides
    )
    return model.make_self_contained() if encoders.self_contained else model


def balanced_weights(labels: list[str | None], classes: list[str]) -> list[float]:
    """Weights n / (K · n_c), so that every class weighs the same; 0 for one without rows."""
    counts = Counter(label for label in labels if label in set(classes))
    total = sum(counts.values())
    return [total / (len(classes) * counts[c]) if counts[c] else 0.0 for c in classes]


def build_trainer(
    model: MMERForEmotionRecognition,
    processor: MMERProcessor,
    features: FeatureCache | None,
    corpus: Corpus,
    run: RunArguments,
) -> MMERTrainer:
    config = model.config
    callbacks = []
    if run.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(run.early_stopping_patience))
    return MMERTrainer(
        model,
        run,
        train_dataset=with_lengths(corpus.splits["train"], config.audio_stride),
        eval_dataset=corpus.splits["validation"],
        data_collator=MMERCollator(
            processor, config.emotion_labels, config.sentiment_labels, config.dimensions, features
        ),
        processing_class=processor,
        callbacks=callbacks,
    )


def with_lengths(split: Dataset, stride: int) -> Dataset:
    """Add `length`, roughly the tokens of a row in the shared sequence, which batches of like lengths are made by."""
    lengths = [
        round((seconds or 0.0) * 50 / stride) + len(text or "") // 4 + 1
        for seconds, text in zip(split["duration"], split["text"], strict=True)
    ]
    return split.add_column("length", lengths)


def introduce(trainer: MMERTrainer, corpus: Corpus) -> None:
    """Say what is about to be trained, and what of the corpus was left out."""
    if not trainer.is_world_process_zero():
        return
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in corpus.splits.items())
    print(f"{corpus.name}: {sizes}", *corpus.notices, sep="\n  ")
    total = sum(p.numel() for p in trainer.model.parameters())
    print(f"Training {trainer.trainable_parameters():,} of {total:,} parameters; the encoders are frozen.")


def resumed_checkpoint(run: RunArguments) -> str | None:
    """`--resume_from_checkpoint DIR`, or `true` for the last one under the output folder."""
    asked = run.resume_from_checkpoint
    if asked is None or asked.lower() == "false":
        return None
    if asked.lower() != "true":
        if not Path(asked, "trainer_state.json").is_file():
            raise ValueError(f"{asked} is no checkpoint to resume from: it has no trainer_state.json.")
        return asked
    last = get_last_checkpoint(run.output_dir) if Path(run.output_dir).is_dir() else None
    if last is None:
        raise ValueError(f"There is no checkpoint under {run.output_dir} to resume from.")
    return last


def finish(trainer: MMERTrainer, corpus: Corpus) -> None:
    """Save model and processor, judge validation and test, and write the results and the report."""
    folder = Path(trainer.args.output_dir)
    trainer.save_model()
    trainer.save_state()
    judged = [split for split in ("validation", "test") if split in corpus.splits]
    figures = {split: judge_split(trainer, corpus.splits[split])[0] for split in judged}
    results = results_of(trainer, corpus, str(folder), figures)
    if trainer.is_world_process_zero():
        write_json(folder / "results.json", results)
        write_report(folder / "report.md", results)
        show(results, folder)
