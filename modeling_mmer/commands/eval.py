"""`mmer eval`: evaluate a checkpoint on a corpus, and write the predictions for each utterance."""

import json
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from pathlib import Path

from accelerate import PartialState
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoProcessor, set_seed
from transformers.hf_argparser import HfArg

from ..corpora import Corpus, on_scale
from ..corpora.requirements import require_judgeable
from ..evaluation.collapse import collapse_distances
from ..evaluation.figures import evaluate_split
from ..evaluation.predictions import write_predictions
from ..files import write_json
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..report.card import Provenance, write_card
from ..report.tables import write_report
from ..scoring.models import model_commit
from ..training.arguments import CorpusArguments, RunArguments
from ..training.checking import load_checked, note_cropped
from ..training.collator import MMERCollator, UtteranceError
from ..training.preparation import fill_features, fill_text
from ..training.trainer import MMERTrainer
from ..training.training_corpus import TrainingCorpus
from .allocator import keep_freed_memory
from .arguments import exit_on_bad_input, parse
from .naming import model_and_options, model_folder
from .results import build_results, print_results, print_sizes
from .training_rows import TrainingRows, handle_training_rows

PROG = "mmer eval"
USAGE = "MODEL --corpus NAME [--option value …]"
# The fields of `TrainingArguments` that an evaluation uses.
_EVALUATION_OPTIONS = (
    *("per_device_eval_batch_size", "seed", "use_cpu", "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32"),
    *("torch_compile", "torch_compile_backend", "torch_compile_mode", "eval_accumulation_steps"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    *("disable_tqdm", "log_level", "report_to", "accelerator_config", "ddp_backend", "ddp_timeout"),
)


@dataclass
class _Evaluation:
    output_dir: str = HfArg(default="runs/eval", help="Folder for results, predictions and report.")
    split: str = HfArg(default="test", help="Split to evaluate.")
    training_rows: TrainingRows = HfArg(
        default="stop",
        help="Rows that were used for training or model selection. stop: an error if they are 10 %% or more of "
        "the split, otherwise a caveat. skip: leave them out. keep: evaluate them too.",
    )

    def for_trainer(self) -> RunArguments:
        """These options as the arguments of a [`Trainer`] that does not train."""
        options = {name: getattr(self, name) for name in _EVALUATION_OPTIONS}
        return RunArguments(
            self.output_dir, eval_strategy="no", save_strategy="no", load_best_model_at_end=False, **options
        )


EvaluationArguments = make_dataclass(
    "EvaluationArguments",
    [
        (f.name, f.type, field(default=f.default, default_factory=f.default_factory, metadata=f.metadata))
        for f in fields(RunArguments)
        if f.name in _EVALUATION_OPTIONS
    ],
    bases=(_Evaluation,),
)
EvaluationArguments._argument_group_name = "the evaluation"
EvaluationArguments.__doc__ = "Options of `mmer eval`."


def main(argv: list[str]) -> None:
    keep_freed_memory()
    name, options = model_and_options(argv, PROG, USAGE)
    corpus_arguments, evaluation = parse((CorpusArguments, EvaluationArguments), options, PROG, USAGE)
    split = evaluation.split
    with exit_on_bad_input(PROG, (ValueError, ImportError, OSError, StrictDataclassError)):
        run = evaluation.for_trainer()
        set_seed(run.seed)
        with_encoders = corpus_arguments.feature_cache is None
        commit = model_commit(name)
        model = MMERForEmotionRecognition.from_pretrained(name, revision=commit, with_encoders=with_encoders)
        processor = AutoProcessor.from_pretrained(name, revision=commit)
        config = model.config
        if not config.trained_tasks:
            raise ValueError(f"{name} was trained without labels and predicts nothing yet: fine-tune it with --model.")
        training = TrainingCorpus.load(name, commit)
        readings = () if training is None else training.readings
        require = partial(require_judgeable, split=split, emotion_labels=config.emotion_labels)
        corpus = load_checked(corpus_arguments, config.emotion_labels, run.output_dir, split, readings, require)
        corpus = handle_training_rows(corpus, split, training, name, evaluation.training_rows)
        require(corpus)
        if PartialState().is_main_process:
            print_sizes(corpus, corpus.notices)
        corpus = note_cropped(on_scale(corpus, tuple(config.label_scale)), processor)
        corpus = fill_text(corpus_arguments, corpus, run)
        features, corpus = fill_features(corpus_arguments, model, processor, corpus, run)
    trainer = MMERTrainer(model, run, data_collator=MMERCollator(processor, config.tasks, features, config.modalities))
    with exit_on_bad_input(PROG, (UtteranceError,)):
        evaluate(trainer, corpus, split, name, load_log_history(model_folder(name, commit)))


def load_log_history(folder: Path) -> list[dict[str, float]]:
    """The training log in a model's folder; empty if there is none."""
    state = folder / "trainer_state.json"
    return json.loads(state.read_text(encoding="utf-8"))["log_history"] if state.is_file() else []


def evaluate(trainer: MMERTrainer, corpus: Corpus, split: str, model: str, log_history: list[dict[str, float]]) -> None:
    """Evaluate one split and write `results.json`, `predictions.parquet`, the report and the model card."""
    folder, rows = Path(trainer.args.output_dir), corpus.splits[split]
    figures, predictions = evaluate_split(trainer, rows)
    figures["collapse"] = collapse_distances(trainer, rows, trainer.args.seed)
    if not trainer.is_world_process_zero():
        return
    results = build_results(trainer, corpus, model, {split: figures})
    write_json(folder / "results.json", results)
    write_predictions(folder / "predictions.parquet", rows, predictions, trainer.model.config)
    write_report(folder / "report.md", results)
    facts = Provenance(corpus.license, corpus.language, corpus.notices, {}, log_history)
    write_card(folder, results, trainer.model.config, facts)
    print_results(results, folder)
