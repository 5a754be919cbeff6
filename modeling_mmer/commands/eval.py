"""`mmer eval`: judge any checkpoint on any corpus, with predictions per utterance."""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoProcessor, set_seed

from ..collator import MMERCollator
from ..corpora import Corpus, on_scale
from ..files import write_json
from ..modeling_mmer import MMERForEmotionRecognition
from ..report import write_report
from ..trainer import MMERTrainer
from .arguments import CorpusArguments, RunArguments, bad_input_ends, load, parse
from .collapse import collapse_distances
from .judging import judge_split, show
from .predictions import write_predictions

PROG = "mmer eval"


@dataclass
class EvaluationArguments(RunArguments):
    """`TrainingArguments` for an evaluation: batch size, device, workers, seed."""

    output_dir: str = field(default="runs/eval", metadata={"help": "Where results, predictions and report go."})
    split: str = field(default="test", metadata={"help": "The split to judge."})
    eval_strategy: str = field(default="no", metadata={"help": "Not used by an evaluation."})
    save_strategy: str = field(default="no", metadata={"help": "Not used by an evaluation."})
    load_best_model_at_end: bool = field(default=False, metadata={"help": "Not used by an evaluation."})


def main(argv: list[str]) -> None:
    if not argv or argv[0].startswith("-"):
        argv = argv if argv and argv[0] in ("-h", "--help") else refuse_without_model()
        parse((CorpusArguments, EvaluationArguments), argv, PROG)
    name, *argv = argv
    corpus_arguments, run = parse((CorpusArguments, EvaluationArguments), argv, PROG)
    set_seed(run.seed)
    with bad_input_ends(PROG):
        model = MMERForEmotionRecognition.from_pretrained(name)
        processor = AutoProcessor.from_pretrained(name)
        corpus = on_scale(load(corpus_arguments, model.config.emotion_labels), tuple(model.config.label_scale))
        require_split(corpus, run.split)
    config = model.config
    collator = MMERCollator(processor, config.emotion_labels, config.sentiment_labels, config.dimensions)
    evaluate(MMERTrainer(model, run, data_collator=collator), corpus, run.split, name)


def refuse_without_model() -> list[str]:
    raise SystemExit(
        f"usage: {PROG} MODEL --corpus NAME [--option value …]\n{PROG}: name a model: a folder or a hub name."
    )


def require_split(corpus: Corpus, split: str) -> None:
    if split not in corpus.splits:
        raise ValueError(f"{corpus.name} has no split {split!r}: it has {', '.join(corpus.splits)}.")


def evaluate(trainer: MMERTrainer, corpus: Corpus, split: str, model: str) -> None:
    """Judge one split and write `results.json`, `predictions.parquet` and the report."""
    folder, rows = Path(trainer.args.output_dir), corpus.splits[split]
    figures, predictions, _ = judge_split(trainer, rows)
    figures["collapse"] = collapse_distances(trainer, rows, trainer.args.seed)
    if not trainer.is_world_process_zero():
        return
    results = {
        "model": model,
        "corpus": corpus.name,
        "seed": trainer.args.seed,
        "trainable_parameters": trainer.trainable_parameters(),
        "splits": {split: figures},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
    write_predictions(folder / "predictions.parquet", rows, predictions, trainer.model.config)
    write_report(folder / "report.md", results)
    print(*corpus.notices, sep="\n")
    show(results, folder)
