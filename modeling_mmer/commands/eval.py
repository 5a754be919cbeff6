"""`mmer eval`: judge any checkpoint on any corpus, with predictions per utterance."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoProcessor, set_seed

from ..collator import MMERCollator, UtteranceError
from ..corpora import Corpus, on_scale
from ..files import write_json
from ..modeling_mmer import MMERForEmotionRecognition
from ..report import Provenance, write_card, write_report
from ..trainer import MMERTrainer
from .allocator import keep_freed_memory
from .arguments import CorpusArguments, RunArguments, bad_input_ends, parse
from .checking import load_checked, note_cropped
from .collapse import collapse_distances
from .judging import fill_features, fill_text, judge_split, results_of, show
from .naming import model_and_options, model_commit, model_folder
from .predictions import write_predictions

PROG = "mmer eval"
USAGE = "MODEL --corpus NAME [--option value …]"


@dataclass
class EvaluationArguments(RunArguments):
    """`TrainingArguments` for an evaluation: batch size, device, workers, seed."""

    output_dir: str = field(default="runs/eval", metadata={"help": "Where results, predictions and report go."})
    split: str = field(default="test", metadata={"help": "The split to judge."})
    eval_strategy: str = field(default="no", metadata={"help": "Not used by an evaluation."})
    save_strategy: str = field(default="no", metadata={"help": "Not used by an evaluation."})
    load_best_model_at_end: bool = field(default=False, metadata={"help": "Not used by an evaluation."})


def main(argv: list[str]) -> None:
    keep_freed_memory()
    name, options = model_and_options(argv, PROG, USAGE)
    corpus_arguments, run = parse((CorpusArguments, EvaluationArguments), options, PROG, USAGE)
    set_seed(run.seed)
    with bad_input_ends(PROG):
        with_encoders = corpus_arguments.feature_cache is None
        commit = model_commit(name)
        model = MMERForEmotionRecognition.from_pretrained(name, revision=commit, with_encoders=with_encoders)
        processor = AutoProcessor.from_pretrained(name, revision=commit)
        config = model.config
        corpus = load_checked(corpus_arguments, config.emotion_labels, run.output_dir, run.split)
        corpus = note_cropped(on_scale(corpus, tuple(config.label_scale)), processor)
        corpus = fill_text(corpus_arguments, corpus, run)
        features, corpus = fill_features(corpus_arguments, model, processor, corpus, run)
    labels = (config.emotion_labels, config.sentiment_labels, config.dimensions)
    trainer = MMERTrainer(model, run, data_collator=MMERCollator(processor, *labels, features))
    with bad_input_ends(PROG, (UtteranceError,)):
        evaluate(trainer, corpus, run.split, name, log_history_of(model_folder(name, commit)))


def log_history_of(folder: Path) -> list[dict[str, float]]:
    """The training log in a model's folder, or nothing."""
    state = folder / "trainer_state.json"
    return json.loads(state.read_text(encoding="utf-8"))["log_history"] if state.is_file() else []


def evaluate(trainer: MMERTrainer, corpus: Corpus, split: str, model: str, log_history: list[dict[str, float]]) -> None:
    """Judge one split and write `results.json`, `predictions.parquet` and the report."""
    folder, rows = Path(trainer.args.output_dir), corpus.splits[split]
    figures, predictions = judge_split(trainer, rows)
    figures["collapse"] = collapse_distances(trainer, rows, trainer.args.seed)
    if not trainer.is_world_process_zero():
        return
    results = results_of(trainer, corpus, model, {split: figures})
    write_json(folder / "results.json", results)
    write_predictions(folder / "predictions.parquet", rows, predictions, trainer.model.config)
    write_report(folder / "report.md", results)
    facts = Provenance(corpus.license, corpus.language, corpus.notices, {}, log_history)
    write_card(folder, results, trainer.model.config, facts)
    print(*corpus.notices, sep="\n")
    show(results, folder)
