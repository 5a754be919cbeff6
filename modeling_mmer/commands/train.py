"""`mmer train`: train a model on two frozen encoders, and write the checkpoint, `results.json` and a report."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import set_seed

from ..corpora import Corpus
from ..corpora.digests import content_digests
from ..corpora.requirements import is_labelled, require_splits, require_trainable
from ..evaluation.figures import evaluate_split
from ..files import write_json
from ..model.configuration_mmer import MMERConfig
from ..model.hub_names import commit_of
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from ..model.tasks import CLASS_TASKS
from ..precision import decide_dtype
from ..report.card import Provenance, write_card
from ..report.plots import CurvesCallback
from ..report.tables import write_report
from ..scoring.models import model_commit
from ..training.arguments import CorpusArguments, RunArguments
from ..training.balance import CAVEAT, fit_balance
from ..training.checking import load_checked, note_cropped
from ..training.collator import UtteranceError
from ..training.fingerprint import Fingerprint, require_same_run
from ..training.preparation import build_trainer, corpus_overrides, fill_features, fill_text, new_processor
from ..training.resumable_trainer import DivergedError
from ..training.resuming import WriteError, is_whole, last_checkpoint, write_errors_named
from ..training.settings import identity, run_settings
from ..training.trainer import MMERTrainer
from ..training.training_corpus import SaveTrainingCorpus, TrainingCorpus
from .allocator import keep_freed_memory
from .arguments import ModelArguments, StartArguments, exit_on_bad_input, expand_recipe, explicit_options, parse
from .folds import folds_to_train, train_folds
from .naming import encoder_commits
from .results import build_results, print_results, print_sizes

PROG = "mmer train"
WITHOUT_LABELS = "lambda_supervised is 0: labels are not used, and nothing is predicted until --model fine-tunes it"
ARGUMENTS = (CorpusArguments, StartArguments, ModelArguments, RunArguments)


def main(argv: list[str], skip_finished: bool = False) -> None:
    """Train, evaluate and write the report. With `skip_finished`, a finished run is left as it is."""
    argv = expand_recipe(argv, PROG)
    corpus_arguments, start, model_arguments, run = arguments = parse(ARGUMENTS, argv, PROG)
    if (n_folds := folds_to_train(corpus_arguments)) is not None:
        return train_folds(main, argv, n_folds, run)
    keep_freed_memory()
    with exit_on_bad_input(PROG):
        checkpoint = checkpoint_to_resume(run)
        trainer, corpus = prepare(argv, *arguments, checkpoint=checkpoint)
    if skip_finished and is_whole(run.output_dir) and Path(run.output_dir, "results.json").is_file():
        return
    print_summary(trainer, corpus)
    with exit_on_bad_input(PROG, (DivergedError, UtteranceError, WriteError)), write_errors_named(run.output_dir):
        trainer.train(resume_from_checkpoint=checkpoint)
        finish(trainer, corpus)


def prepare(
    argv: list[str],
    corpus_arguments: CorpusArguments,
    start: StartArguments,
    model_arguments: ModelArguments,
    run: RunArguments,
    checkpoint: str | None = None,
) -> tuple[MMERTrainer, Corpus]:
    """Load and check everything that training needs. Returns the trainer and its corpus.

    Args:
        argv: the command line that the other arguments were parsed from.
        checkpoint: the checkpoint to resume from.

    Raises:
        ValueError: the corpus has faults; or options do not fit the corpus, the encoders or the initial checkpoint; or
            the output folder or the checkpoint to resume from belongs to another run.
        OSError: an encoder, a checkpoint or a recording does not exist.
    """
    overrides, commit = vars(model_arguments), None
    if start.model is None:
        overrides |= encoder_commits((start.audio_encoder, start.text_encoder), overrides)
    else:
        commit = model_commit(start.model)
        overrides = fine_tuning_overrides(
            start, explicit_options(argv, start), explicit_options(argv, model_arguments), commit
        )
    labels = overrides["emotion_labels"]
    require = partial(require_trainable, emotion_labels=labels)
    without_labels = overrides.get("lambda_supervised") == 0
    if without_labels:
        require = require_splits
        select_by_loss(run, explicit_options(argv, run))
    corpus = load_checked(corpus_arguments, labels, run.output_dir, require=require)
    if without_labels:
        corpus = replace(corpus, caveats=[*corpus.caveats, WITHOUT_LABELS])
    corpus = fill_text(corpus_arguments, corpus, run)
    set_seed(run.seed)  # here, so that loading a speech recogniser does not change the initialisation
    overrides |= corpus_overrides(corpus, overrides, run.class_weights)
    if corpus_arguments.cache_layers is not None:
        overrides |= dict.fromkeys(("audio_layers", "text_layers"), corpus_arguments.cache_layers)
    with_encoders = start.self_contained or corpus_arguments.feature_cache is None
    if start.model is None:
        model, processor = new_model(start, overrides, with_encoders)
    else:
        model, processor = trained_model(start, overrides, with_encoders, commit)
    start_from = identities(start, commit, model.config)
    if start.self_contained:
        model.make_self_contained()
    set_precision(model, start, run)
    of_config = chosen_fields(model.config, model_arguments)
    start_from["dtype"] = start.dtype
    settings = run_settings(corpus, corpus_arguments, run, of_config, content_digests(corpus), **start_from)
    require_same_run(run.output_dir, settings, checkpoint)
    corpus = note_cropped(corpus, processor)
    features, corpus = fill_features(corpus_arguments, model, processor, corpus, run)
    earlier = None if start.model is None else TrainingCorpus.load(start.model, commit)
    saved = SaveTrainingCorpus(TrainingCorpus.of(corpus, earlier))
    callbacks = [CurvesCallback(), Fingerprint(settings), saved]
    how = {"callbacks": callbacks, "processing_class": processor}
    return build_trainer(model, run, corpus.splits, processor, features, **how), corpus


def set_precision(model: MMERForEmotionRecognition, start: StartArguments, run: RunArguments) -> None:
    """Let the encoders run in `--dtype`, of which `auto` is replaced by what it means here, and said.

    Raises:
        ValueError: the encoders would be saved, or spread over processes, in another precision than all else.
    """
    given, (chosen, sentence) = start.dtype, decide_dtype(start.dtype, run.device)
    spread = any(map(parse_flag_from_env, ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")))
    reasons = {
        "this run saves its encoders, which would be rounded": model.config.audio_encoder_name_or_path is None,
        "FSDP and DeepSpeed need one precision for all weights": spread or bool(run.fsdp or run.deepspeed),
    }
    if chosen != "float32" and (reason := next((reason for reason, holds in reasons.items() if holds), None)):
        if given != "auto":
            raise ValueError(f"--dtype {given} cannot be used, because {reason}: leave it out.")
        chosen, sentence = "float32", f"The encoders run in float32: {reason}."
    if given == "auto" and run.process_index == 0:
        print(sentence)
    start.dtype = chosen
    if chosen != "float32":
        model.cast_encoders(getattr(torch, chosen))


def select_by_loss(run: RunArguments, given: dict[str, Any]) -> None:
    """Select the best checkpoint by the loss, unless the user says otherwise: without labels there is no score."""
    if "metric_for_best_model" not in given:
        run.metric_for_best_model, run.greater_is_better = "loss", False


def identities(start: StartArguments, commit: str | None, config: MMERConfig) -> dict[str, Any]:
    """Content identifiers of what a run starts from. A self-contained checkpoint includes its encoders."""
    named = {
        "audio_encoder": (config.audio_encoder_name_or_path, config.audio_encoder_revision),
        "text_encoder": (config.text_encoder_name_or_path, config.text_encoder_revision),
        "model": (start.model, commit),
    }
    found = {
        what: None if name is None else identity(name, of_name or commit_of(name))
        for what, (name, of_name) in named.items()
    }
    return found | {"self_contained": start.self_contained}


def new_model(
    start: StartArguments, overrides: dict[str, Any], with_encoders: bool = True
) -> tuple[MMERForEmotionRecognition, MMERProcessor]:
    """A new model on two encoders and its processor. Without `with_encoders`, the encoders are not loaded."""
    config = MMERConfig.from_audio_text_pretrained(start.audio_encoder, start.text_encoder, **overrides)
    model = MMERForEmotionRecognition(config)
    if with_encoders:
        model.load_encoders()
    return model, new_processor(config)


def fine_tuning_overrides(
    start: StartArguments, start_given: dict[str, Any], model_given: dict[str, Any], commit: str | None = None
) -> dict[str, Any]:
    """The fields that override the checkpoint's config: the options that were set, and the labels.

    Raises:
        ValueError: an encoder is set too. The checkpoint has its own.
    """
    if encoders := start_given.keys() & {"audio_encoder", "text_encoder"}:
        raise ValueError(f"--model has its own encoders: leave out --{' and --'.join(sorted(encoders))}.")
    config = MMERConfig.from_pretrained(start.model, revision=commit)
    fields = {f"{task}_labels": getattr(config, f"{task}_labels") for task in CLASS_TASKS}
    if config.lambda_supervised == 0:  # it was trained without labels to be fine-tuned with them
        fields["lambda_supervised"] = 1.0
    return fields | model_given


def trained_model(
    start: StartArguments, overrides: dict[str, Any], with_encoders: bool = True, commit: str | None = None
) -> tuple[MMERForEmotionRecognition, MMERProcessor]:
    """The checkpoint to fine-tune, in float32, and its processor. Heads for other labels are newly initialised.

    Raises:
        ValueError: an option changes the shapes of the weights, or enables a loss whose parameters the checkpoint was
            exported without.
    """
    how = {"ignore_mismatched_sizes": True, "output_loading_info": True, "with_encoders": with_encoders}
    how |= {"revision": commit, "dtype": torch.float32}
    model, info = MMERForEmotionRecognition.from_pretrained(start.model, **how, **overrides)
    others = {key[0] for key in info["mismatched_keys"] if not key[0].startswith(("heads.", "state_heads."))}
    if misshapen := sorted(others):
        raise ValueError(
            f"The options change the shapes of weights of {start.model} ({', '.join(misshapen)}): leave out "
            "options that change the size of the model."
        )
    for part, weight in (("decoders", "lambda_mae"), ("contrastive_head", "lambda_contrastive")):
        if getattr(model, part) is None and getattr(model.config, weight) > 0:
            raise ValueError(f"{start.model} was exported without its {part}: add --{weight} 0 to fine-tune it.")
    return model, MMERProcessor.from_pretrained(start.model, revision=commit)


def print_summary(trainer: MMERTrainer, corpus: Corpus) -> None:
    """Print the number of rows of each split, caveats and notices, and the number of trained parameters."""
    if not trainer.is_world_process_zero():
        return
    print_sizes(corpus, [*corpus.caveats, *corpus.notices])
    print(f"Training {trainer.trainable_parameters():,} parameters; the encoders are frozen.")


def checkpoint_to_resume(run: RunArguments) -> str | None:
    """The checkpoint of `--resume_from_checkpoint`: a folder, or `true` for the last complete one of the output folder.

    None, with a message, if there is none yet, so that a requeued job can use the same command each time.
    """
    checkpoint = run.resume_from_checkpoint
    if checkpoint is None or checkpoint.lower() == "false":
        return None
    if checkpoint.lower() != "true":
        if not is_whole(checkpoint):
            raise ValueError(f"{checkpoint} is not a checkpoint to resume from: it has no complete trainer_state.json.")
        return checkpoint
    last = last_checkpoint(run.output_dir)
    if last is None and run.process_index == 0:
        print(f"There is no checkpoint in {run.output_dir} yet: training starts from the beginning.")
    return last


def chosen_fields(config: MMERConfig, model_arguments: ModelArguments) -> dict[str, Any]:
    """The fields of a config that options or the corpus decide."""
    names = (*vars(model_arguments), "label_scale", *(f"{task}_class_weights" for task in CLASS_TASKS))
    return {name: getattr(config, name) for name in names}


def finish(trainer: MMERTrainer, corpus: Corpus) -> None:
    """Save model and processor, evaluate the labelled splits except train, and write results, report and card."""
    folder = Path(trainer.args.output_dir)
    if fit_balance(trainer, corpus.splits["validation"]):
        corpus = replace(corpus, caveats=[*corpus.caveats, CAVEAT])
    trainer.save_model()
    trainer.save_state()
    without_labels = trainer.model.config.lambda_supervised == 0
    evaluated = {
        split: rows
        for split, rows in corpus.splits.items()
        if split != "train" and (without_labels or is_labelled(rows))
    }
    figures = {split: evaluate_split(trainer, rows)[0] for split, rows in evaluated.items()}
    results = build_results(trainer, corpus, str(folder), figures)
    if trainer.is_world_process_zero():
        write_json(folder / "results.json", results)
        write_report(folder / "report.md", results)
        facts = Provenance(
            corpus.license, corpus.language, corpus.notices, card_options(trainer.args), trainer.state.log_history
        )
        write_card(folder, results, trainer.model.config, facts, trainer.args.hub_model_id)
        print_results(results, folder)
    if trainer.args.push_to_hub:
        trainer.push_to_hub()


def card_options(run: RunArguments) -> dict[str, Any]:
    """The training options that are listed in the model card."""
    names = ("learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "per_device_train_batch_size")
    if run.max_frames_per_batch is not None:
        names = (*names[:-1], "max_frames_per_batch")
    names += ("gradient_accumulation_steps", "world_size", "seed", "class_weights", "train_sampling_strategy")
    return {name: getattr(getattr(run, name), "value", getattr(run, name)) for name in names}
